"""Modes and wishes travel as text: what one rank writes is what the others read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taco.lightcc.adaptive.mode import DENSE, Mode, parse
from taco.lightcc.adaptive.wish import Wish, understand

ratios = st.one_of(st.just(0.0), st.floats(1e-9, 1.0))
modes = st.builds(Mode, st.integers(1, 3), ratios, st.booleans(), st.booleans(), st.booleans())


@given(modes)
def test_a_mode_is_read_as_it_was_written(mode):
    read = parse(str(mode))
    assert read == parse(str(read))  # what is executed is what is said, on every rank
    assert read.ratio == pytest.approx(mode.ratio, rel=1e-5)
    assert (read.family, read.probe) == (mode.family, mode.probe)
    assert parse(mode.title) == read


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", DENSE),
        ("flat", DENSE),
        ("2d", Mode(2)),
        ("3d+half", Mode(3, half=True)),
        ("2d+topk=0.01+half", Mode(2, 0.01, True)),
        ("flat+topk=1e-05+balanced+probe", Mode(1, 1e-5, balanced=True, probe=True)),
    ],
)
def test_texts(text, mode):
    assert parse(text) == mode
    assert str(mode) == ("" if mode == DENSE else text)


@pytest.mark.parametrize(
    "text", ["4d", "topk=0", "topk=1.5", "topk=-1", "topk=nan", "topk=", "topk=x", "2d+", "+", "2D"]
)
def test_what_is_no_mode_is_refused(text):
    with pytest.raises(ValueError):
        parse(text)


@given(modes)
def test_a_family_has_no_ratio_of_its_own(mode):
    assert mode.family.ratio in (0.0, 1.0)
    assert not mode.family.probe
    assert mode.family.family == mode.family
    assert mode.lossless == mode.family.lossless == (not mode.ratio and not mode.half)


@given(st.one_of(st.none(), modes), st.integers(0, 10**6))
def test_a_wish_is_read_as_it_was_written(mode, warmup):
    mode = mode if mode is None else parse(str(mode))
    wish = Wish(True, mode, warmup)
    assert understand(str(wish)) == wish


def test_what_is_no_gradient_wishes_nothing():
    assert str(Wish()) == ""
    assert understand("") == Wish()


@pytest.mark.parametrize(
    "text",
    ["flat", "gradients", "gradient:5d", "gradient;warmup=x", "gradient;x=1", "calibrate", ":flat"],
)
def test_what_is_no_wish_is_refused(text):
    with pytest.raises(ValueError):
        understand(text)
