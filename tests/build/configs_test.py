"""The configurations of .bazelrc that `make test` has no stage for: ubsan, debug, native.

Each builds and runs one small core of each system: a configuration that nobody builds rots, as a
compiler warns of other things at another optimisation or instruction set.
"""

import os
import pathlib
import shlex
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL_CORES = (
    "//tf_ops/embedding/table:lookup_kernels_test",  # index and rows, at each instruction set
    "//nccl_plugin/protocol:packet_test",
    "//torch_ext/topk:selection_test",
)


@pytest.mark.parametrize("config", ["ubsan", "debug", "native"])
def test_the_small_cores_build_and_pass(config):
    flags = ["--noshow_progress", *shlex.split(os.environ.get("BAZEL_FLAGS", ""))]
    result = subprocess.run(
        ["tools/bazel", "test", "--keep_going", f"--config={config}", *flags, "--", *SMALL_CORES],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
