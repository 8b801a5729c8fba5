"""Every example of README.md, CONTRIBUTING.md and docs/ does what it says: it runs, or it exists.

docs/index.md has the convention.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import taco

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import commands as shown  # noqa: E402
import pages  # noqa: E402

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
BLOCKS = {page: pages.blocks(page.read_text()) for page in PAGES}
RUNNING = [page for page, blocks in BLOCKS.items() if any(block.runs for block in blocks)]
COMMANDS = [
    pytest.param(words, id=f"{page.name}:{block.line} {' '.join(words)}")
    for page, blocks in BLOCKS.items()
    for block in blocks
    if block.language in pages.SHELLS
    for words in pages.commands(block)
]


@pytest.fixture
def environment(tmp_path):
    """A user's: `taco` and `python` on PATH, no TACO variable set."""
    (tmp_path / "bin").mkdir()
    for name, arguments in (("taco", "-m taco.cli"), ("python", "")):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        program.chmod(0o755)
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TACO_")}
    python_root = str(Path(taco.__file__).absolute().parents[1])
    python_path = filter(None, [python_root, os.environ.get("PYTHONPATH")])
    return {
        **kept,
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(python_path),
        "MPLBACKEND": "agg",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


@pytest.mark.parametrize("page", RUNNING, ids=lambda page: page.name)
def test_examples_run(page, tmp_path, environment):
    folder = tmp_path / "folder"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, str(HERE / "run_page.py"), str(page)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]


def test_readme_and_doctor_page_have_examples():
    assert {"README.md", "doctor.md"} <= {page.name for page in RUNNING}


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_exist(words):
    assert shown.complaint(words, ROOT) is None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    missing = [
        target for target in targets if "://" not in target and not (page.parent / target).exists()
    ]
    assert not missing


def test_the_index_names_every_page():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in index, page.name


def test_the_readme_has_a_place_for_the_measured_gains():
    text = (ROOT / "README.md").read_text()
    begin, end = text.index("<!-- bench:begin -->"), text.index("<!-- bench:end -->")
    assert text[begin:end].strip()
    assert text.count("<!-- bench:begin -->") == text.count("<!-- bench:end -->") == 1
