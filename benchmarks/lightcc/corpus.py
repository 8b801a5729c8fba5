"""Text to learn from that every machine has: sources of Python's standard library.

Which files, in which order, is fixed; their content is that of the Python that runs. Nothing of it
is part of this project.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sysconfig

import torch

# Large, old, and in every Python that TACO supports.
_FILES = (
    "argparse.py", "ast.py", "calendar.py", "codecs.py", "collections/__init__.py", "csv.py",
    "dataclasses.py", "decimal.py", "difflib.py", "doctest.py", "enum.py", "ftplib.py",
    "functools.py", "heapq.py", "inspect.py", "mailbox.py", "optparse.py", "pdb.py", "pickle.py",
    "random.py", "shutil.py", "socket.py", "statistics.py", "subprocess.py", "tarfile.py",
    "textwrap.py", "threading.py", "turtle.py", "typing.py", "zipfile.py",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Characters as numbers below `vocabulary`.

    Attributes:
        training: (n,) int64.
        validation: (n,) int64, the text's last tenth.
        vocabulary: how many different ones there are.
    """

    training: torch.Tensor
    validation: torch.Tensor
    vocabulary: int

    @staticmethod
    def batch(
        text: torch.Tensor, count: int, length: int, generator: torch.Generator
    ) -> torch.Tensor:
        """Random pieces of a text: (count, length) int64."""
        starts = torch.randint(len(text) - length, (count, 1), generator=generator)
        return text[starts + torch.arange(length)]


def load(limit: int) -> Corpus:
    """At most `limit` characters."""
    folder = pathlib.Path(sysconfig.get_path("stdlib"))
    found = (folder / name for name in _FILES)
    parts = [path.read_bytes() for path in found if path.is_file()]
    text = bytes(byte for byte in b"\n".join(parts)[:limit] if byte < 128)
    numbers = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    known, numbers = numbers.unique(return_inverse=True)
    cut = len(numbers) * 9 // 10
    return Corpus(numbers[:cut], numbers[cut:], len(known))
