"""The laws of the house: who may depend on whom. CONTRIBUTING.md states them for people."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

SYSTEMS = ("tf_ops", "torch_ext", "nccl_plugin", "providers")
CORES = (
    "tf_ops/embedding/table",
    "tf_ops/adaptive_jit/policy",
    "torch_ext/base",
    "torch_ext/topk",
    "torch_ext/fusion",
    "torch_ext/cma",
    "torch_ext/inference",
    "nccl_plugin/protocol",
    "providers/goya",
)
# A core that the other cores of its system may use: errors, threads, instruction sets.
SHARED = {"torch_ext": "torch_ext/base"}
# Who uses the finished artefacts, from outside.
OUTSIDE = ("python", "tests", "benchmarks", "examples")
# External repositories that a core may use: for its tests and benchmarks alone.
TEST_REPOSITORIES = ("@googletest//", "@google_benchmark//")
# Names of operating systems, to which Bazel 7's own C++ rules refer.
BAZELS_OWN = ("@platforms//",)
FRAMEWORK_INCLUDE = re.compile(
    r'^\s*#\s*include\s*[<"](tensorflow/|tsl/|xla/|absl/|Eigen/|unsupported/Eigen/|google/protobuf/'
    r"|torch/|ATen/|c10/|nccl[.]h|nccl_net[.]h|pybind11/|Python\.h)",
    re.MULTILINE,
)


def sources(*patterns: str) -> list[str]:
    """Files of the repository, tracked or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in output.splitlines() if (ROOT / name).is_file()]


def has_targets(folder: str) -> bool:
    """Whether the folder is there and holds a Bazel package."""
    return any(True for _ in (ROOT / folder).rglob("BUILD"))


def packages(folders) -> str:
    """A query for every target of those folders that exist."""
    return " + ".join(f"//{folder}/..." for folder in folders if has_targets(folder)) or "set()"


@pytest.mark.parametrize("core", [core for core in CORES if has_targets(core)])
def test_a_core_depends_on_nothing_but_itself_and_the_test_libraries(query, core):
    own = [core, SHARED.get(core.split("/")[0], core)]
    strangers = {
        label
        for label in query(f"kind(rule, deps(//{core}/...))")
        if not label.startswith(tuple(f"//{folder}{end}" for folder in own for end in ":/"))
        and not label.startswith("//third_party/bazel:")
        and not label.startswith(TEST_REPOSITORIES + BAZELS_OWN)
    }
    assert not strangers


@pytest.mark.parametrize("core", [core for core in CORES if (ROOT / core).is_dir()])
def test_a_core_includes_no_framework_header(core):
    guilty = {
        name: match.group(1)
        for name in sources(f"{core}/*.h", f"{core}/*.cc", f"{core}/*.cu", f"{core}/*.cuh")
        if (match := FRAMEWORK_INCLUDE.search((ROOT / name).read_text()))
    }
    assert not guilty


@pytest.mark.parametrize("system", [system for system in SYSTEMS if has_targets(system)])
def test_no_system_depends_on_another(query, system):
    others = packages(other for other in SYSTEMS if other != system)
    assert not query(f"deps(//{system}/...) intersect ({others})")


@pytest.mark.parametrize("system", [system for system in SYSTEMS if has_targets(system)])
def test_no_system_depends_on_what_uses_it(query, system):
    assert not query(f"deps(//{system}/...) intersect ({packages(OUTSIDE)})")


def test_python_does_not_depend_on_its_tests(query):
    outside = packages(folder for folder in OUTSIDE if folder != "python")
    assert not query(f"deps({packages(['python'])}) intersect ({outside})")


def test_python_reaches_a_system_through_its_shared_library_alone(query):
    python = packages(["python"])
    direct = query(f"kind(rule, deps({python}, 1) intersect ({packages(SYSTEMS)}))")
    assert not {label for label in direct if not label.endswith(".so")}


def test_every_rule_comes_from_our_macros(query):
    rules = 'kind("(cc|py)_(library|binary|test|import) rule", //...)'
    assert not query(f'{rules} except attr("generator_function", "^taco_", {rules})')


def test_every_test_file_is_a_bazel_test(query):
    # tests/build runs Bazel itself, and so outside it.
    files = {
        name
        for name in sources("*_test.py", "*/test_*.py", "*_test.cc")
        if not name.startswith("tests/build/")
    }
    known = {
        label.removeprefix("//").replace(":", "/").lstrip("/")
        for label in query("labels(srcs, tests(//...))")
    }
    assert not files - known, "in no BUILD file: CONTRIBUTING.md, 'Adding a target'"


def test_visibility_forbids_what_the_laws_forbid(query):
    """Bazel refuses such an edge by itself: from outside, only the shared libraries are visible."""
    visible = query(f"visible(//python/taco, kind(rule, {packages(SYSTEMS)}))")
    assert not {label for label in visible if not label.endswith(".so")}


def test_no_file_names_a_machine():
    text = re.compile(r"(^|[\s\"'=:(])/(work|root|home)/", re.MULTILINE)
    ours = [name for name in sources("*") if not name.endswith((".png", ".lock"))]
    guilty = [
        name
        for name in ours
        if name != os.path.relpath(__file__, ROOT)
        and text.search((ROOT / name).read_text("utf-8", "replace"))
    ]
    assert not guilty
