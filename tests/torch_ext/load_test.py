"""Loading the library: through TACO once a process, and what it leaves behind."""

import json
import subprocess

import torch
from taco import __version__, _loader
from taco._loader import library_path

from tests.torch_ext._ops import ops


def test_build_info():
    info = json.loads(ops().build_info())
    assert info["taco"] == __version__
    assert torch.__version__.startswith(info["torch_built"])
    assert info["simd"] in ("baseline", "avx2", "avx512")


def test_the_loader_gives_the_ops_and_loads_them_once():
    first = _loader.load_torch_ops()
    assert first is _loader.load_torch_ops()
    assert first.topk_compress is ops().topk_compress


def test_no_symbol_is_exported():
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(library_path("torch"))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.strip() == ""
