"""Training over NCCL, a GPU for each rank: what modes_test and ddp_test hold on the CPU.

`make test` runs this where PyTorch sees a GPU. By hand, after `make build`, with a PyTorch that is
built for CUDA, and CuPy:

    .venv/bin/python -m pytest tests/lightcc/torch/nccl_on_devices.py
"""

import pytest
import torch

from tests.lightcc.torch._training import TRAINING
from tests.lightcc.torch.modes_test import CONSERVES

pytestmark = pytest.mark.skipif(
    torch.cuda.device_count() < 2, reason="NCCL gives each rank a GPU of its own: two are needed"
)

_ON_GPU = """
torch.cuda.set_device(hvd.local_rank())
torch.set_default_device("cuda")
real_generator = torch.Generator
torch.Generator = lambda: real_generator("cuda")
"""


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "flat"),
        ({"LIGHT_TOPK_ALLREDUCE": "1"}, "flat+topk=0.01"),
        ({"LIGHT_TOPK_ALLREDUCE": "1", "LIGHT_TOPK_FP16": "1"}, "flat+topk=0.01+half"),
        ({"LIGHT_2D_ALLREDUCE": "1", "LIGHT_INTRA_SIZE": "2"}, "2d"),
        (
            {"LIGHT_2D_ALLREDUCE": "1", "LIGHT_INTRA_SIZE": "2", "LIGHT_TOPK_ALLREDUCE": "1"},
            "2d+topk=0.01",
        ),
    ],
)
def test_nothing_is_lost(ranks, environ, expected) -> None:
    size = min(4, torch.cuda.device_count())
    if expected.startswith("2d") and size < 4:
        pytest.skip("two groups of two need four GPUs")
    program = _ON_GPU + CONSERVES.replace("OPTIONS", "").replace("STEPS", "12")
    out = ranks(size, program, LIGHT_TOPK_THRESHOLD="64", LIGHT_TOPK_WARMUP="0", **environ).stdout
    assert f"'{expected}'" in out, out


def test_auto_measures_and_chooses(ranks) -> None:
    program = """
train(100)
assert rank or "0/cuda" in hvd.explain().links, hvd.explain().links
"""
    ranks(2, _ON_GPU + TRAINING + program, LIGHT_MODE="auto", LIGHT_TOPK_THRESHOLD="64")


def test_the_ddp_hook_loses_nothing(ranks) -> None:
    program = """
import socket
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from taco.lightcc import TopKState, topk_hook

port = None
if rank == 0:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
port = hvd.broadcast_object(port)
store = dist.TCPStore("127.0.0.1", port, size, rank == 0)
dist.init_process_group("nccl", store=store, rank=rank, world_size=size)
ddp = DistributedDataParallel(model, bucket_cap_mb=0.01)
state = TopKState(ratio=0.05, min_bytes=0, start_step=0, warmup_steps=0)
ddp.register_comm_hook(state, topk_hook)
applied = due = 0.0
twin = make()
for step in range(8):
    twin.load_state_dict(model.state_dict())
    twin.zero_grad(), ddp.zero_grad()
    loss_of(twin, data(step, rank)).backward()
    loss_of(ddp, data(step, rank)).backward()
    flat_grad = lambda of: torch.cat([p.grad.double().flatten() for p in of.parameters()])
    applied = applied + flat_grad(model) * size
    due = due + hvd.allreduce(flat_grad(twin), op=hvd.Sum)
    with torch.no_grad():
        for param in model.parameters():
            param -= 0.05 * param.grad
same_everywhere(model)
held = {id(param): entry.bucket.residual_of(param)
        for param, entry in state._held_back._in_order()}
left = torch.cat([held[id(param)].double().flatten() for param in model.parameters()])
missing = applied + hvd.allreduce(left, op=hvd.Sum) - due
assert float(missing.abs().max()) <= 1e-5 * float(due.abs().max()), missing.abs().max()
dist.destroy_process_group()
"""
    ranks(2, _ON_GPU + TRAINING + program)
