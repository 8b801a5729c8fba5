"""`HorovodBasics`: rank, size and the like, as methods."""

from typing import Any


class HorovodBasics:
    """Forwards everything to `taco.lightcc.torch`.

    Args:
        arguments: the name of Horovod's library; not used.
    """

    def __init__(self, *arguments: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        import taco.lightcc.torch

        return getattr(taco.lightcc.torch, name)
