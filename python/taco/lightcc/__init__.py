"""Horovod's API for PyTorch over torch.distributed, with compression and measured choices.

`taco.lightcc.torch` is the API. What other frameworks take of LightCC is here: `Compression` for
the original Horovod, `topk_hook` and `TopKState` for DistributedDataParallel.
"""

TYPE_CHECKING = False  # importing typing would cost milliseconds
if TYPE_CHECKING:
    from typing import Any

    from taco.lightcc.hooks.ddp import topk_hook as topk_hook
    from taco.lightcc.hooks.state import TopKState as TopKState
    from taco.lightcc.torch.compression import Compression as Compression

# Found on first use by __getattr__: each imports torch.
_PLACES = {
    "Compression": "taco.lightcc.torch.compression",
    "TopKState": "taco.lightcc.hooks.state",
    "topk_hook": "taco.lightcc.hooks.ddp",
}

__all__ = ["Compression", "TopKState", "topk_hook"]


def __getattr__(name: str) -> "Any":
    if name in _PLACES:
        import importlib

        found = getattr(importlib.import_module(_PLACES[name]), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'taco.lightcc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
