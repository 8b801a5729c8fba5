"""`torch.ops.taco.*` on CUDA tensors: kernels that NVRTC compiles at run time, through CuPy.

The ops, their arguments and their results are those of docs/lightcc_ops.md. Nothing here runs
until an op meets a CUDA tensor; then CuPy is imported, and the kernels are compiled, which takes
some seconds the first time. Every op works on PyTorch's current stream and does not wait for it.
"""

import functools

import torch

from taco.lightcc.cuda._launch import CupyLauncher
from taco.lightcc.cuda.ops import Ops

__all__ = ["register", "synchronize"]


@functools.cache
def _ops() -> Ops:
    return Ops(CupyLauncher())


@functools.cache
def register() -> torch.library.Library:
    """Registers the ops for CUDA tensors, once a process; `load_torch_ops` does it.

    libtaco_torch.so has to be loaded: it defines the ops.
    """
    library = torch.library.Library("taco", "IMPL")
    _ops().register(library, "CUDA")
    return library


def synchronize(device: torch.device | str | int | None = None) -> None:
    """Waits for a device, and raises what the ops found there.

    Args:
        device: the device; the current one by default.

    Raises:
        RuntimeError: an index of a list was out of range (see docs/lightcc_ops.md).
    """
    torch.cuda.synchronize(device)
    _ops().raise_what_was_found()
