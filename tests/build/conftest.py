"""Shared by the tests of the build. They run Bazel, and so run outside it, by plain pytest.

They expect what `make test` has set up: Bazel, .venv with both lock files.
"""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def bazel(*args: str) -> str:
    """Runs Bazel in the workspace and returns its standard output."""
    command = ["tools/bazel", *args]
    result = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="session")
def query():
    """A function from a Bazel query to the set of lines that answer it."""

    def ask(expression: str, output: str = "label") -> set[str]:
        return set(
            bazel("query", "--noimplicit_deps", f"--output={output}", expression).splitlines()
        )

    return ask


@pytest.fixture(scope="session")
def tf_library() -> pathlib.Path:
    """libtaco_tf.so, built."""
    bazel("build", "--noshow_progress", "//tf_ops:libtaco_tf.so")
    return ROOT / "bazel-bin" / "tf_ops" / "libtaco_tf.so"


@pytest.fixture(scope="session")
def torch_library() -> pathlib.Path:
    """libtaco_torch.so, built."""
    bazel("build", "--noshow_progress", "//torch_ext:libtaco_torch.so")
    return ROOT / "bazel-bin" / "torch_ext" / "libtaco_torch.so"


@pytest.fixture(scope="session")
def harp_library() -> pathlib.Path:
    """libnccl-net-harp.so, built."""
    bazel("build", "--noshow_progress", "//nccl_plugin:libnccl-net-harp.so")
    return ROOT / "bazel-bin" / "nccl_plugin" / "libnccl-net-harp.so"


@pytest.fixture(scope="session")
def dpdk_library() -> pathlib.Path:
    """libharp-dpdk.so, built; without DPDK where that is not installed."""
    bazel("build", "--noshow_progress", "//nccl_plugin:libharp-dpdk.so")
    return ROOT / "bazel-bin" / "nccl_plugin" / "libharp-dpdk.so"


@pytest.fixture(scope="session")
def helper_program() -> pathlib.Path:
    """harp-helper, built."""
    bazel("build", "--noshow_progress", "//nccl_plugin/tools/harp_helper:harp-helper")
    return ROOT / "bazel-bin" / "nccl_plugin" / "tools" / "harp_helper" / "harp-helper"
