"""The command line of `taco run`: horovodrun's options, where they mean something here."""

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taco.lightcc._settings import Settings, read

_EXAMPLES = """examples:
  taco run -np 4 train.py --epochs 3             four ranks on this machine
  taco run -np 8 -H host1:4,host2:4 train.py     four on each of two, by ssh
  taco run -np 2 --timeline trace.json train.py  with a trace for chrome://tracing

A script is run by this Python; any other command as it stands. TACO_RSH names a remote shell
other than ssh. The job ends when a rank fails; the last lines say which one, where and why."""


@dataclass(frozen=True)
class _Knob:
    """An option that sets a variable of the ranks."""

    flag: str
    env: str
    doc: str
    parse: Callable[[str], Any] = str
    text: Callable[[Any], str] = str


def _at_least(least: int, kind: type[int] | type[float]) -> Callable[[str], Any]:
    noun = "a whole number" if kind is int else "a number"

    def parse(text: str) -> Any:
        try:
            number = kind(text)
        except ValueError:
            number = kind(-1)
        if not least <= number < float("inf"):
            raise argparse.ArgumentTypeError(f"must be {noun} from {least}, not {text!r}")
        return number

    return parse


def _level(text: str) -> str:
    levels = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "FATAL")
    if text.upper() not in levels:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(levels)}")
    return text.upper()


_int, _float, _positive = _at_least(0, int), _at_least(0, float), _at_least(1, int)

_KNOBS = (
    _Knob(
        "--fusion-threshold-mb",
        "HOROVOD_FUSION_THRESHOLD",
        "MiB up to which small tensors are sent as one; 0: each by itself (default: 128)",
        _int,
        lambda mb: str(mb << 20),
    ),
    _Knob("--cycle-time-ms", "HOROVOD_CYCLE_TIME", "accepted as Horovod's", _float),
    _Knob("--cache-capacity", "HOROVOD_CACHE_CAPACITY", "names remembered as agreed on", _int),
    _Knob("--timeline-filename", "HOROVOD_TIMELINE", "Chrome trace of what the ranks did"),
    _Knob("--autotune-log-file", "HOROVOD_AUTOTUNE_LOG", "what autotuning tried"),
    _Knob(
        "--stall-check-warning-time-seconds",
        "HOROVOD_STALL_CHECK_TIME_SECONDS",
        "seconds until a stall is reported (default: 60)",
        _int,
    ),
    _Knob(
        "--stall-check-shutdown-time-seconds",
        "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS",
        "seconds until a stall ends the job; 0: never (default)",
        _int,
    ),
    _Knob(
        "--gloo-timeout-seconds",
        "HOROVOD_GLOO_TIMEOUT_SECONDS",
        "seconds for one exchange of data",
        _int,
    ),
    _Knob("--num-nccl-streams", "HOROVOD_NUM_NCCL_STREAMS", "accepted as Horovod's", _int),
    _Knob("--thread-affinity", "HOROVOD_THREAD_AFFINITY", "accepted as Horovod's", _int),
    _Knob("--log-level", "HOROVOD_LOG_LEVEL", "TRACE to FATAL (default: WARNING)", _level),
)
# Horovod's switches: option, variable, its value.
_SWITCHES = (
    ("--hierarchical-allreduce", "HOROVOD_HIERARCHICAL_ALLREDUCE", "1"),
    ("--no-hierarchical-allreduce", "HOROVOD_HIERARCHICAL_ALLREDUCE", "0"),
    ("--hierarchical-allgather", "HOROVOD_HIERARCHICAL_ALLGATHER", "1"),
    ("--no-hierarchical-allgather", "HOROVOD_HIERARCHICAL_ALLGATHER", "0"),
    ("--torus-allreduce", "HOROVOD_TORUS_ALLREDUCE", "1"),
    ("--no-torus-allreduce", "HOROVOD_TORUS_ALLREDUCE", "0"),
    ("--autotune", "HOROVOD_AUTOTUNE", "1"),
    ("--no-autotune", "HOROVOD_AUTOTUNE", "0"),
    ("--timeline-mark-cycles", "HOROVOD_TIMELINE_MARK_CYCLES", "1"),
    ("--no-timeline-mark-cycles", "HOROVOD_TIMELINE_MARK_CYCLES", "0"),
    ("--no-stall-check", "HOROVOD_STALL_CHECK_DISABLE", "1"),
    ("--stall-check", "HOROVOD_STALL_CHECK_DISABLE", "0"),
    ("--log-with-timestamp", "HOROVOD_LOG_HIDE_TIME", "0"),
    ("--log-without-timestamp", "HOROVOD_LOG_HIDE_TIME", "1"),
    ("--tcp", "NCCL_IB_DISABLE", "1"),
)


class _SetVariable(argparse.Action):
    """Stores the option's text as a variable of the ranks."""

    def __init__(self, *args: Any, knob: _Knob | None = None, env: str = "", **rest: Any) -> None:
        super().__init__(*args, **rest)
        self._knob, self._env = knob, env

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        knob = self._knob
        text = knob.text(values) if knob else str(self.const)
        namespace.variables = {**namespace.variables, knob.env if knob else self._env: text}


