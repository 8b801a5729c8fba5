"""What the real ranks of gloo_test.py do, each in a process of its own."""

import os
import threading

import torch
from taco.lightcc.patterns import (
    hierarchical,
    machine,
    ring,
    sparse,
    sparse_balanced,
    sparse_hierarchical,
    tree,
)
from taco.lightcc.patterns.plan import contiguous
from taco.lightcc.patterns.transport import Transport

from tests.lightcc.patterns._worlds import dense, lists, reference, whole_numbers

LENGTH = 70_001
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int64)


def all_patterns(transport: Transport) -> None:
    """Every pattern, against the reference."""
    groups = contiguous(transport.size, 2)
    cut = hierarchical.HierarchicalOptions(chunk_bytes=50_000)
    dense_patterns = {
        "ring": lambda x: ring.all_reduce(transport, x, options=ring.RingOptions(10_000)),
        "tree": lambda x: tree.all_reduce(transport, x),
        "2d": lambda x: hierarchical.all_reduce(transport, x, [groups], options=cut),
    }
    for dtype in (torch.float32, torch.bfloat16):
        inputs = whole_numbers(transport.size, LENGTH, dtype)
        for name, pattern in dense_patterns.items():
            for _ in range(3):
                tensor = inputs[transport.rank].clone()
                pattern(tensor)
                assert torch.equal(tensor.double(), reference(inputs)), name
    parts = lists(transport.size, LENGTH, 500)
    total, out = sum(map(dense, parts)), torch.empty(LENGTH)
    sparse.all_reduce(transport, parts[transport.rank], out)
    assert torch.equal(out.double(), total)
    sparse_balanced.all_reduce(transport, parts[transport.rank], 500 * transport.size, out)
    assert torch.equal(out.double(), total)
    tensor = inputs[transport.rank].float()
    options = sparse_hierarchical.SparseOptions(chunk_bytes=100_000)
    sparse_hierarchical.all_reduce(transport, tensor, groups, everything, options)
    assert torch.equal(tensor.double(), reference(inputs))
    tree.barrier(transport)


def everything(shard: torch.Tensor, low: int) -> sparse.SparseList:
    """A compress that leaves nothing out."""
    return sparse.SparseList(torch.arange(len(shard)).int(), shard.clone(), len(shard))


def point_to_point(transport: Transport) -> None:
    """What docs/lightcc_patterns.md says of Gloo's sends and receives, between two ranks."""
    peer = 1 - transport.rank
    for dtype in DTYPES:
        for length in (0, 5):
            tensor, arrived = torch.ones(length).to(dtype), torch.zeros(length).to(dtype)
            works = [transport.send(tensor, peer), transport.recv(arrived, peer)]
            for work in works:
                work.wait()
            assert torch.equal(tensor, arrived)
    tensors = [torch.full((3,), float(tag)) for tag in range(8)]
    sends = [transport.send(tensor, peer, tag) for tag, tensor in enumerate(tensors)]
    for tag in reversed(range(8)):
        arrived = torch.zeros(3)
        transport.recv(arrived, peer, tag).wait()
        assert torch.equal(arrived, tensors[tag])
    for work in sends:
        work.wait()
    try:
        transport.send(torch.zeros(4, 2)[:, 0], peer)
    except RuntimeError as error:
        assert "contiguous" in str(error)
    else:
        raise AssertionError("a strided tensor was sent")
    errors: list[BaseException] = []

    def talk(tag: int) -> None:
        try:
            for number in range(50):
                tensor, arrived = torch.full((999,), 1.0 * number + tag), torch.zeros(999)
                work = transport.send(tensor, peer, tag)
                transport.recv(arrived, peer, tag).wait()
                work.wait()
                assert torch.equal(tensor, arrived)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=talk, args=(tag,)) for tag in range(10, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    tree.barrier(transport)


def one_dies(transport: Transport) -> None:
    """Rank 1 dies between two allreduces; the others have to get an error."""
    groups = contiguous(transport.size, 2)
    hierarchical.all_reduce(transport, torch.ones(LENGTH), [groups])
    if transport.rank == 1:
        os._exit(3)
    try:
        hierarchical.all_reduce(
            transport,
            torch.ones(LENGTH),
            [groups],
            options=hierarchical.HierarchicalOptions(chunk_bytes=50_000),
        )
    except RuntimeError:
        os._exit(4)  # a group with a dead member is not worth closing
    raise AssertionError("the sum of a dead rank arrived")


def wrong_length(transport: Transport) -> None:
    """Between ranks that read each other's memory; Gloo would end the process."""
    tensor = torch.zeros(5 - transport.rank)
    work = transport.recv(tensor, 0) if transport.rank else transport.send(tensor, 1)
    try:
        work.wait()
    except RuntimeError as error:
        assert "20 bytes" in str(error), error
        return
    raise AssertionError("the lengths differ")


def one_leaves(transport: Transport) -> None:
    """Both ranks wait for each other; one of them closes the connection meanwhile."""
    peer = 1 - transport.rank
    work = transport.recv(torch.zeros(5), peer)
    assert isinstance(transport, machine.MachineTransport)
    if transport.rank == 0:
        threading.Timer(0.3, transport.close).start()
    try:
        work.wait()
    except RuntimeError as error:
        assert "closed" in str(error), error
        return
    raise AssertionError("nothing was sent")
