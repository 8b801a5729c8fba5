"""Serves the job's TCPStore, in a process of its own: torch stays out of the launcher.

    python store_server.py DESCRIPTOR PORT

DESCRIPTOR is a socket that listens already, so that ranks may connect before torch is imported. It
ends when its standard input does: with the launcher.
"""

import os
import sys


def main() -> None:
    """Serves until standard input ends."""
    from torch.distributed import TCPStore

    store = TCPStore(
        "127.0.0.1",
        int(sys.argv[2]),
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=int(sys.argv[1]),
    )
    while os.read(0, 4096):
        pass
    del store


if __name__ == "__main__":
    main()
