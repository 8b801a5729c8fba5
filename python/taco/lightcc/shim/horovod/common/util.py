"""The helpers of Horovod that programs and tests use."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any


@contextmanager
def env(**variables: str | None) -> Iterator[None]:
    """Sets environment variables for a while; those that are None stay as they are."""
    wanted = {name: text for name, text in variables.items() if text is not None}
    kept = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, text in kept.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text


def extension_available(name: str, verbose: bool = False) -> bool:
    """Whether a framework is served: PyTorch is, where it is installed."""
    return name == "torch" and find_spec("torch") is not None


def gloo_built(verbose: bool = False) -> bool:
    """Whether ranks can exchange data by Gloo."""
    return True


def mpi_built(verbose: bool = False) -> bool:
    """Whether ranks can exchange data by MPI."""
    return False


def nccl_built(verbose: bool = False) -> bool:
    """Whether ranks can exchange data by NCCL."""
    import taco.lightcc.torch

    return bool(taco.lightcc.torch.nccl_built())


def ddl_built(verbose: bool = False) -> bool:
    """Whether IBM's library is there."""
    return False


def ccl_built(verbose: bool = False) -> bool:
    """Whether Intel's library is there."""
    return False


def gpu_available(name: str, verbose: bool = False) -> bool:
    """Whether the framework sees a GPU."""
    import torch

    return name == "torch" and torch.cuda.is_available()


def num_rank_is_power_2(num_rank: int) -> bool:
    """Whether a number of ranks is a power of two."""
    return num_rank > 0 and num_rank.bit_count() == 1


def split_list(items: Sequence[Any], parts: int) -> list[Sequence[Any]]:
    """Cuts into parts whose sizes differ by one at most, the longer ones first."""
    size, longer = divmod(len(items), parts)
    bounds = [index * size + min(index, longer) for index in range(parts + 1)]
    return [items[begin:end] for begin, end in zip(bounds, bounds[1:], strict=False)]
