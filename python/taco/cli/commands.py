"""Picks the subcommand, and hands it the rest of the arguments."""

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence

from taco._version import __version__

_USAGE_ERROR = 2

_DESCRIPTION = """TACO makes programs faster that people already have.

commands:
  doctor   what is installed, which library loads, which does not and why
  run      starts the ranks of a program that uses Horovod's API
  demo     trains one recommender twice, with and without dynamic embeddings
  bench    measures a part beside its peers (needs the source tree)
  harp     shows what HARP's connections do: `taco harp top FILE`"""

_EXAMPLES = """examples:
  taco doctor              tables for people
  taco doctor --json       the same for machines
  taco run -np 2 train.py  two ranks of a script
  taco demo --rows 100000  the demonstration, on a short generated stream
  taco bench harp --help   what can be measured; embedding, lightcc or harp

`taco COMMAND --help` says more about one command."""


def run(argv: Sequence[str] | None = None) -> int:
    """Runs `taco` with these arguments.

    Args:
        argv: arguments without the program's name; None takes them from `sys.argv`.

    Returns:
        The exit code: the subcommand's, or 2 for wrong usage.
    """
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # here, not at exit, where nobody could catch what it raises
        return code
    except BrokenPipeError:  # `taco doctor | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _run(arguments: list[str]) -> int:
    # taco's own options come before the command and take no values; what follows is the command's.
    split = next((i for i, each in enumerate(arguments) if not each.startswith("-")), None)
    own = arguments if split is None else arguments[:split]
    parser = _parser()
    try:
        parser.parse_args(own)
        if split is None:
            parser.print_help()
            return 0
        name, rest = arguments[split], arguments[split + 1 :]
        command = _COMMANDS.get(name)
        if command is None:
            sys.stderr.write(_unknown(name))
            return _USAGE_ERROR
        return command(rest)
    except SystemExit as stop:  # argparse: after --help, --version, or a wrong option
        return stop.code if isinstance(stop.code, int) else _USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="taco",
        usage="taco [--version] [--help] COMMAND ...",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"taco {__version__}")
    return parser


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, _COMMANDS, n=1, cutoff=0.5)
    guess = f"Did you mean `taco {close[0]}`?" if close else f"There are {', '.join(_COMMANDS)}."
    return f"taco: no command {name!r}. {guess}\n`taco --help` shows examples.\n"


def _doctor(argv: Sequence[str]) -> int:
    from taco.cli import doctor

    return doctor.main(argv)


def _launch(argv: Sequence[str]) -> int:
    from taco.cli import run

    return run.main(argv)


def _demo(argv: Sequence[str]) -> int:
    from taco import demo

    return demo.main(list(argv))


def _bench(argv: Sequence[str]) -> int:
    from taco.cli import bench

    return bench.main(argv)


def _harp(argv: Sequence[str]) -> int:
    from taco.cli import harp

    return harp.main(argv)


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "doctor": _doctor,
    "run": _launch,
    "demo": _demo,
    "bench": _bench,
    "harp": _harp,
}
