"""The job's store from a rank's or the launcher's side, whatever the size of the job."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch.distributed as dist


def connect(host: str, port: int, prefix: str, timeout: float) -> dist.Store:
    """Opens the launcher's store as a client.

    Args:
        host: where it is, `TACO_STORE_ADDR` for a rank.
        port: its port, `TACO_STORE_PORT`.
        prefix: stands before all keys.
        timeout: seconds to wait for it, and for a key.

    Raises:
        torch.distributed.DistNetworkError: nobody answers.
    """
    import torch.distributed as dist

    limit = timedelta(seconds=timeout)
    store = dist.TCPStore(host, port, None, False, limit, wait_for_workers=False)
    return dist.PrefixStore(prefix, store)
