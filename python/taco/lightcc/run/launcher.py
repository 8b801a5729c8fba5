"""`taco run`, from the command line to the exit code: start here."""

import argparse
import importlib.util
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from taco.lightcc.run import environment, hosts, network, options
from taco.lightcc.run.hosts import Host, HostsError
from taco.lightcc.run.relay import Output
from taco.lightcc.run.starter import Starter
from taco.lightcc.run.static import run_static
from taco.lightcc.run.store import StoreProcess

_USAGE_ERROR = 2

Around = Callable[[environment.Job], AbstractContextManager[None]]


def main(argv: Sequence[str], program: str = "taco run") -> int:
    """Runs a job.

    Args:
        argv: arguments after `taco run`.
        program: how the user called it.

    Returns:
        0 when all ranks ended well; else the exit status of the rank that ended the job, or 128
        and the signal's number; 2 for wrong usage.
    """
    try:
        return run(options.parser(program, os.environ).parse_args(list(argv)), os.environ)
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        sys.stderr.write(f"{program}: {error}\n")
        return _USAGE_ERROR


def run(
    parsed: argparse.Namespace,
    environ: Mapping[str, str],
    around: Around = lambda job: nullcontext(),
) -> int:
    """Runs the job that the options describe.

    Args:
        parsed: as `options.parser` gives them.
        environ: the launcher's environment.
        around: what is to be done while the store is open, before and after the ranks run.

    Raises:
        ValueError: the options do not go together, or the hosts do not suffice.
        OSError: something cannot be started here.
    """
    if not parsed.command:
        raise ValueError("no command. Say what to run: taco run -np 2 train.py")
    command = environment.command_line(parsed.command)
    elastic = bool(parsed.host_discovery_script or parsed.min_np or parsed.max_np)
    fixed = [] if parsed.host_discovery_script else _hosts(parsed)
    np = parsed.num_proc or (parsed.min_np if elastic else None) or sum(h.slots for h in fixed)
    if not np:
        raise ValueError("say how many ranks: -np N")
    slots = [] if elastic else hosts.assign(fixed, np, np)
    names = {slot.hostname for slot in slots} if slots else {host.name for host in fixed}
    others = [name for name in names if not network.is_local(name)]
    anywhere = bool(others or parsed.host_discovery_script)
    interface = ",".join(parsed.network_interface) or None
    _say_of_original(parsed, command)
    if importlib.util.find_spec("torch") is None:
        raise ValueError(
            f"PyTorch is not installed for {sys.executable}, with which this runs. Install "
            f"torch 2.13 there (pip install torch==2.13.0; in TACO's sources: make build)."
        )
    store = StoreProcess(anywhere)
    try:
        job = environment.Job(
            id=uuid.uuid4().hex[:12],
            store=(network.own_address(others, interface, anywhere), store.port),
            extra=_variables(parsed),
            racks=options.racks(parsed.rack),
            interface=interface,
            python_path=environment.python_path(command, environ, parsed.shim),
        )
        starter = Starter(
            job=job,
            command=command,
            environ=environ,
            rsh=options.remote_shell(parsed, environ),
            output=Output(parsed.output_filename, parsed.prefix_output_with_timestamp),
            grace=parsed.grace,
            verbose=parsed.verbose,
        )
        if elastic:
            from taco.lightcc.run.elastic import run_elastic

            with around(job):
                return run_elastic(starter, store, parsed, fixed, np)
        with around(job):
            return run_static(starter, slots, store, parsed.start_timeout)
    finally:
        store.close()


def _hosts(parsed: argparse.Namespace) -> list[Host]:
    if parsed.hosts and parsed.hostfile:
        raise HostsError("give -H or --hostfile, not both.")
    if parsed.hosts:
        return hosts.parse_hosts(parsed.hosts)
    if parsed.hostfile:
        return hosts.parse_hostfile(parsed.hostfile)
    count = parsed.num_proc or parsed.max_np or parsed.min_np
    return [Host("localhost", count)] if count else []


def _variables(parsed: argparse.Namespace) -> dict[str, str]:
    found = {**parsed.variables, "HOROVOD_START_TIMEOUT": f"{parsed.start_timeout:g}"}
    if parsed.report:
        found["TACO_REPORT"] = str(Path(parsed.report).absolute())
    return found


def _say_of_original(parsed: argparse.Namespace, command: Sequence[str]) -> None:
    original = None if parsed.shim else environment.original_horovod(command)
    if original:
        sys.stderr.write(
            f"taco run: `import horovod` gives the Horovod installed at {Path(original).parent}. "
            "Programs that use it are started by horovodrun; --shim gives them LightCC.\n"
        )
