"""A library that cannot be loaded is reported and survived, however it fails."""

import shutil
import subprocess

from taco import _loader, _tunables
from taco.cli import probe

TF = _loader.artefact("tf")
HARP = _loader.artefact("harp")
PLENTY_S = 300


def compile_library(path, source):
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "these tests need a C compiler"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)],
        input=source,
        text=True,
        check=True,
    )
    return path


def at_load(code):
    return f"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void AtLoad(void) {{ {code} }}
"""


def test_a_good_library_loads(tmp_path):
    library = compile_library(tmp_path / "good.so", at_load(""))
    assert probe.load_in_child("dlopen", library, PLENTY_S) == {"error": None, "ops": []}


def test_what_a_library_prints_does_not_disturb_the_answer(tmp_path):
    library = compile_library(tmp_path / "loud.so", at_load('printf("{}"); fflush(stdout);'))
    assert probe.load_in_child("dlopen", library, PLENTY_S)["error"] is None


def test_garbage_is_named(tmp_path):
    library = tmp_path / "garbage.so"
    library.write_bytes(b"this is no library" * 1000)
    assert "invalid ELF header" in probe.load_in_child("dlopen", library, PLENTY_S)["error"]


def test_garbage_in_place_of_the_tensorflow_ops_is_explained(tmp_path):
    library = tmp_path / "libtaco_tf.so"
    library.write_bytes(b"this is no library" * 1000)
    error = probe.load_in_child("tensorflow", library, PLENTY_S)["error"]
    assert str(library) in error
    assert "damaged" in error


def test_garbage_in_place_of_the_torch_ops_is_explained(tmp_path):
    library = tmp_path / "libtaco_torch.so"
    library.write_bytes(b"this is no library" * 1000)
    error = probe.load_in_child("torch", library, PLENTY_S)["error"]
    assert str(library) in error
    assert "damaged" in error


def test_a_missing_symbol_is_named(tmp_path):
    source = "extern int nowhere; int *Nowhere(void) { return &nowhere; }"
    library = compile_library(tmp_path / "unresolved.so", source)
    assert "undefined symbol: nowhere" in probe.load_in_child("dlopen", library, PLENTY_S)["error"]


def test_an_abort_is_survived_and_its_last_words_are_told(tmp_path):
    code = 'fputs("the sky is falling\\n", stderr); abort();'
    library = compile_library(tmp_path / "aborts.so", at_load(code))
    error = probe.load_in_child("dlopen", library, PLENTY_S)["error"]
    assert "SIGABRT" in error
    assert "the sky is falling" in error


def test_an_exit_is_survived(tmp_path):
    library = compile_library(tmp_path / "exits.so", at_load("_exit(7);"))
    assert "exit code 7" in probe.load_in_child("dlopen", library, PLENTY_S)["error"]


def test_a_library_that_never_returns_is_given_up(tmp_path):
    library = compile_library(tmp_path / "hangs.so", at_load("for (;;) pause();"))
    assert "within 1 s" in probe.load_in_child("dlopen", library, 1)["error"]


def test_a_grandchild_that_stays_does_not_keep_us_waiting(tmp_path):
    code = "if (fork() == 0) for (;;) pause(); _exit(0);"
    library = compile_library(tmp_path / "forks.so", at_load(code))
    assert "exit code 0" in probe.load_in_child("dlopen", library, PLENTY_S)["error"]


def test_report_of_a_library_that_is_nowhere(monkeypatch):
    nothing = _loader.Search(TF, None, "", ())
    monkeypatch.setattr(_loader, "search", lambda wanted, readings: nothing)
    assert probe.artefact_report(TF)["status"] == probe.NOT_INSTALLED


def test_report_of_a_named_file_that_is_absent(tmp_path):
    readings = _tunables.read({"TACO_TF_LIBRARY": str(tmp_path / "absent.so")})
    report = probe.artefact_report(TF, readings)
    assert report["status"] == probe.FAILS
    assert "TACO_TF_LIBRARY" in report["error"]


def test_report_of_a_library_whose_framework_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(probe.util, "find_spec", lambda name: None)
    readings = _tunables.read({"TACO_LIBRARY_PATH": str(tmp_path)})
    for artefact in (TF, _loader.artefact("torch")):
        (tmp_path / artefact.file_name).touch()
        report = probe.artefact_report(artefact, readings)
        assert (report["status"], report["place"]) == (probe.NEEDS_FRAMEWORK, "TACO_LIBRARY_PATH")
        remedy = f"pip install {artefact.loaded_by}=="
        assert report["error"].startswith(f"{artefact.loaded_by} is not installed: {remedy}")


DPDK_LIBRARY = """
const char *rte_version(void) {{ return "DPDK 99"; }}
{other}
void *taco_harp_dpdk(void) {{ return {table}; }}
"""


def dpdk_report(tmp_path, **words):
    """Of a libharp-dpdk.so that is made here, beside a plugin."""
    compile_library(tmp_path / "libnccl-net-harp.so", "")
    made = DPDK_LIBRARY.format(**{"other": "", "table": "(void *)1", **words})
    compile_library(tmp_path / "libharp-dpdk.so", made)
    readings = _tunables.read({"TACO_HARP_LIBRARY": str(tmp_path / "libnccl-net-harp.so")})
    report = probe.artefact_report(_loader.artefact("harp_dpdk"), readings, PLENTY_S)
    assert report["path"] == str(tmp_path / "libharp-dpdk.so")
    return report


def test_report_of_the_library_with_dpdk(tmp_path):
    report = dpdk_report(tmp_path)
    assert (report["status"], report["error"]) == (probe.LOADS, None)
    assert report["built"] == {"dpdk_found": "DPDK 99"}


def test_report_of_the_library_that_was_built_without_dpdk(tmp_path):
    report = dpdk_report(tmp_path, table="0")
    assert report["status"] == probe.NEEDS_FRAMEWORK
    assert "built where there was no DPDK" in report["error"] and "libdpdk-dev" in report["error"]


def test_report_of_the_library_where_dpdk_is_not_installed(tmp_path):
    # Linked to a library that is then taken away.
    compile_library(tmp_path / "librte_ethdev.so.99", "int rte_absent(void) { return 0; }")
    compile_library(tmp_path / "libnccl-net-harp.so", "")
    library = tmp_path / "libharp-dpdk.so"
    command = ["cc", "-shared", "-fPIC", "-Wl,--no-as-needed", "-x", "c", "/dev/null", "-x", "none"]
    absent = f"-l:{'librte_ethdev.so.99'}"
    subprocess.run([*command, f"-L{tmp_path}", absent, "-o", library], check=True)
    (tmp_path / "librte_ethdev.so.99").unlink()
    readings = _tunables.read({"TACO_HARP_LIBRARY": str(tmp_path / "libnccl-net-harp.so")})
    report = probe.artefact_report(_loader.artefact("harp_dpdk"), readings, PLENTY_S)
    assert report["status"] == probe.NEEDS_FRAMEWORK
    assert "librte_ethdev.so.99" in report["error"] and "install DPDK 22.11" in report["error"]


def test_report_of_a_broken_library_with_dpdk(tmp_path):
    report = dpdk_report(
        tmp_path, other="extern int nowhere; int *Nowhere(void) { return &nowhere; }"
    )
    assert report["status"] == probe.FAILS
    assert "undefined symbol: nowhere" in report["error"]


def test_report_of_a_library_that_crashes(tmp_path):
    library = compile_library(tmp_path / "libnccl-net-harp.so", at_load("abort();"))
    readings = _tunables.read({"TACO_HARP_LIBRARY": str(library)})
    report = probe.artefact_report(HARP, readings, PLENTY_S)
    assert (report["status"], report["path"]) == (probe.FAILS, str(library))
    assert "SIGABRT" in report["error"]
