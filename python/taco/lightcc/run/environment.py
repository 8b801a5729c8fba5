"""What the ranks find in their environment, and which Python runs them."""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import taco
from taco.lightcc.run.hosts import Slot

SHIM = Path(__file__).resolve().parents[1] / "shim"
# Of the launcher's own session or host: nothing to other hosts.
_NOT_FORWARDED = re.compile(
    r"BASH_FUNC_.*|OLDPWD|PWD|SHLVL|_|HOSTNAME|DISPLAY|XAUTHORITY|SSH_.*|XDG_.*|TMPDIR"
    r"|.*CUDA_VISIBLE_DEVICES"
)


@dataclass(frozen=True)
class Job:
    """What is the same for all ranks.

    Attributes:
        id: distinguishes this job's keys in the store.
        store: host and port of it, as ranks reach it.
        extra: variables that options ask for.
        racks: host to rack.
        interface: network interfaces, separated by commas, if the user named some.
        python_path: what stands in PYTHONPATH.
    """

    id: str
    store: tuple[str, int]
    extra: Mapping[str, str]
    racks: Mapping[str, str]
    interface: str | None
    python_path: str


def forwarded(environ: Mapping[str, str]) -> dict[str, str]:
    """What a rank on another host gets of the launcher's environment."""
    return {name: text for name, text in environ.items() if not _NOT_FORWARDED.fullmatch(name)}


def of_rank(job: Job, slot: Slot, sizes: Mapping[str, int]) -> dict[str, str]:
    """The variables of one rank, over those of the launcher.

    Args:
        job: what is common.
        slot: the rank's place.
        sizes: ranks on each host, in order.
    """
    found = {
        "HOROVOD_HOSTNAME": slot.hostname,
        "HOROVOD_RANK": str(slot.rank),
        "HOROVOD_SIZE": str(slot.size),
        "HOROVOD_LOCAL_RANK": str(slot.local_rank),
        "HOROVOD_LOCAL_SIZE": str(slot.local_size),
        "HOROVOD_CROSS_RANK": str(slot.cross_rank),
        "HOROVOD_CROSS_SIZE": str(slot.cross_size),
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "TACO_STORE_ADDR": job.store[0],
        "TACO_STORE_PORT": str(job.store[1]),
        "TACO_JOB_ID": job.id,
        "TACO_LOCAL_SIZES": ",".join(map(str, sizes.values())),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": job.python_path,
        **job.extra,
    }
    if slot.hostname in job.racks:
        found["TACO_RACK"] = job.racks[slot.hostname]
    if job.interface:
        found["HOROVOD_GLOO_IFACE"] = job.interface.split(",")[0]
        found["NCCL_SOCKET_IFNAME"] = job.interface
    return found


def command_line(command: Sequence[str]) -> list[str]:
    """The command of a rank: a script alone is run by this Python."""
    return [sys.executable, *command] if command[0].endswith(".py") else list(command)


def python_path(command: Sequence[str], environ: Mapping[str, str], shim: bool) -> str:
    """PYTHONPATH for the ranks: `taco` can be imported, and `horovod` is ours where there is none.

    Args:
        command: of a rank, as `command_line` gives it.
        environ: the launcher's.
        shim: whether `horovod` is ours even where the original is installed.
    """
    kept = [path for path in environ.get("PYTHONPATH", "").split(":") if path]
    home = str(Path(taco.__file__).resolve().parents[1])
    if home not in kept:
        kept.append(home)
    if shim or original_horovod(command) is None:
        kept.insert(0, str(SHIM))
    return ":".join(kept)


def original_horovod(command: Sequence[str]) -> str | None:
    """Where the interpreter of a command has Horovod itself; None if it has not."""
    python = shutil.which(command[0]) if "python" in Path(command[0]).name else None
    if python is None or Path(python) == Path(sys.executable):
        found = importlib.util.find_spec("horovod")
        where = found and (found.origin or "")
    else:
        code = "import importlib.util as u; s = u.find_spec('horovod'); print(s and s.origin or '')"
        where = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, check=False
        ).stdout.strip()
    return where if where and not Path(where).is_relative_to(SHIM) else None
