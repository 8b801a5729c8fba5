"""Every knob is documented, checked, and read once."""

import os

import pytest
from taco import _tunables


def test_without_variables_every_knob_has_its_default():
    for name, reading in _tunables.read({}).items():
        assert reading.tunable.name == name
        assert (reading.value, reading.source) == (reading.tunable.default, "default")


def test_an_empty_variable_counts_as_unset():
    assert _tunables.read({"TACO_SIMD": ""})["simd"].source == "default"


def test_names_are_unique_and_every_knob_is_documented():
    names = [tunable.name for tunable in _tunables.TUNABLES]
    variables = [tunable.env for tunable in _tunables.TUNABLES]
    assert len(set(names)) == len(names) == len(set(variables))
    for tunable in _tunables.TUNABLES:
        # The names of LightCC and Horovod are those that their users know.
        assert tunable.env.startswith(("TACO_", "LIGHT_", "HOROVOD_", "HARP_"))
        assert tunable.doc.endswith(".")


@pytest.mark.parametrize("level", _tunables.SIMD_LEVELS)
def test_simd_takes_each_level(level):
    readings = _tunables.read({"TACO_SIMD": level})
    assert _tunables.value("simd", readings) == level
    assert readings["simd"].source == "TACO_SIMD"


def test_nonsense_is_reported_by_read_and_raised_by_value():
    readings = _tunables.read({"TACO_SIMD": "AVX2"})
    assert readings["simd"].value is None
    assert readings["simd"].error == "TACO_SIMD='AVX2': must be one of baseline, avx2, avx512"
    with pytest.raises(_tunables.InvalidTunableError, match="must be one of"):
        _tunables.value("simd", readings)


def test_a_key_is_not_shown(tmp_path):
    digits = "5a" * 32
    assert _tunables.read({"HARP_KEY": digits})["harp_key"].value == "set"
    wrong = _tunables.read({"HARP_KEY": "secret"})["harp_key"].error
    assert wrong.startswith("HARP_KEY: must be 64") and "secret" not in wrong
    (tmp_path / "key").write_text(digits + "\n")
    good = _tunables.read({"HARP_KEY_FILE": str(tmp_path / "key")})["harp_key_file"]
    assert good.error is None
    absent = _tunables.read({"HARP_KEY_FILE": str(tmp_path / "absent")})["harp_key_file"]
    assert "can be read" in absent.error


def test_folders_are_split_and_have_to_exist(tmp_path):
    (tmp_path / "a").mkdir()
    text = os.pathsep.join([str(tmp_path / "a"), str(tmp_path)])
    readings = _tunables.read({"TACO_LIBRARY_PATH": text})
    assert readings["library_path"].value == (tmp_path / "a", tmp_path)
    bad = _tunables.read({"TACO_LIBRARY_PATH": str(tmp_path / "b")})
    assert str(tmp_path / "b") in bad["library_path"].error


def test_a_relative_file_is_kept_as_an_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "mine.so").touch()
    monkeypatch.chdir(tmp_path)
    readings = _tunables.read({"TACO_TF_LIBRARY": "mine.so"})
    assert readings["tf_library"].value == tmp_path / "mine.so"


def test_the_environment_is_read_once(python):
    code = """
import os
from taco import _tunables
assert _tunables.value("simd") == "avx2"
os.environ["TACO_SIMD"] = "baseline"
assert _tunables.value("simd") == "avx2"
"""
    done = python("-c", code, TACO_SIMD="avx2")
    assert done.returncode == 0, done.stderr
