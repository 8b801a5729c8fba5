"""`taco doctor`: its JSON keeps its schema, its tables need no terminal, its exit code is true."""

import json
import os
import pty
import subprocess
import sys
from importlib import metadata

import pytest
from taco import _loader, _tunables
from taco.cli import doctor, probe

TEXT, NUMBER, BOOL, NONE = str, (int, float), bool, type(None)
MAYBE_TEXT, MAYBE_NUMBER, MAYBE_BOOL = (TEXT, NONE), (int, float, NONE), (BOOL, NONE)

# docs/doctor.md says what each field means. Adding one is no change of format; removing one is.
SCHEMA = {
    "format": NUMBER,
    "ok": BOOL,
    "problems": [TEXT],
    "taco": {"version": TEXT, "package": TEXT},
    "system": {
        "system": TEXT,
        "kernel": TEXT,
        "distribution": MAYBE_TEXT,
        "libc": MAYBE_TEXT,
        "machine": TEXT,
        "python": TEXT,
        "executable": TEXT,
        "virtual_env": MAYBE_TEXT,
    },
    "cpu": {
        "model": MAYBE_TEXT,
        "logical": MAYBE_NUMBER,
        "usable": MAYBE_NUMBER,
        "x86_64_level": MAYBE_TEXT,
        "avx2": BOOL,
        "avx512": BOOL,
    },
    "memory": {
        "total": MAYBE_NUMBER,
        "available": MAYBE_NUMBER,
        "cgroup_limit": MAYBE_NUMBER,
        "huge_pages": MAYBE_TEXT,
        "huge_pages_defrag": MAYBE_TEXT,
        "huge_pages_advice": MAYBE_TEXT,
    },
    "gpus": {
        "found": [{"name": TEXT, "memory": MAYBE_NUMBER, "driver": MAYBE_TEXT}],
        "note": MAYBE_TEXT,
    },
    "packages": [
        {
            "name": TEXT,
            "distribution": MAYBE_TEXT,
            "installed": MAYBE_TEXT,
            "supported": TEXT,
            "fits": MAYBE_BOOL,
            "needed_by": TEXT,
        }
    ],
    "artefacts": [
        {
            "name": TEXT,
            "gives": TEXT,
            "status": TEXT,
            "path": MAYBE_TEXT,
            "place": MAYBE_TEXT,
            "looked": [{"place": TEXT, "path": TEXT}],
            "error": MAYBE_TEXT,
            "ops": [TEXT],
            "built": dict,
        }
    ],
    "tunables": [
        {
            "name": TEXT,
            "env": TEXT,
            "value": MAYBE_TEXT,
            "default": MAYBE_TEXT,
            "source": TEXT,
            "doc": TEXT,
            "error": MAYBE_TEXT,
        }
    ],
}


def check(value, schema, where="report"):
    if isinstance(schema, dict):
        assert set(value) == set(schema), where
        for name, inner in schema.items():
            check(value[name], inner, f"{where}.{name}")
    elif isinstance(schema, list):
        assert isinstance(value, list), where
        for i, each in enumerate(value):
            check(each, schema[0], f"{where}[{i}]")
    else:
        assert isinstance(value, schema), where


@pytest.fixture
def absent(tmp_path):
    """The path of a file that does not exist. As TACO_TF_LIBRARY it makes doctor quick: there is
    nothing to load, so no TensorFlow starts."""
    return str(tmp_path / "absent.so")


def test_json_of_what_is_installed_here(run_taco):
    done = run_taco("doctor", "--json")
    report = json.loads(done.stdout)
    check(report, SCHEMA)
    assert report["format"] == doctor.FORMAT
    assert done.returncode == (0 if report["ok"] else 1)
    assert {each["name"] for each in report["artefacts"]} == {
        artefact.file_name for artefact in _loader.ARTEFACTS
    }
    assert {each["env"] for each in report["tunables"]} == {t.env for t in _tunables.TUNABLES}


def test_the_tensorflow_library_loads_and_tells_what_it_is(run_taco):
    report = json.loads(run_taco("doctor", "--json", TACO_SIMD="baseline").stdout)
    (library,) = [each for each in report["artefacts"] if each["name"] == "libtaco_tf.so"]
    assert library["status"] == probe.LOADS, library["error"]
    assert {"taco_table", "taco_table_gather", "taco_version"} <= set(library["ops"])
    assert not [name for name in library["ops"] if not name.startswith("taco_")]
    assert library["built"]["tensorflow_built"] == metadata.version("tensorflow-cpu")
    assert library["built"]["simd"] == "baseline"


