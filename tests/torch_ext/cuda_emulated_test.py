"""The CUDA kernels and their host code, on the CPU: same bits as the CPU's ops, same contracts."""

import contextlib
import datetime
import pathlib
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from taco.lightcc.cuda import _arguments, _launch
from taco.lightcc.cuda.ops import NAMES, Ops
from taco.lightcc.patterns import device_sparse

from tests.torch_ext import _cuda_cases, fuse_test, schema_test, topk_test
from tests.torch_ext._cuda_emulated import (
    EmulatedLauncher,
    emulated_ops,
    library,
    structure_sizes,
)
from tests.torch_ext._ops import fresh_state, gradient

# The tests of the CPU's ops are tests of these, too.
for module in (_cuda_cases, fuse_test, schema_test, topk_test):
    globals().update({name: v for name, v in vars(module).items() if name.startswith("test_")})


@pytest.fixture(autouse=True)
def in_their_place(monkeypatch):
    for module in (fuse_test, schema_test, topk_test):
        monkeypatch.setattr(module, "ops", lambda: emulated_ops(0))


@pytest.fixture
def others():
    return emulated_ops


def test_python_and_the_kernels_agree_on_structures():
    sizes = structure_sizes()
    assert all(kernels == python for kernels, python in sizes.values()), sizes
    assert 0 < library().taco_emulated_size(b"Control") <= _arguments.CONTROL_BYTES


@pytest.mark.parametrize("half", [False, True])
def test_the_balanced_exchange_is_made_of_them(half):
    """Its lists are padded as the kernels want them: none is summed by the slow way, or lost."""
    ops, store, n, k = emulated_ops(0), dist.HashStore(), 5000, 100
    grads = [gradient(n, seed=seed) for seed in (1, 2)]
    outs, rests = [torch.empty(n) for _ in grads], [torch.zeros(n) for _ in grads]

    def rank(mine):
        group = dist.ProcessGroupGloo(store, mine, 2, datetime.timedelta(seconds=30))
        half_type = torch.float16 if half else None
        indices, values, _ = ops.topk_compress(
            grads[mine], rests[mine], fresh_state(), k, values_dtype=half_type
        )
        device_sparse.balanced(group, indices, values, k, rests[mine], outs[mine], ops)

    threads = [threading.Thread(target=rank, args=(mine,)) for mine in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(*outs)
    assert 0 < int((outs[0] != 0).sum()) <= k
    torch.testing.assert_close(outs[0] + sum(rests), sum(grads))


def test_tensors_of_two_devices_are_an_error():
    arguments = (gradient(100), torch.zeros(100, device="meta"), fresh_state(), 10)
    with pytest.raises(RuntimeError, match="residual is on meta and the other tensors are on cpu"):
        Ops(EmulatedLauncher(0)).topk_compress(*arguments)


def test_without_cupy_the_error_names_the_remedy(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(_launch.importlib, "import_module", missing)
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    grad, residual = gradient(100), torch.zeros(100)
    with pytest.raises(RuntimeError, match="pip install 'cupy-cuda12x>=14'"):
        Ops(_launch.CupyLauncher()).topk_compress(grad, residual, fresh_state(), 10)
    assert not residual.any()


class FakeCupy:
    """Notes what it is given, and has no GPU."""

    def __init__(self):
        self.compiled, self.started = [], []
        self.cuda = SimpleNamespace(
            Device=lambda index: contextlib.nullcontext(SimpleNamespace(compute_capability="90")),
            Stream=SimpleNamespace(from_external=contextlib.nullcontext),
            nvrtc=SimpleNamespace(getVersion=lambda: (12, 9)),
            compiler=SimpleNamespace(compile_using_nvrtc=self.compile),
        )

    def compile(self, source, options):
        self.compiled.append((source, options))
        return b"machine code", None

    def RawModule(self, path):
        assert pathlib.Path(path).read_bytes() == b"machine code"
        return SimpleNamespace(
            get_function=lambda name: lambda *given: self.started.append((name, *given))
        )


def test_kernels_are_compiled_once_and_handed_to_cupy(monkeypatch, tmp_path):
    """As far as that can be seen without CuPy's cooperation."""
    fake = FakeCupy()
    monkeypatch.setattr(_launch, "_cupy", lambda: fake)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):  # as two processes
        Ops(_launch.CupyLauncher()).fuse([gradient(5000), gradient(1)], torch.zeros(5001))
    ((source, options),) = fake.compiled
    assert "topk_pass" in source and {"--fmad=false", "--ftz=false"} <= set(options)
    for name, blocks, threads, (argument,) in fake.started:
        assert (name, blocks, threads) == ("fuse_transfer", (3,), (256,))
        assert argument.size == 1 and argument["segments"]["count"].tolist()[:3] == [5000, 1, 0]
    assert len(fake.started) == 2


@pytest.mark.parametrize("cuda", [None, "13.0"])
def test_the_loader_registers_them_with_a_pytorch_that_has_cuda(cuda):
    program = f"""
import sys, torch
from taco import _loader
torch.version.cuda = {cuda!r}
_loader.load_torch_ops()
has = torch._C._dispatch_has_kernel_for_dispatch_key
print(*(has("taco::" + name, "CUDA") for name in {NAMES!r}), "cupy" in sys.modules)
print("taco.lightcc.cuda" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    there = cuda is not None
    assert done.stdout.split() == [str(there)] * len(NAMES) + ["False", str(there)]
