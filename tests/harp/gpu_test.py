"""NCCL itself over HARP, where there is a GPU: two ranks share it.

Each rank says that it is another host (NCCL_HOSTID): so NCCL takes both for GPUs of their own, and
has nothing but a network between them. By torch.distributed, whose NCCL is of net version 11 or 12.
"""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys

import pytest

PLUGIN = pathlib.Path("nccl_plugin/libnccl-net-harp.so").absolute()

RANK = """
import sys
import torch
import torch.distributed as dist

rank, port = int(sys.argv[1]), sys.argv[2]
dist.init_process_group(
    "nccl", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2,
    device_id=torch.device("cuda", 0),
)
for size in (1, 1000, 1 << 20, 5_000_001):
    for turn in range(5):
        mine = torch.arange(size, device="cuda", dtype=torch.float32) * (rank + 1) + turn
        dist.all_reduce(mine)
        theirs = torch.arange(size, device="cuda", dtype=torch.float32) * 3 + 2 * turn
        assert torch.equal(mine, theirs), size
    sent = torch.full((size,), rank + 1, device="cuda", dtype=torch.int32)
    both = [torch.empty_like(sent) for _ in range(2)]
    dist.all_gather(both, sent)
    assert all((each == index + 1).all() for index, each in enumerate(both)), size
    if rank == 0:
        dist.send(sent, 1)
    else:
        dist.recv(sent, 0)
        assert (sent == 1).all(), size
dist.barrier()
dist.destroy_process_group()
print("all is well")
"""


def has_gpu() -> bool:
    """Asked of a process of its own, as importing torch is long and CUDA does not like forks."""
    program = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    return run.returncode == 0


@pytest.fixture(name="gpu", scope="module")
def fixture_gpu():
    if not pathlib.Path("/dev/nvidiactl").exists() or not has_gpu():
        pytest.skip("there is no GPU here, or PyTorch cannot use it")


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@pytest.mark.parametrize(
    "variables",
    [{}, {"HARP_ENGINES": "1"}, {"HARP_FAULTS": "loss=0.01,corrupt=0.01"}, {"HARP_KEY": "8f" * 32}],
)
def test_two_ranks_of_nccl_on_one_gpu(gpu, variables):
    port = str(free_port())
    ranks = []
    for rank in range(2):
        environment = {
            **os.environ,
            "NCCL_NET_PLUGIN": str(PLUGIN),
            "NCCL_NET": "HARP",  # without it NCCL would go on with its own transport
            "NCCL_HOSTID": f"rank{rank}",
            "NCCL_SOCKET_IFNAME": "lo",
            "NCCL_DEBUG": "INFO",
            "HARP_IFACE": "=lo",
            **variables,
        }
        words = [sys.executable, "-c", RANK, str(rank), port]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        ranks.append(subprocess.Popen(words, env=environment, **pipes))
    try:
        said = [rank.communicate(timeout=240)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    for rank, words in zip(ranks, said, strict=True):
        assert rank.returncode == 0, words[-5000:]
        assert "all is well" in words
        assert "Using network HARP" in words
