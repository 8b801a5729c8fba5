"""Who runs the kernels: CuPy. Tests have another launcher, which runs them on the CPU."""

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch

from taco.lightcc.cuda._compile import compiled

THREADS = 256
"""Threads of a block: kThreads of torch_ext/cuda/device.cuh."""

Launch = Callable[[str, int, np.ndarray], None]
"""Starts a kernel: its name, the number of blocks, and its argument, of one element."""


class Launcher(Protocol):
    """Starts kernels on a device."""

    def on(self, device: torch.device) -> contextlib.AbstractContextManager[Launch]:
        """What starts kernels on the device's current stream, in the order of the calls."""


class CupyLauncher:
    """CuPy, with kernels that are compiled at the first launch. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._modules: dict[int, Any] = {}
        self._kernels: dict[tuple[int, str], Any] = {}

    @contextlib.contextmanager
    def on(self, device: torch.device) -> Iterator[Launch]:
        cupy = _cupy()
        stream = torch.cuda.current_stream(device)
        with cupy.cuda.Device(device.index), cupy.cuda.Stream.from_external(stream):

            def launch(kernel: str, blocks: int, argument: np.ndarray) -> None:
                found = self._kernels.get((device.index, kernel))
                if found is None:
                    found = self._get(device.index, kernel)
                found((blocks,), (THREADS,), (argument,))

            yield launch

    def _get(self, device: int, kernel: str) -> Any:
        with self._lock:
            if device not in self._modules:
                cupy = _cupy()
                self._modules[device] = cupy.RawModule(path=str(compiled(cupy, device)))
            found = self._modules[device].get_function(kernel)
            self._kernels[device, kernel] = found
            return found


def _cupy() -> Any:
    try:
        return importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise
        major = (torch.version.cuda or "13").split(".")[0]
        raise RuntimeError(
            "taco: the ops on CUDA tensors need CuPy, which is not installed here. Run `pip "
            f"install 'cupy-cuda{major}x>=14'`, or move the tensors with .cpu()."
        ) from None
