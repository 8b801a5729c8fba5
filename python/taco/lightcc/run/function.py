"""`horovod.run`: calls a function in several ranks, and gives what each returned."""

import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from taco.lightcc.run import environment, launcher, options, task
from taco.lightcc.run.client import connect

# Parameters of Horovod's that have a meaning here, and the option of `taco run` that each is.
_OPTIONS = {
    "min_num_proc": "--min-np",
    "max_num_proc": "--max-np",
    "slots": "--slots-per-host",
    "reset_limit": "--reset-limit",
    "hosts": "-H",
    "hostfile": "--hostfile",
    "host_discovery_script": "--host-discovery-script",
    "start_timeout": "--start-timeout",
    "ssh_port": "-p",
    "ssh_identity_file": "-i",
    "output_filename": "--output-filename",
}
_OLD_NAMES = {"np": "num_proc", "min_np": "min_num_proc", "max_np": "max_num_proc"}
_WITHOUT_MEANING = ("disable_cache", "use_gloo", "use_mpi", "mpi_args")


def run(
    func: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    num_proc: int = 1,
    **more: Any,
) -> list[Any]:
    """Calls a function in `num_proc` ranks.

    It may be called on this host and on others; what it returns has to be picklable. With
    cloudpickle installed the function may be a lambda or stand in the script itself.

    Args:
        func: the function; it calls `hvd.init()` itself.
        args, kwargs: its arguments.
        num_proc: how many ranks.
        **more: Horovod's further parameters: hosts, hostfile, start_timeout, ssh_port,
            ssh_identity_file, output_filename, verbose, network_interfaces, executable,
            min_num_proc, max_num_proc, slots, reset_limit, cooldown_range, host_discovery_script.

    Returns:
        What each rank returned, in the order of ranks.

    Raises:
        RuntimeError: a rank failed; standard error says which one and why.
        TypeError: there is no such parameter.
        ValueError: parameters contradict each other.

    Example:
        >>> import operator
        >>> run(operator.add, (1, 2), num_proc=2)
        [3, 3]
    """
    for old, new in _OLD_NAMES.items():
        if more.get(old) is not None:
            warnings.warn(f"{old} is deprecated, use {new} instead", DeprecationWarning, 2)
            more[new] = more.pop(old)
    num_proc = more.pop("num_proc", num_proc)
    arguments = ["-np", str(num_proc), *_arguments(more)]
    python = more.get("executable") or sys.executable
    arguments += [python, "-m", task.__name__]
    call = task.pickler().dumps((func, tuple(args), dict(kwargs or {})))
    results: list[Any] = []

    @contextmanager
    def exchange(job: environment.Job) -> Iterator[None]:
        store = connect("127.0.0.1", job.store[1], task.PREFIX, 300.0)
        store.set("call", call)
        yield
        while store.check([f"result/{len(results)}"]):
            results.append(pickle.loads(store.get(f"result/{len(results)}")))

    parsed = options.parser("horovod.run", os.environ).parse_args(arguments)
    code = launcher.run(parsed, os.environ, exchange)
    if code != 0:
        raise RuntimeError(
            f"The job ended with exit code {code}: a rank failed. Standard error says which one, "
            "where and why."
        )
    return results


def _arguments(more: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for name, value in more.items():
        if value is None or name in _WITHOUT_MEANING or name == "executable":
            continue
        if name in _OPTIONS:
            found += [_OPTIONS[name], str(value)]
        elif name == "verbose":
            found += ["--verbose"] if value else []
        elif name == "cooldown_range":
            found += ["--blacklist-cooldown-range", *map(str, value)]
        elif name in ("network_interface", "network_interfaces"):
            text = value if isinstance(value, str) else ",".join(value)
            found += ["--network-interface", text]
        else:
            raise TypeError(f"run() got an unexpected keyword argument {name!r}")
    return found
