"""Real Gloo ranks on the loopback, each a process, that end within a time."""

import datetime
import functools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from taco.lightcc.patterns import machine
from taco.lightcc.patterns.transport import GroupTransport

ADDRESS = "127.0.0.1"


def start(
    folder: Path,
    size: int,
    program: str,
    timeout: float = 60.0,
    machines: Sequence[Sequence[int]] = (),
    unwilling: Sequence[int] = (),
) -> list[subprocess.Popen]:
    """Starts `size` ranks that call the function `program` of this package's `_gloo_programs`.

    The ranks of each of `machines` read each other's memory, unless some are `unwilling`.
    """
    code = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
        "from tests.lightcc.patterns import _gloo, _gloo_programs;"
        "_gloo.run(*json.loads(sys.argv[2]))"
    )
    children = []
    for rank in range(size):
        store = str(folder / "store")
        arguments = json.dumps([store, rank, size, program, timeout, machines, unwilling])
        command = [sys.executable, "-c", code, json.dumps(sys.path), arguments]
        children.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    return children


def finish(children: list[subprocess.Popen], seconds: float = 120.0) -> list[tuple[int, str]]:
    """Exit status and output of each; those that take longer are killed, which is an error."""
    try:
        outputs = [child.communicate(timeout=seconds)[0] for child in children]
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
    return [(child.returncode, output) for child, output in zip(children, outputs, strict=True)]


def run(
    path: str,
    rank: int,
    size: int,
    program: str,
    timeout: float,
    machines: list[list[int]],
    unwilling: list[int],
) -> None:
    """In the child: makes the group and calls the program."""
    from tests.lightcc.patterns import _gloo_programs

    torch.set_num_threads(1)
    group = connect(dist.FileStore(path, size), rank, size, timeout)
    if not machines:
        getattr(_gloo_programs, program)(GroupTransport(group, tag=50))
        return
    transport = machine.over(group, 50, machines, allowed=rank not in unwilling)
    joined = len(next(ranks for ranks in machines if rank in ranks)) > 1 and not unwilling
    assert isinstance(transport, machine.MachineTransport) == joined
    getattr(_gloo_programs, program)(transport)


@functools.cache
def _device() -> object:
    return dist.ProcessGroupGloo.create_device(hostname=ADDRESS)


def connect(store: dist.Store, rank: int, size: int, timeout: float) -> dist.ProcessGroup:
    """A Gloo group that is nobody's default group."""
    options = dist.ProcessGroupGloo._Options()
    options._devices = [_device()]
    options._timeout = datetime.timedelta(seconds=timeout)
    return dist.ProcessGroupGloo(store, rank, size, options)