def test_the_torch_library_loads_and_tells_what_it_is(run_taco, absent):
    environ = {"TACO_SIMD": "baseline", "TACO_TF_LIBRARY": absent}
    report = json.loads(run_taco("doctor", "--json", **environ).stdout)
    (library,) = [each for each in report["artefacts"] if each["name"] == "libtaco_torch.so"]
    assert library["status"] == probe.LOADS, library["error"]
    assert {"taco::topk_compress", "taco::fuse"} <= set(library["ops"])
    assert metadata.version("torch").startswith(library["built"]["torch_built"])
    assert library["built"]["simd"] == "baseline"


def test_a_broken_library_is_a_problem_and_the_rest_is_still_told(run_taco, tmp_path):
    library = tmp_path / "libtaco_tf.so"
    library.write_bytes(b"garbage" * 100)
    done = run_taco("doctor", "--json", TACO_LIBRARY_PATH=str(tmp_path))
    report = json.loads(done.stdout)
    check(report, SCHEMA)
    assert done.returncode == 1
    assert not report["ok"]
    (problem,) = report["problems"]
    assert str(library) in problem
    assert len(report["artefacts"]) == len(_loader.ARTEFACTS)


def test_an_invalid_variable_is_a_problem(run_taco, absent):
    done = run_taco("doctor", "--json", TACO_SIMD="fast", TACO_TF_LIBRARY=absent)
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert len(report["problems"]) == 2  # each is told once
    (simd,) = [each for each in report["tunables"] if each["env"] == "TACO_SIMD"]
    assert (simd["value"], simd["source"]) == (None, "TACO_SIMD")
    assert "must be one of" in simd["error"]


def test_tables_without_a_terminal_have_no_escape_codes(run_taco, absent):
    done = run_taco("doctor", TACO_TF_LIBRARY=absent)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    for part in ("Machine", "Python packages", "libtaco_tf.so", "TACO_SIMD", "problem:"):
        assert part in done.stdout


def test_tables_without_unicode(run_taco, absent):
    done = run_taco("doctor", TACO_TF_LIBRARY=absent, PYTHONIOENCODING="ascii")
    assert done.returncode == 1, done.stderr
    assert done.stdout.isascii()
    assert "libtaco_tf.so" in done.stdout


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_on_a_terminal_colours_come_only_where_it_has_some(environment, absent, term):
    ours, theirs = pty.openpty()
    environ = environment(TERM=term, TACO_TF_LIBRARY=absent)
    environ.pop("NO_COLOR", None)
    with subprocess.Popen(
        [sys.executable, "-m", "taco.cli", "doctor"],
        env=environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        said = b""
        while chunk := read(ours):
            said += chunk
    os.close(ours)
    assert process.returncode == 1
    assert b"libtaco_tf.so" in said
    assert (b"\x1b[" in said) == (term == "xterm")


def read(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux: EIO once the other end is closed
        return b""


def test_nothing_wrong_gives_exit_code_0(monkeypatch, capsys):
    monkeypatch.setattr(_tunables, "in_force", lambda: _tunables.read({}))
    monkeypatch.setattr(
        _loader, "search", lambda wanted, readings: _loader.Search(wanted, None, "", ())
    )
    assert doctor.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert {each["status"] for each in report["artefacts"]} == {
        probe.NOT_INSTALLED,
        probe.NOT_IN_THIS_VERSION,
    }


def test_without_rich_the_json_still_comes(python, absent):
    code = "import sys; sys.modules['rich'] = None; from taco.cli import main; sys.exit(main({}))"
    tables = python("-c", code.format(["doctor"]), TACO_TF_LIBRARY=absent)
    assert tables.returncode == 1
    assert "taco doctor --json" in tables.stderr
    assert "Traceback" not in tables.stderr
    report = python("-c", code.format(["doctor", "--json"]), TACO_TF_LIBRARY=absent)
    check(json.loads(report.stdout), SCHEMA)
