"""`taco run`: hands over to the launcher."""

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Runs `taco run`.

    Args:
        argv: arguments after `run`.

    Returns:
        The launcher's exit code.
    """
    from taco.lightcc.run import launcher

    return launcher.main(argv)
