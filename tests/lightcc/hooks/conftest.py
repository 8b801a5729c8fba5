"""Runs a program on several ranks that know DDP alone: `hvd.init()` is never called."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import taco

PYTHON_ROOT = str(Path(taco.__file__).resolve().parents[1])
LIMIT_S = 120

_PROLOGUE = '''
import datetime, os, sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from taco.lightcc import TopKState, topk_hook

torch.set_num_threads(1)
rank, size = int(os.environ["TEST_RANK"]), int(os.environ["TEST_SIZE"])
limit = datetime.timedelta(seconds=float(os.environ.get("TEST_TIMEOUT", "60")))
dist.init_process_group(
    "gloo", store=dist.FileStore(os.environ["TEST_STORE"], size), rank=rank, world_size=size,
    timeout=limit,
)


class Net(torch.nn.Module):
    """Three layers; the middle one may be left out."""

    def __init__(self, width=40):
        super().__init__()
        self.first = torch.nn.Linear(width, width)
        self.middle = torch.nn.Linear(width, width)
        self.last = torch.nn.Linear(width, 3)

    def forward(self, x, middle=True):
        x = self.first(x).tanh()
        if middle:
            x = self.middle(x).tanh()
        return self.last(x)


def net(width=40, dtype=torch.float32):
    torch.manual_seed(1)
    return Net(width).to(dtype)


def data(step, width=40, dtype=torch.float32, of=None):
    """Another batch in every step on every rank."""
    maker = torch.Generator().manual_seed(1000 * step + (rank if of is None else of))
    return torch.randn(8, width, generator=maker).to(dtype)


def everywhere(tensor):
    """The tensor of every rank."""
    found = [torch.empty_like(tensor) for _ in range(size)]
    dist.all_gather(found, tensor)
    return found


def flat(tensors):
    return torch.cat([tensor.detach().double().reshape(-1) for tensor in tensors])


def held_back(state, model):
    """What this rank holds back, in the order of model.parameters()."""
    total = {}
    entries = [entry for entry in state._held_back._in_order()]
    for param, entry in entries:
        part = entry.residual if entry.bucket is None else entry.bucket.residual_of(param)
        total[id(param)] = torch.zeros(param.numel()) if part is None else part
    return flat([total.get(id(p), torch.zeros(p.numel())) for p in model.parameters()])


def summed(tensor):
    tensor = tensor.clone()
    dist.all_reduce(tensor)
    return tensor
'''

# When Python ends, torch itself aborts now and then ("terminate called without an active
# exception"): a thread of Gloo's still holds a tensor. So Python does not end.
_EPILOGUE = """
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture
def ranks(tmp_path: Path) -> Callable[..., list[subprocess.CompletedProcess[str]]]:
    """`ranks(size, program)` runs a program on ranks of a Gloo group, each a process.

    Raises AssertionError unless the ranks' exit codes are `expect`, a number or one a rank.
    """

    def run(
        size: int, program: str, expect: int | list[int] = 0, **environ: str
    ) -> list[subprocess.CompletedProcess[str]]:
        script = tmp_path / "program.py"
        script.write_text(_PROLOGUE + textwrap.dedent(program) + _EPILOGUE)
        strangers = ("HOROVOD_", "LIGHT_", "RANK", "WORLD_", "LOCAL_", "MASTER_", "SLURM", "OMPI_")
        env = {k: v for k, v in os.environ.items() if not k.startswith(strangers)}
        env["PYTHONPATH"] = os.pathsep.join([PYTHON_ROOT, env.get("PYTHONPATH", "")])
        env |= {"GLOO_SOCKET_IFNAME": "lo", "TEST_SIZE": str(size)}
        env["TEST_STORE"] = str(tmp_path / f"store{len(list(tmp_path.iterdir()))}")
        children = [
            subprocess.Popen(
                [sys.executable, script],
                env=env | environ | {"TEST_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(size)
        ]
        try:
            outputs = [child.communicate(timeout=LIMIT_S)[0] for child in children]
        finally:
            for child in children:
                if child.poll() is None:
                    child.kill()
                    child.wait()
        codes = [child.returncode for child in children]
        wanted = expect if isinstance(expect, list) else [expect] * size
        assert codes == wanted, f"exit codes {codes}\n" + "\n".join(outputs)
        return [
            subprocess.CompletedProcess(child.args, child.returncode, output)
            for child, output in zip(children, outputs, strict=True)
        ]

    return run
