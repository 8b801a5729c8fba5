"""The ops for CUDA tensors, their kernels compiled for the CPU: torch_ext/cuda/emulated.cc."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import pathlib
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import torch
from taco import _loader
from taco.lightcc.cuda import _arguments
from taco.lightcc.cuda._launch import Launch
from taco.lightcc.cuda.ops import NAMES, Ops

from tests.torch_ext._ops import ops

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = "torch_ext/cuda/libtaco_cuda_emulated.so"

# What blocks share is static in the library: two threads must not run kernels at once.
_one_at_a_time = threading.Lock()


@functools.cache
def library() -> ctypes.CDLL:
    """The kernels, compiled for the CPU."""
    found = ctypes.CDLL(str(_loader._runfile(f"taco/{LIBRARY}") or ROOT / "bazel-bin" / LIBRARY))
    found.taco_emulate.argtypes = (ctypes.c_char_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_int)
    found.taco_emulate.restype = ctypes.c_bool
    found.taco_emulated_size.argtypes = (ctypes.c_char_p,)
    found.taco_emulated_size.restype = ctypes.c_uint64
    return found


class EmulatedLauncher:
    """Runs kernels at once, on tensors in the CPU's memory."""

    def __init__(self, order: int) -> None:
        self._order = order

    @contextlib.contextmanager
    def on(self, device: torch.device) -> Iterator[Launch]:
        assert device.type == "cpu"
        yield self._launch

    def _launch(self, kernel: str, blocks: int, argument: np.ndarray) -> None:
        assert blocks > 0, "CUDA has no empty grids"
        with _one_at_a_time:
            done = library().taco_emulate(
                kernel.encode(), blocks, argument.ctypes.data, self._order
            )
        assert done


@functools.cache
def emulated_ops(order: int) -> SimpleNamespace:
    """The ops under test, for CPU tensors; called through PyTorch's dispatcher.

    Args:
        order: of blocks and threads: 0 forwards, 1 backwards, 2 scrambled.
    """
    namespace = f"taco_emulated_{order}"
    definitions = torch.library.Library(namespace, "DEF")
    for name in NAMES:
        theirs = getattr(ops(), name).default
        definitions.define(str(theirs._schema).removeprefix("taco::"))
        definitions.impl(name, theirs, "Meta")
    Ops(EmulatedLauncher(order)).register(definitions, "CPU")
    made = getattr(torch.ops, namespace)
    return SimpleNamespace(
        **{name: getattr(made, name) for name in NAMES},
        device="cpu",
        keep=definitions,  # the ops live as long as it does
    )


def structure_sizes() -> dict[str, tuple[int, int]]:
    """By structure: bytes as the kernels have it, and as Python has."""
    ours = {
        "Run": _arguments.RUN_BYTES,
        "TopkStep": _arguments.TOPK_STEP.itemsize,
        "AccumulateStep": _arguments.ACCUMULATE_STEP.itemsize,
        "FuseStep": _arguments.FUSE_STEP.itemsize,
        "Mailbox": _arguments.MAILBOX_FIELDS * 8,
    }
    size_of = library().taco_emulated_size
    return {name: (size_of(name.encode()), size) for name, size in ours.items()}
