"""Streams are cut into lines, however they arrive; the cause of an end is found in them."""

import random

import pytest
from taco.lightcc.run.relay import LastError, Lines


@pytest.mark.parametrize("seed", range(20))
def test_pieces_make_no_difference(seed):
    made = random.Random(seed)
    stream = bytes(made.choice(b"ab\n\r\x00\xff") for _ in range(300))
    lines, cut, at = Lines(), [], 0
    while at < len(stream):
        size = made.randint(1, 40)
        cut += lines.feed(stream[at : at + size])
        at += size
    cut.append(lines.finish())
    assert b"".join(cut) == stream
    whole = Lines()
    assert cut == [*whole.feed(stream), whole.finish()]
    assert all(b"\n" not in line[:-1] for line in cut)


def test_a_progress_bar_is_shown_as_it_moves():
    assert Lines().feed(b"10%\r20%\r30%") == [b"10%\r", b"20%\r"]
    assert Lines().feed(b"windows\r\nlines\r\n") == [b"windows\r\n", b"lines\r\n"]


def test_an_endless_line_is_not_held_back_for_ever():
    assert len(Lines().feed(b"x" * (2 << 20))) == 1


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (b"", ""),
        (b"one\ntwo\n\n", "two"),
        (
            b"Traceback (most recent call last):\n  File x\n    y\nValueError: no\nlate\n",
            "ValueError: no",
        ),
        (
            b"warning\nFatal Python error: Segmentation fault\n",
            "Fatal Python error: Segmentation fault",
        ),
    ],
)
def test_the_last_exception_counts_else_the_last_line(text, cause):
    last = LastError()
    for line in text.splitlines(keepends=True):
        last.see(line)
    assert last.text() == cause
