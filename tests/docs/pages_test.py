"""The tests of the examples see what they must: blocks, marks, commands, and what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import commands as shown  # noqa: E402
import pages  # noqa: E402

PAGE = """\
# Title

```python
x = 1

y = x
```

- in a list:

  ```bash
  make demo
  ```

<!-- run -->
```sh
true
```

~~~text
```python
never
```
~~~
"""


def test_blocks_in_order_with_their_lines():
    assert [(b.language, b.text, b.line, b.runs) for b in pages.blocks(PAGE)] == [
        ("python", "x = 1\n\ny = x\n", 4, True),
        ("bash", "make demo\n", 12, False),
        ("sh", "true\n", 17, True),
        ("text", "```python\nnever\n```\n", 21, False),
    ]


@pytest.mark.parametrize(
    ("page", "wrong"),
    [
        ("```python\nx = 1\n", "line 1: this block is not closed"),
        ("<!-- run -->\n\n```bash\ntrue\n```\n", "line 2: .* stands before no block"),
        ("<!-- run -->\n```text\ntrue\n```\n", "line 2: .* before a block of 'text'"),
    ],
)
def test_malformed_pages_are_refused(page, wrong):
    with pytest.raises(ValueError, match=wrong):
        pages.blocks(page)


def test_commands_are_split_as_a_shell_splits_them():
    text = (
        "A=1 B=2 make demo ARGS='--rows 5 && x'  # a comment\n"
        "make build && .venv/bin/pytest tests/x_test.py::y\n"
        "python -m benchmarks.embedding \\\n  --quick | tee log\n"
    )
    block = pages.Block("bash", text, 1, False)
    assert pages.commands(block) == [
        ["make", "demo", "ARGS=--rows 5 && x"],
        ["make", "build"],
        [".venv/bin/pytest", "tests/x_test.py::y"],
        ["python", "-m", "benchmarks.embedding", "--quick"],
        ["tee", "log"],
    ]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "Makefile").write_text("demo: x\n\techo\n")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/one.py").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("make demo", None),
        ("make -j2 demo ARGS=5", None),
        ("make dmeo", "no target dmeo"),
        ("taco", None),
        ("taco --version", None),
        ("taco doctor --json", None),
        ("taco doctor --yaml", "does not tell of --yaml"),
        ("taco --jsonn", "does not tell of --jsonn"),
        ("taco docter", "no command docter"),
        ("python -m benchmarks.one --x", None),
        ("python -m benchmarks.two", "no module benchmarks.two"),
        ("python -m pytest", None),
        ("python -m nonsense_xyz", "no module nonsense_xyz"),
        ("python benchmarks/one.py", None),
        ("python benchmarks/two.py", "no file benchmarks/two.py"),
        (".venv/bin/pytest benchmarks/one.py::test -k x", None),
        ("pytest benchmarks/two.py", "no benchmarks/two.py"),
        ("git status", None),
    ],
)
def test_complaints(root, command, wrong):
    said = shown.complaint(command.split(), root)
    assert said is None if wrong is None else wrong in said


@pytest.mark.parametrize(
    ("page", "wrong"),
    [
        ("```python\nx = 1\n```\n\n```python\nprint(x)  # prints: 1\n```\n", None),
        ("<!-- run -->\n```bash\necho 5 > a\n```\n```python\nopen('a')\n```\n", None),
        ("```py\n1 / 0\n```\n\n```bash\nfalse\n```\n", None),
        ("```python\nprint(2)  # prints: 1\n```\n", "'1' was not printed"),
        ("# A page\n\n```python\nx = 1\n\nx / 0\n```\n", 'page.md", line 6'),
        ("<!-- run -->\n```bash\nfalse | true\n```\n", "returned non-zero exit status 1"),
    ],
)
def test_a_page_runs_as_it_reads(tmp_path, page, wrong):
    (tmp_path / "page.md").write_text(page)
    done = subprocess.run(
        [sys.executable, str(HERE / "run_page.py"), "page.md"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (wrong is None), done.stderr
    assert (wrong or "") in done.stderr
