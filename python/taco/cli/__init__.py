"""The `taco` command. Start reading at `commands.py`; `doctor.py` gathers the report."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the entry of `taco` and `python -m taco.cli`.

    Args:
        argv: arguments without the program's name; None takes them from `sys.argv`.

    Returns:
        The exit code.
    """
    from taco.cli import commands

    return commands.run(argv)
