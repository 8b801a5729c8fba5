"""Every Python example of README.md and docs/ runs as it stands."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples() -> list:
    """One parameter for each ```python block; a mere fragment of a program is marked ```py."""
    found = []
    for page in PAGES:
        text = page.read_text() if page.exists() else ""
        for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text[: block.start()].count("\n") + 2
            found.append(pytest.param(block.group(1), id=f"{page.relative_to(ROOT)}:{line}"))
    return found


@pytest.mark.parametrize("program", examples())
def test_example_runs(program, tmp_path, tf_library):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "python"),
        "TACO_LIBRARY_PATH": str(tf_library.parent),
        "MPLBACKEND": "agg",
    }
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-4000:]
