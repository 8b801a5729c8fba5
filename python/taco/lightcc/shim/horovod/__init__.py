"""Horovod's name for LightCC: programs with `import horovod.torch as hvd` run unchanged.

`horovod.torch` and all below it are the very modules of `taco.lightcc.torch`, under a second name:
a class imported under either is the same class. Of the rest of Horovod there is what PyTorch
programs use: `horovod.run`, `horovod.common.exceptions`, `.util`, `.process_sets`, `.elastic`.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__version__ = "0.28.1"  # the Horovod whose API this is

_SECOND_NAMES = {
    "horovod.torch": "taco.lightcc.torch",
    "horovod.common.process_sets": "taco.lightcc.torch.process_sets",
}


class _SecondName(Loader):
    """Gives a module that is there already, as it is."""

    def __init__(self, first: str) -> None:
        self._first = first

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._first)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has put the second name's there


class _SecondNames(MetaPathFinder):
    """Finds modules by their second names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for second, first in _SECOND_NAMES.items():
            if name == second or name.startswith(f"{second}."):
                first += name.removeprefix(second)
                if not _exists(first):
                    raise ModuleNotFoundError(
                        f"No module named {name!r}: LightCC has no {first}", name=name
                    )
                return ModuleSpec(name, _SecondName(first))
        return None


def _exists(name: str) -> bool:
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def run(*args: Any, **kwargs: Any) -> list[Any]:
    """`taco.lightcc.run.function.run`: calls a function in several ranks, and gives the results."""
    from taco.lightcc.run.function import run as call

    return call(*args, **kwargs)


sys.meta_path.insert(0, _SecondNames())
