"""The one exception a user of the demo is meant to read."""


class DemoError(Exception):
    """Something the user can put right: names the cause and the remedy.

    Args:
        cause: What is wrong, with the file's name where there is one.
        remedy: What to do about it.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}\n  remedy: {remedy}")
        self.cause = cause
        self.remedy = remedy
