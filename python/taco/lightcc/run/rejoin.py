"""A worker's side of an elastic job: has the set of hosts changed, and which rank is mine now?

`elastic` has the contract. `taco.lightcc.torch.elastic` uses it so:

    client = Rejoin(os.environ, timeout)
    kind = client.updated()       # at each commit: None, or "added", "removed", "mixed"
    if not client.next():         # after hvd.shutdown(); os.environ has the new rank then
        sys.exit(0)               # this place is not needed any more
    hvd.init()
"""

import json
from collections.abc import MutableMapping

from taco.lightcc.run.client import connect

PREFIX = "taco/elastic"
NUMBERS = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE")
EXIT = b"exit"


class Rejoin:
    """One worker's connection to the launcher.

    Args:
        environ: has what the launcher said; `next` changes it.
        timeout: seconds to wait for the launcher, and for a new round.

    Raises:
        ValueError: this is no rank of an elastic job of `taco run`.
    """

    def __init__(self, environ: MutableMapping[str, str], timeout: float) -> None:
        missing = [name for name in _NEEDED if not environ.get(name)]
        if missing:
            raise ValueError(
                f"{missing[0]} is not set: elastic jobs are started by `taco run --min-np N`."
            )
        self._environ = environ
        address, port = environ["TACO_STORE_ADDR"], int(environ["TACO_STORE_PORT"])
        self._store = connect(address, port, PREFIX, timeout)

    @property
    def generation(self) -> int:
        """The round that this worker takes part in."""
        return int(self._environ["TACO_ELASTIC_GENERATION"])

    def updated(self) -> str | None:
        """How the set of hosts changed since this round began: None if it did not.

        Ranks may see it at different times: what rank 0 sees has to be made known to all.
        """
        key = f"update/{self.generation}"
        return self._store.get(key).decode() if self._store.check([key]) else None

    def failed(self) -> dict[str, str]:
        """Which places failed in this round, and why: `{"host:0": "was killed by SIGKILL"}`."""
        key = f"failed/{self.generation}"
        return json.loads(self._store.get(key)) if self._store.check([key]) else {}

    def next(self) -> bool:
        """Asks for a new round, waits for it, and writes this worker's place into the environment.

        Returns:
            Whether there is a place; otherwise the worker should exit with status 0.

        Raises:
            torch.distributed.DistError: no round began within the timeout.
        """
        place, ahead = self._environ["TACO_ELASTIC_SLOT"], self.generation + 1
        self._store.set(f"ready/{self.generation}/{place}", "1")
        answer = self._store.get(f"assign/{ahead}/{place}")
        if answer == EXIT:
            return False
        self._environ.update(json.loads(answer))
        return True


_NEEDED = (
    "TACO_STORE_ADDR",
    "TACO_STORE_PORT",
    "TACO_ELASTIC_GENERATION",
    "TACO_ELASTIC_SLOT",
)
