"""Horovod's exceptions; those that LightCC raises are its own."""

from taco.lightcc.engine.errors import HorovodInternalError, HostsUpdatedInterrupt

__all__ = ["HorovodInternalError", "HorovodVersionMismatchError", "HostsUpdatedInterrupt"]


class HorovodVersionMismatchError(ImportError):
    """Never raised: LightCC is not built for one version of a framework."""
