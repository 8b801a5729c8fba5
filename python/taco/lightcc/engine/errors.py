"""What LightCC raises when a job, not a call, is in trouble."""


class HorovodInternalError(RuntimeError):
    """A collective failed: ranks disagreed about it, or one is gone.

    Elastic jobs catch it, restore the last commit, and go on with the ranks that are left.
    """


class HostsUpdatedInterrupt(RuntimeError):
    """The set of hosts of an elastic job changed; the worker should take part in a new round.

    Attributes:
        skip_sync: whether state needs no broadcast, because hosts were only removed.
    """

    def __init__(self, skip_sync: bool = False) -> None:
        super().__init__("the set of hosts changed")
        self.skip_sync = skip_sync


class DuplicateNameError(ValueError):
    """A collective was submitted under a name that is still in progress on this rank."""


class NotInitializedError(ValueError):
    """A call that needs `init()` came before it."""

    def __init__(self) -> None:
        super().__init__("Horovod has not been initialized; use hvd.init().")
