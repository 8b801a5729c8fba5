"""Fenced blocks of a Markdown page, and the commands in them. docs/index.md has the convention."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

RUN_MARK = "<!-- run -->"
SHELLS = ("bash", "sh")

_FENCE = re.compile(r"^( *)(`{3,}|~{3,})\s*([^\s`]*).*$")
_ASSIGNMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: the word after the fence.
        text: what is inside, without the fence's own indentation.
        line: the page's line, counted from 1, on which `text` begins.
        marked: whether the line before the fence is RUN_MARK.
    """

    language: str
    text: str
    line: int
    marked: bool

    @property
    def runs(self) -> bool:
        """Whether a test runs it."""
        return self.language == "python" or (self.language in SHELLS and self.marked)


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order.

    Raises:
        ValueError: a fence is not closed, or a mark stands before no block that can run.
    """
    found = []
    lines = iter(enumerate(page.splitlines(), start=1))
    marked = False
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            if marked:
                raise ValueError(f"line {number}: {RUN_MARK} stands before no block")
            marked = line.strip() == RUN_MARK
            continue
        indent, ticks, language = fence.groups()
        text = "".join(_inside(lines, len(indent), ticks, number))
        if marked and language not in SHELLS:
            raise ValueError(f"line {number}: {RUN_MARK} stands before a block of {language!r}")
        found.append(Block(language, text, number + 1, marked))
        marked = False
    return found


def _inside(lines: Iterator[tuple[int, str]], indent: int, ticks: str, start: int) -> Iterator[str]:
    for _, line in lines:
        if line.strip().startswith(ticks) and not line.strip().strip(ticks[0]):
            return
        yield line[min(indent, len(line) - len(line.lstrip())) :] + "\n"
    raise ValueError(f"line {start}: this block is not closed")


def commands(block: Block) -> list[list[str]]:
    """The commands of a shell block, each as its words, less comments and leading NAME=value.

    Raises:
        ValueError: a quote is not closed on its line.
    """
    found: list[list[str]] = []
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();|&")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in lexer:
            if not word.strip("();|&"):
                found.append(command)
                command = []
            elif command or not _ASSIGNMENT.match(word):
                command.append(word)
        found.append(command)
    return [command for command in found if command]
