"""Runs the blocks of one page in order, in this process and the current folder.

    python run_page.py PAGE

Tracebacks name the page and its own line numbers.
"""

import contextlib
import importlib.util
import io
import linecache
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def _pages() -> ModuleType:
    # This folder is called docs, as other things are: pages.py is loaded by its place.
    place = Path(__file__).with_name("pages.py")
    spec = importlib.util.spec_from_file_location("taco_docs_pages", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _check_printed(block: Any, printed: str) -> None:
    """A comment `# prints: TEXT` promises a line of output; the promised lines come in order."""
    lines = iter(printed.splitlines())
    for promise in re.findall(r"# prints: (.*?)\s*$", block.text, re.MULTILINE):
        if promise not in lines:
            raise AssertionError(
                f"block of line {block.line}: {promise!r} was not printed, or not in that order; "
                f"what was:\n{printed}"
            )


def main(page: Path) -> None:
    """Runs every block that runs; the first one that fails ends it."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    pages = _pages()
    linecache.cache[str(page)] = (0, None, page.read_text().splitlines(keepends=True), str(page))
    for block in pages.blocks(page.read_text()):
        if not block.runs:
            continue
        sys.stderr.write(f"{page.name}:{block.line}: running\n")
        if block.language == "python":
            source = "\n" * (block.line - 1) + block.text
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(source, str(page), "exec"), namespace)
            _check_printed(block, printed.getvalue())
        else:
            subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text], check=True, env=os.environ
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
