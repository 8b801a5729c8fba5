"""Names of temporary files and folders that say which process made them.

A process that is killed leaves its own behind; the next save into the same folder removes them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import socket

# Of the temporary files of this process: threads may save to one path at a time.
_numbers = itertools.count()


def prefix() -> str:
    """What the name of a temporary file of this process begins with, another one at each call."""
    return f".taco-{_host()}-{os.getpid()}-{next(_numbers)}-"


def remove_leftovers(folder: str) -> None:
    """Removes from `folder` what processes of this machine that are gone have left there."""
    pattern = re.compile(rf"\.taco-{re.escape(_host())}-(\d+)-.*")
    for entry in os.listdir(folder):
        match = pattern.fullmatch(entry)
        if match is None or _alive(int(match[1])):
            continue
        path = os.path.join(folder, entry)
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
