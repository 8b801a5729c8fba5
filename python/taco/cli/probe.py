"""Tries every native library, each in a child process with a time limit.

A library that crashes or hangs while it loads takes its child with it, and not doctor.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Any

from taco import _loader, _tunables

TIME_LIMIT_S = 120.0  # a cold start of TensorFlow on a busy, slow machine takes most of a minute

LOADS = "loads"
FAILS = "fails"
NEEDS_FRAMEWORK = "needs framework"
NOT_INSTALLED = "not installed"
NOT_IN_THIS_VERSION = "not in this version"

_PYTHON_ROOT = Path(__file__).resolve().parents[2]
_STDERR_TAIL = 2000


def artefact_report(
    artefact: _loader.Artefact,
    readings: Mapping[str, _tunables.Reading] | None = None,
    time_limit_s: float = TIME_LIMIT_S,
) -> dict[str, Any]:
    """What doctor says about one native library.

    Args:
        artefact: which one.
        readings: the knobs; those of this process by default.
        time_limit_s: how long loading may take.

    Returns:
        name, gives, status (one of the constants above), path, place, looked, error, ops and built
        (what the library says of itself, such as the TensorFlow version it was built for).
    """
    report: dict[str, Any] = {
        "name": artefact.file_name,
        "gives": artefact.summary,
        "status": NOT_INSTALLED,
        "path": None,
        "place": None,
        "looked": [],
        "error": None,
        "ops": [],
        "built": {},
    }
    try:
        found = _loader.search(artefact, readings)
    except _tunables.InvalidTunableError as error:
        return {**report, "status": FAILS, "error": str(error)}
    report["looked"] = [{"place": place, "path": str(path)} for place, path in found.looked]
    if found.path is None:
        if not artefact.in_this_version:
            report["status"] = NOT_IN_THIS_VERSION
        return report
    report.update(path=str(found.path), place=found.place)
    framework = artefact.loaded_by
    if framework in _loader.FRAMEWORK_VERSIONS and util.find_spec(framework) is None:
        version = _loader.FRAMEWORK_VERSIONS[framework]
        remedy = f"{framework} is not installed: pip install {framework}=={version}"
        return {**report, "status": NEEDS_FRAMEWORK, "error": remedy}
    answer = load_in_child(framework, found.path, time_limit_s)
    return {**report, "status": FAILS if answer["error"] else LOADS, **answer}


def load_in_child(how: str, path: Path, time_limit_s: float) -> dict[str, Any]:
    """Loads a library in a child process.

    Args:
        how: an artefact's `loaded_by`.
        path: the library.
        time_limit_s: the child and all that it started are killed after this many seconds.

    Returns:
        What the child answered; `error` says how it ended where it did not answer. `status` is in
        it where an error does not mean that the library is broken.
    """
    # A file and not a pipe: whatever the child leaves running cannot keep us waiting for its end.
    with tempfile.TemporaryFile("w+") as answer, tempfile.TemporaryFile("w+b") as noise:
        descriptor = answer.fileno()
        child = subprocess.Popen(
            [sys.executable, "-m", "taco.cli.probe_child", how, str(path), str(descriptor)],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=noise,
            stderr=subprocess.STDOUT,
            pass_fds=(descriptor,),
            start_new_session=True,
        )
        try:
            code = child.wait(time_limit_s)
        except BaseException as error:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return {"error": f"Loading it did not end within {time_limit_s:g} s."}
        answer.seek(0)
        text = answer.read()
        try:
            return dict(json.loads(text))
        except ValueError:
            return {"error": _how_it_ended(code) + _last_words(noise)}


def _environment() -> dict[str, str]:
    paths = [str(_PYTHON_ROOT), os.environ.get("PYTHONPATH", "")]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONFAULTHANDLER": ""}
    return {**quiet, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"Loading it ended the process with exit code {code}."
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"Loading it crashed the process ({name})."


def _last_words(noise: Any) -> str:
    size = noise.seek(0, os.SEEK_END)
    noise.seek(max(0, size - _STDERR_TAIL))
    lines = noise.read().decode(errors="replace").strip().splitlines()
    return f" Its last words: {lines[-1].strip()}" if lines else ""
