"""Runs every test of TACO, stage by stage, and sums up: `make test` and `make soak`.

A stage is one Bazel or pytest command. All stages run, whatever fails. The last line is
`N passed, N failed` (with `, N skipped` where there are any), and the exit status says whether
something failed.
"""

import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time
import urllib.parse
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parent.parent
REPORTS = ROOT / "build" / "tests"
BAZEL = ["tools/bazel"]
BAZEL_FLAGS = shlex.split(os.environ.get("BAZEL_FLAGS", ""))
FUZZ_SECONDS = 5


@dataclass
class Counts:
    """Test cases of one stage."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Counts") -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures

    def fail(self, what: str) -> None:
        self.failed += 1
        self.failures.append(what)

    def __str__(self) -> str:
        text = f"{self.passed} passed, {self.failed} failed"
        return f"{text}, {self.skipped} skipped" if self.skipped else text


def count_junit(path: pathlib.Path, label: str) -> Counts:
    """Counts the cases of a JUnit report, as googletest, pytest and Bazel itself write them."""
    counts = Counts()
    for case in ET.parse(path).getroot().iter("testcase"):
        name = f"{label} {case.get('classname') or ''}.{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            counts.fail(name)
        elif case.find("skipped") is not None or case.get("status") == "notrun":
            counts.skipped += 1
        else:
            counts.passed += 1
    return counts


def count_bazel_events(path: pathlib.Path) -> Counts:
    """Counts the test cases that a `bazel test` reported in its build event file."""
    counts = Counts()
    for line in path.read_text().splitlines():
        event = json.loads(line)
        result = event.get("testResult")
        if result is None:
            continue
        label = event["id"]["testResult"]["label"]
        reports = [
            out["uri"] for out in result.get("testActionOutput", []) if out["name"] == "test.xml"
        ]
        found = Counts()
        for uri in reports:
            report = pathlib.Path(urllib.parse.unquote(urllib.parse.urlparse(uri).path))
            if report.exists():
                found.add(count_junit(report, label))
        # A leak found at exit, or a crash: the cases before it passed, the target did not.
        if result["status"] not in ("PASSED", "FLAKY") and not found.failed:
            found.fail(f"{label} {result['status']}")
        counts.add(found)
    return counts


def run(stage: str, command: list[str]) -> int:
    print(f"\n== {stage}: {shlex.join(command)}", flush=True)
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL).returncode


def bazel_stage(stage: str, flags: list[str], targets: list[str]) -> Counts:
    events = REPORTS / f"{stage.replace(' ', '_')}.events.json"
    events.unlink(missing_ok=True)
    quiet = ["--ui_event_filters=-info", "--test_summary=terse"]
    if not sys.stderr.isatty():  # progress is for people
        quiet.append("--noshow_progress")
    command = [*BAZEL, "test", "--keep_going", *quiet, *BAZEL_FLAGS, *flags]
    status = run(stage, [*command, f"--build_event_json_file={events}", "--", *targets])
    counts = count_bazel_events(events) if events.exists() else Counts()
    if status != 0 and not counts.failed:
        counts.fail(f"{stage}: bazel exited with status {status}")
    return counts


def pytest_stage(stage: str, args: list[str]) -> Counts:
    report = REPORTS / f"{stage.replace(' ', '_')}.xml"
    report.unlink(missing_ok=True)
    status = run(
        stage, [sys.executable, "-m", "pytest", "-q", "-rfEs", f"--junitxml={report}", *args]
    )
    counts = count_junit(report, stage) if report.exists() else Counts()
    if status != 0 and not counts.failed:
        counts.fail(f"{stage}: pytest exited with status {status}")
    return counts


def sees_a_gpu() -> bool:
    """Whether PyTorch can run the kernels for CUDA tensors here."""
    program = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", program]).returncode == 0


def stages(soak: bool) -> list:
    """(name, function that runs the stage) in order: what fails fastest first."""

    def bazel(name: str, *flags: str, targets: tuple[str, ...] = ("//...",)):
        return name, lambda: bazel_stage(name, list(flags), list(targets))

    if soak:
        seconds = os.environ["TACO_SOAK_SECONDS"]
        long = [
            f"--test_env=TACO_SOAK_SECONDS={seconds}",
            f"--test_timeout={4 * int(seconds) + 3600}",
            "--nocache_test_results",
        ]
        fuzz = [f"--test_arg=-max_total_time={seconds}"]
        return [
            bazel("fuzz", "--config=fuzz", *long, *fuzz),
            bazel("asan", "--config=asan", "--test_tag_filters=sanitize,-no_asan,-fuzz", *long),
            bazel("tsan", "--config=tsan", "--test_tag_filters=sanitize,-no_tsan,-fuzz", *long),
            bazel("tests", *long, "--test_tag_filters=-fuzz"),
        ]
    on_device = ["tests/torch_ext/cuda_on_device.py", "tests/lightcc/torch/nccl_on_devices.py"]
    gpu = [("cuda", lambda: pytest_stage("cuda", on_device))] if sees_a_gpu() else []
    return [
        bazel("tests", "--test_tag_filters=-fuzz"),
        bazel("asan", "--config=asan"),
        bazel("tsan", "--config=tsan"),
        # Tests of the build itself run Bazel, and so cannot run inside it.
        ("build", lambda: pytest_stage("build", ["tests/build"])),
        *gpu,
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--soak", action="store_true", help="the long versions")
    parser.add_argument("--stage", action="append", help="only this stage (may be repeated)")
    args = parser.parse_args()

    REPORTS.mkdir(parents=True, exist_ok=True)
    total = Counts()
    rows = []
    for name, function in stages(args.soak):
        if args.stage and name not in args.stage:
            continue
        start = time.monotonic()
        counts = function()
        rows.append((name, counts, time.monotonic() - start))
        total.add(counts)

    print()
    for failure in total.failures:
        print(f"FAILED {failure}")
    for name, counts, seconds in rows:
        print(f"{name:<8} {seconds:6.0f} s  {counts}")
    if not total.passed and not total.failed:
        total.fail("no test ran")
    print(f"\n{total}", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
