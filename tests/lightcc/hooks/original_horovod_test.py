"""`Compression.topk` in the original Horovod, of which a likeness in pure Python stands in."""

import pytest

# Horovod as far as its DistributedOptimizer and a compressor deal with each other (0.28.1, by which
# names go): what is submitted runs when all ranks have submitted it, in whatever order they did.
_HOROVOD = '''
import types

SOURCE = """
import itertools
import torch
import torch.distributed as dist

Average, Sum, Adasum = 0, 1, 2
numbers, pending, results = itertools.count(), {}, {}
sent = []


def size():
    return dist.get_world_size()


def _submit(kind, name, tensor, op=None):
    assert (kind, name) not in pending, f"{name} is in progress"
    handle = next(numbers)
    pending[kind, name] = handle, tensor, op
    return handle


def allgather_async(tensor, name, process_set=None):
    sent.append((name, tensor.numel() * tensor.element_size()))
    return _submit("allgather", name, tensor)


def allreduce_async_(tensor, name, op):
    sent.append((name, tensor.numel() * tensor.element_size()))
    return _submit("allreduce", name, tensor, op)


def synchronize(handle):
    for kind, name in sorted(pending):
        number, tensor, op = pending.pop((kind, name))
        if kind == "allgather":
            lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(size())]
            dist.all_gather(lengths, torch.tensor([len(tensor)]))
            parts = [tensor.new_empty(int(length)) for length in lengths]
            dist.all_gather(parts, tensor)
            results[number] = torch.cat(parts)
        else:
            dist.all_reduce(tensor)
            results[number] = tensor.div_(size()) if op == Average else tensor
    return results.pop(handle)


def allreduce(tensor, name=None, compression=None, op=Average):
    compressed, ctx = compression.compress(tensor)
    return compression.decompress(synchronize(allreduce_async_(compressed, name, op)), ctx)
"""

OPTIMIZER = """
import torch
from horovod.torch import allreduce_async_, synchronize


class _DistributedOptimizer(torch.optim.SGD):
    def __init__(self, params, named_parameters, compression, op=0, sparse_as_dense=False):
        super().__init__(params, lr=0.05)
        self._compression = compression
        self._parameter_names = {v: k for k, v in sorted(named_parameters)}
        self.op = op
        self.sparse_as_dense = sparse_as_dense
        self._handles = {}

    def _allreduce_grad_async(self, p):
        name = self._parameter_names.get(p)
        tensor = p.grad
        if p.grad.is_sparse and self.sparse_as_dense:
            tensor = tensor.to_dense()
        tensor_compressed, ctx = self._compression.compress(tensor)
        return allreduce_async_(tensor_compressed, name=name, op=self.op), ctx

    def submit(self, params):
        for p in params:
            self._handles[p] = self._allreduce_grad_async(p)

    def submit_grouped(self, ps):
        compressed, ctxs = zip(*[self._compression.compress(p.grad) for p in ps])
        for p, tensor, ctx in zip(ps, compressed, ctxs):
            handle = allreduce_async_(tensor, name=self._parameter_names[p], op=self.op)
            self._handles[p] = handle, ctx

    def synchronize(self):
        for p, (handle, ctx) in self._handles.items():
            output = self._compression.decompress(synchronize(handle), ctx)
            p.grad = output if p.grad.is_sparse else p.grad.set_(output)
        self._handles.clear()
"""

def module(name, source):
    made = types.ModuleType(name)
    sys.modules[name] = made
    exec(source, made.__dict__)
    return made

module("horovod", "")
hvd = module("horovod.torch", SOURCE)
optimizers = module("horovod.torch.optimizer", OPTIMIZER)

from taco.lightcc import Compression

def held_by(compression, optimizer, model):
    known = compression._original_horovod._of[optimizer]
    parts = []
    for name, param in model.named_parameters():
        residual = known[name].state.residual if name in known else None
        parts.append(torch.zeros(param.numel()) if residual is None else residual)
    return flat(parts)
'''


