"""What elastic programs import from here; it is that of `taco.lightcc.torch.elastic`."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    for module in ("taco.lightcc.torch.elastic", "taco.lightcc.torch.elastic.state"):
        found = getattr(importlib.import_module(module), name, None)
        if found is not None:
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
