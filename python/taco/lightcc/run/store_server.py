"""Serves the job's TCPStore, in a process of its own: torch stays out of the launcher.

    python store_server.py DESCRIPTOR PORT

DESCRIPTOR is a socket that listens already, so that ranks may connect before torch is imported. It
ends when its standard input does: with the launcher.
"""

import os
import sys
import threading


def main() -> None:
    """Serves until standard input ends, whatever torch is doing then."""
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    from torch.distributed import TCPStore

    store = TCPStore(
        "127.0.0.1",
        int(sys.argv[2]),
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=int(sys.argv[1]),
    )
    threading.Event().wait()
    del store


def _end_with_standard_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