def parser(program: str, environ: Mapping[str, str]) -> argparse.ArgumentParser:
    """The parser of `taco run`. The options that set variables are gathered in `variables`.

    Raises:
        InvalidSettingError: a variable, which the ranks would get, holds nonsense.
    """
    found = read(environ)
    made = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} -np N [options] command ...",
        description="Starts N ranks of a program that uses Horovod's API, and watches over them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.set_defaults(variables={})
    add = made.add_argument
    add("-np", "--num-proc", dest="num_proc", type=_positive, metavar="N", help="how many ranks")
    add("--verbose", action="store_true", help="say what is started where")
    add(
        "--shim", action="store_true", help="`horovod` is LightCC's even where Horovod is installed"
    )
    add(
        *("--start-timeout", "-start-timeout"),
        type=_float,
        metavar="S",
        default=found.start_timeout,
        help="seconds for all ranks to be started (default: 120)",
    )
    add(
        "--grace", type=_float, default=5.0, metavar="S", help="seconds between SIGTERM and SIGKILL"
    )
    add("--report", type=Path, metavar="FILE", help="file into which rank 0 writes hvd.explain()")
    add("--gloo", action="store_true", help=argparse.SUPPRESS)
    add("--disable-cache", action="store_true", help=argparse.SUPPRESS)
    _add_hosts(made)
    _add_output(made)
    _add_elastic(made, found)
    group = made.add_argument_group("options that set a variable of the ranks")
    for knob in _KNOBS:
        names = [knob.flag, *(["--timeline"] if knob.env == "HOROVOD_TIMELINE" else [])]
        group.add_argument(
            *names,
            action=_SetVariable,
            knob=knob,
            type=knob.parse,
            metavar="FILE" if knob.parse is str else "N",
            help=f"{knob.doc} [{knob.env}]",
        )
    for flag, env, text in _SWITCHES:
        group.add_argument(
            flag, action=_SetVariable, env=env, const=text, nargs=0, help=f"{env}={text}"
        )
    add("command", nargs=argparse.REMAINDER, help="a script and its arguments, or any command")
    return made


def _add_hosts(made: argparse.ArgumentParser) -> None:
    add = made.add_argument_group("hosts").add_argument
    add("-H", "--hosts", metavar="HOST:SLOTS,...", help="hosts, and how many ranks each takes")
    add("-hostfile", "--hostfile", type=Path, metavar="FILE", help="lines like `host slots=2`")
    add(
        "--rack",
        action="append",
        default=[],
        metavar="HOST=NAME",
        help="the rack or zone of a host, for allreduce in three levels",
    )
    add(
        *("--network-interface", "--network-interfaces"),
        action="append",
        default=[],
        metavar="IF",
        help="network interface for the traffic between hosts",
    )
    add("-p", "--ssh-port", type=_positive, metavar="P", help="port of ssh on the other hosts")
    add("-i", "--ssh-identity-file", metavar="FILE", help="private key for ssh")


def _add_output(made: argparse.ArgumentParser) -> None:
    add = made.add_argument_group("output").add_argument
    add(
        "--output-filename",
        type=Path,
        metavar="DIR",
        help="also writes what rank N prints to DIR/rank.N/stdout and stderr",
    )
    add(
        *("--prefix-output-with-timestamp", "--prefix-timestamp"),
        action="store_true",
        help="the time before each line",
    )


def _add_elastic(made: argparse.ArgumentParser, found: Settings) -> None:
    add = made.add_argument_group("elastic jobs").add_argument
    add(
        "--min-np", "--min-num-proc", dest="min_np", type=_positive, metavar="N", help="least ranks"
    )
    add("--max-np", "--max-num-proc", dest="max_np", type=_positive, metavar="N", help="most ranks")
    add(
        "--host-discovery-script",
        metavar="SCRIPT",
        help="prints a line `host:slots` for each host there is; asked every second",
    )
    add(
        *("--slots-per-host", "--slots"),
        dest="slots",
        type=_positive,
        default=1,
        metavar="N",
        help="slots where the script names none (default: 1)",
    )
    add(
        "--elastic-timeout",
        type=_float,
        default=found.elastic_timeout,
        metavar="S",
        help="seconds to wait for enough slots (default: 600)",
    )
    add("--reset-limit", type=_int, metavar="N", help="how often the ranks may change")
    add(
        "--blacklist-cooldown-range",
        dest="cooldown",
        type=_float,
        nargs=2,
        metavar=("MIN", "MAX"),
        help="seconds for which a failing host is left out; without it for good",
    )


def racks(pairs: list[str]) -> dict[str, str]:
    """Reads `host=name` pairs.

    Raises:
        ValueError: one is different.
    """
    for pair in pairs:
        if not all(pair.partition("=")):
            raise ValueError(f"--rack {pair!r} is not like host1=north.")
    return dict(pair.split("=", 1) for pair in pairs)


def remote_shell(options: argparse.Namespace, environ: Mapping[str, str]) -> list[str]:
    """The command that runs another on a host, less the host.

    ssh asks for nothing and gives up on a host that does not answer. TACO_RSH, words split at
    spaces, takes its place.
    """
    own = environ.get("TACO_RSH", "").split()
    quiet = "-o BatchMode=yes -o StrictHostKeyChecking=no -o ConnectTimeout=10"
    shell = own or ["ssh", "-T", *quiet.split(), "-o", "ServerAliveInterval=15"]
    if options.ssh_port:
        shell += ["-p", str(options.ssh_port)]
    if options.ssh_identity_file:
        shell += ["-i", os.path.expanduser(options.ssh_identity_file)]
    return shell