@pytest.mark.parametrize("size", [2, 3])
def test_what_was_applied_and_what_is_held_back_are_all_there_was(ranks, size):
    """Two layers have one shape, gradients are new tensors in each step, and ranks differ in the
    order in which they submit them."""
    ranks(
        size,
        _HOROVOD
        + """
for options, op, grouped in (
    (dict(ratio=0.05, warmup_steps=0), hvd.Average, False),
    (dict(ratio=0.05, warmup_steps=0), hvd.Sum, True),
    (dict(ratio=0.01, fp16=True, warmup_steps=0), hvd.Average, True),
    (dict(ratio=0.013, fp16=True, warmup_steps=3), hvd.Sum, False),
):
    model = net()
    compression = Compression.topk(**options)
    optimizer = optimizers._DistributedOptimizer(
        model.parameters(), list(model.named_parameters()), compression, op
    )
    applied = due = 0.0
    for step in range(6):
        optimizer.zero_grad(set_to_none=True)
        model(data(step)).square().sum().backward()
        due = due + summed(flat([param.grad for param in model.parameters()]))
        params = list(model.parameters())
        hvd.sent.clear()
        submit = optimizer.submit_grouped if grouped else optimizer.submit
        submit(params[::-1] if rank == 1 else params)
        gathered = sum(length for name, length in hvd.sent if name.endswith(".topk"))
        if step == 5:
            assert gathered <= options["ratio"] * 8 * 3300, gathered
        optimizer.synchronize()
        applied = applied + flat([param.grad for param in model.parameters()]) * (
            size if op == hvd.Average else 1
        )
        optimizer.step()
        ours = flat(model.parameters())
        for other in everywhere(ours):
            assert torch.equal(other, ours)
    left = summed(held_by(compression, optimizer, model))
    assert float(left.abs().sum()) > 0
    assert float((applied + left - due).abs().max()) <= 1e-5 * float(due.abs().max())
    # Small ones travel as they are.
    assert set(compression._original_horovod._of[optimizer]) == {"first.weight", "middle.weight"}
""",
        LIGHT_TOPK_THRESHOLD="4000",
    )


def test_16_bit_strided_and_sparse_gradients(ranks):
    ranks(
        2,
        _HOROVOD
        + """
half = torch.nn.Parameter(torch.zeros(64, 32, dtype=torch.bfloat16))
strided = torch.nn.Parameter(torch.zeros(64, 32).t())
table = torch.nn.Embedding(100, 32, sparse=True)
named = [("half", half), ("strided", strided), ("table", table.weight)]
compression = Compression.topk(ratio=0.5)
optimizer = optimizers._DistributedOptimizer(
    [half, strided, table.weight], named, compression, sparse_as_dense=True
)
# Whole numbers, of which the larger half is the odd ones: the others are 1 for all ranks.
wanted = torch.arange(64 * 32) % 2 * 7 + 1.0
half.grad = wanted.view(64, 32).to(torch.bfloat16)
strided.grad = wanted.view(64, 32).t()
table(torch.tensor([3, 5])).sum().backward()
optimizer.submit([half, strided, table.weight])
optimizer.synchronize()
larger = (wanted > 1) * wanted
assert half.grad.dtype == torch.bfloat16 and torch.equal(half.grad.float(), larger.view(64, 32))
assert strided.grad.shape == (32, 64)
assert torch.equal(strided.grad, larger.view(64, 32).t())
assert int((table.weight.grad.to_dense() != 0).sum()) == 64
assert set(compression._original_horovod._of[optimizer]) == {"half", "strided"}
""",
        LIGHT_TOPK_THRESHOLD="1024",
    )


def test_what_it_is_not_for_is_refused(ranks):
    ranks(
        1,
        _HOROVOD
        + """
def refused(words, call, *args):
    try:
        call(*args)
    except ValueError as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"no error: {words}")

gradient = torch.ones(1 << 19)
topk = Compression.topk()
refused("DistributedOptimizer", topk.compress, gradient)
refused("DistributedOptimizer", lambda: hvd.allreduce(gradient, "g", topk))

param = torch.nn.Parameter(torch.zeros(1 << 19))
for words, options, op in (
    ("Adasum", {}, hvd.Adasum), ("momentum_correction", dict(momentum_correction=True), hvd.Average)
):
    param.grad = gradient.clone()
    optimizer = optimizers._DistributedOptimizer(
        [param], [("p", param)], Compression.topk(**options), op
    )
    refused(words, optimizer.submit, [param])

import taco.lightcc.torch as ours
ours.init()
refused("DistributedOptimizer", lambda: ours.allreduce(gradient, compression=topk))
ours.shutdown()
""",
    )
