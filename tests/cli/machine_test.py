"""Doctor reads the machine right, whatever machine it is."""

import os
import re

import pytest
from taco.cli import machine

V1 = {"lm", "sse2"}
V2 = V1 | {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}
V3 = V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}
V4 = V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        (set(), None),
        (V1, "v1"),
        (V2, "v2"),
        (V3, "v3"),
        (V3 - {"fma"}, "v2"),
        (V4, "v4"),
        (V4 - {"popcnt"}, "v1"),
    ],
)
def test_x86_64_level(flags, level):
    assert machine.x86_64_level(flags) == level


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_cpu(tmp_path):
    flags = " ".join(sorted(V3))
    write(tmp_path, "proc/cpuinfo", f"model name\t: Fast 9000\nflags\t\t: {flags}\n")
    cpu = machine.cpu(tmp_path)
    assert cpu["model"] == "Fast 9000"
    assert (cpu["x86_64_level"], cpu["avx2"], cpu["avx512"]) == ("v3", True, False)


def test_memory(tmp_path):
    write(tmp_path, "proc/meminfo", "MemTotal:  2048 kB\nMemAvailable:  1024 kB\n")
    write(tmp_path, "sys/fs/cgroup/memory.max", "1048576\n")
    write(tmp_path, "sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n")
    memory = machine.memory(tmp_path)
    assert (memory["total"], memory["available"], memory["cgroup_limit"]) == (2**21, 2**20, 2**20)
    assert memory["huge_pages"] == "never"
    assert "echo madvise >" in memory["huge_pages_advice"]


def test_huge_pages_on_madvise_need_no_advice(tmp_path):
    write(tmp_path, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    memory = machine.memory(tmp_path)
    assert (memory["huge_pages"], memory["huge_pages_advice"]) == ("madvise", None)


def test_a_machine_that_tells_nothing_is_no_failure(tmp_path):
    assert machine.cpu(tmp_path)["x86_64_level"] is None
    assert machine.memory(tmp_path)["total"] is None


def nvidia_smi(folder, script):
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_gpus_are_listed(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, "echo 'NVIDIA A, 1024, 550.1'; echo 'NVIDIA B, [N/A], 550.1'")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert machine.gpus() == {
        "found": [
            {"name": "NVIDIA A", "memory": 2**30, "driver": "550.1"},
            {"name": "NVIDIA B", "memory": None, "driver": "550.1"},
        ],
        "note": None,
    }


@pytest.mark.parametrize(
    ("script", "timeout", "note"),
    [
        ("echo driver mismatch; exit 9", 60, r"failed \(9\): driver mismatch"),
        ("exec sleep 1000", 0.2, "gave no answer"),
    ],
)
def test_an_ailing_nvidia_smi_is_a_note(tmp_path, monkeypatch, script, timeout, note):
    nvidia_smi(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    gpus = machine.gpus(timeout)
    assert gpus["found"] == []
    assert re.search(note, gpus["note"])


def test_without_nvidia_smi_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpus()["note"].startswith("none")
