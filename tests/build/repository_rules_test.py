"""The repository rules: their errors name the cause and the remedy."""

import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def failing_query(tmp_path_factory):
    """A function that queries a repository in a fresh Bazel of its own, and returns its errors."""
    output_base = tmp_path_factory.mktemp("bazel") / "output_base"
    bazel = ["tools/bazel", f"--output_base={output_base}", "--max_idle_secs=60"]

    def query(python: str, target: str, workspace: pathlib.Path = ROOT) -> str:
        result = subprocess.run(
            [*bazel, "query", f"--repo_env=PYTHON_BIN_PATH={python}", target],
            cwd=workspace,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert result.returncode != 0
        return result.stderr

    yield query
    subprocess.run([*bazel, "shutdown"], cwd=ROOT, check=True, capture_output=True)
    for folder in [output_base, *output_base.rglob("*")]:
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o755)
    shutil.rmtree(output_base)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python environment that holds nothing."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return str(folder / "bin" / "python3")


@pytest.mark.parametrize("package", ["tensorflow", "torch", "pybind11"])
def test_an_absent_package_is_named_with_the_python_and_the_remedy(
    failing_query, bare_python, package
):
    error = failing_query(bare_python, f"@{package}//...")
    assert f"{package} is not installed for {bare_python}" in error
    assert "make build" in error
    assert "PYTHON_BIN_PATH" in error


def test_absent_nccl_is_named_with_the_remedy(failing_query, bare_python):
    if pathlib.Path("/usr/include/nccl.h").exists():
        pytest.skip("this system has NCCL")
    assert "pip install nvidia-nccl-cu12" in failing_query(bare_python, "@nccl//...")


def test_another_tensorflow_is_refused_by_version(failing_query, bare_python, tmp_path):
    environment = tmp_path / "old"
    shutil.copytree(pathlib.Path(bare_python).parents[1], environment, symlinks=True)
    (site,) = environment.glob("lib/python3*/site-packages")
    (site / "tensorflow").mkdir()
    (site / "tensorflow" / "__init__.py").touch()
    info = site / "tensorflow_cpu-2.16.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorflow-cpu\nVersion: 2.16.2\n")
    (info / "top_level.txt").write_text("tensorflow\n")
    error = failing_query(str(environment / "bin" / "python3"), "@tensorflow//...")
    assert "TensorFlow 2.16.2 is installed" in error
    assert "2.21." in error


def test_a_missing_interpreter_is_named(failing_query):
    assert "PYTHON_BIN_PATH names /nowhere/python3" in failing_query(
        "/nowhere/python3", "@tensorflow//..."
    )


def test_before_the_setup_no_other_python_is_taken(failing_query, tmp_path):
    shutil.copytree(
        ROOT,
        tmp_path / "taco",
        ignore=shutil.ignore_patterns(".git", ".venv*", "bazel-*", "build", "dist"),
        symlinks=True,
    )
    error = failing_query("", "@local_config_python//...", tmp_path / "taco")
    assert "No Python interpreter" in error
    assert "make build" in error
