"""The wheel, installed as a user would: all that it holds works, and names no build machine.

The new environment sees the packages of .venv (TensorFlow is large, and there may be no network)
and not our sources. pip installs the wheel with all its extras, and so checks that each requirement
it names is there, in a version that it allows; nothing but the wheel is written.
"""

import json
import os
import pathlib
import re
import runpy
import subprocess
import sys
import sysconfig
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DPDK = "libharp-dpdk.so"
DPDK_IS_HERE = pathlib.Path("/usr/include/dpdk/rte_ethdev.h").is_file()

# What NCCL does first with HARP's plugin.
_HARP = """
import ctypes
import os
import taco

os.environ.update({!r})

path = taco.library_path("harp")
assert "site-packages" in str(path)
calls = (ctypes.c_void_p * 22).in_dll(ctypes.CDLL(str(path)), "ncclNetPlugin_v12")
assert ctypes.string_at(calls[0]) == b"HARP"


def call(index, *arguments):
    made = ctypes.CFUNCTYPE(ctypes.c_int, *(type(each) for each in arguments))(calls[index])
    assert made(*arguments) == 0, index


context, listener, count = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int()
null, handle = ctypes.c_void_p(), ctypes.create_string_buffer(128)
call(1, ctypes.pointer(context), ctypes.c_uint64(1), null, null, null)  # init
call(2, ctypes.pointer(count))  # devices
assert count.value == 1
call(4, context, ctypes.c_int(0), ctypes.cast(handle, ctypes.c_void_p), ctypes.pointer(listener))
call(16, listener)  # closeListen
call(20, context)  # finalize
"""

# A program for each artefact that a wheel may hold: it has to do real work with it.
USES = {
    "libtaco_tf.so": """
import tensorflow as tf
import taco
import taco.tf.dynamic_embedding as de

path = taco.library_path("tf")
assert "site-packages" in str(path), path
raw = tf.load_op_library(str(path))  # alone, as a program that does not import taco would
table = de.get_variable("items", key_dtype=tf.int64, value_dtype=tf.float32, dim=4)
keys = tf.constant([-1, 0, 2**63 - 1], tf.int64)
table.upsert(keys, tf.reshape(tf.range(12, dtype=tf.float32), (3, 4)))
assert table.lookup(keys)[2, 3] == 11
assert table.size() == 3
""",
    "libtaco_torch.so": """
import torch
import taco
from taco import _loader

assert "site-packages" in str(taco.library_path("torch"))
ops = _loader.load_torch_ops()
grad, residual = torch.arange(100.0), torch.zeros(100)
state = torch.zeros(8, dtype=torch.float64)
indices, values, count = ops.topk_compress(grad, residual, state, 10, exact=True)
assert indices.tolist() == list(range(90, 100)) and count == 10
assert torch.equal(ops.topk_decompress(indices, values, 100) + residual, grad)

from taco.lightcc.cuda import _source  # what a GPU would be given

assert "site-packages" in str(_source.INSTALLED) and "topk_pass" in _source.INSTALLED.read_text()
""",
    "libnccl-net-harp.so": _HARP.format({"HARP_IFACE": "=lo"}),
    "libharp-dpdk.so": _HARP.format(
        {
            "HARP_IO": "dpdk",
            "HARP_DPDK_ADDRESS": "10.9.0.1/24",
            "HARP_DPDK_ARGS": "--no-pci --no-huge -m 256 --no-shconf --vdev=net_ring0",
        }
    ),
}


@pytest.fixture(scope="module")
def wheel(
    tf_library, torch_library, harp_library, dpdk_library, helper_program, tmp_path_factory
) -> pathlib.Path:
    out = tmp_path_factory.mktemp("dist")
    script = ROOT / "tools" / "build_wheel.py"
    libraries = [tf_library, torch_library, harp_library, dpdk_library]
    words = ["--out", out, "--program", helper_program, *libraries]
    subprocess.run([sys.executable, script, *words], check=True)
    (path,) = out.glob("*.whl")
    return path


class Installed:
    """A fresh environment with the wheel in it."""

    def __init__(self, wheel: pathlib.Path, folder: pathlib.Path):
        self.folder = folder
        self.bin = folder / "env" / "bin"
        # Without a pip of its own, whose setuptools would hide that of .venv.
        venv = [sys.executable, "-m", "venv", "--without-pip", folder / "env"]
        subprocess.run(venv, check=True)
        (self.site,) = (folder / "env").glob("lib/python3*/site-packages")
        (self.site / "packages_of_the_build.pth").write_text(sysconfig.get_path("purelib"))
        pip = [self.bin / "python", "-m", "pip", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, "--quiet", "--no-index", f"{wheel}[tf,torch,demo]"], check=True)

    def run(self, *command: str) -> str:
        inherited = ("PYTHONPATH", "TACO_", "RUNFILES_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(inherited)}
        result = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=600
        )
        assert result.returncode == 0, result.stderr[-4000:]
        return result.stdout

    def python(self, program: str) -> str:
        return self.run(str(self.bin / "python"), "-c", program)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def libraries(installed) -> list[pathlib.Path]:
    return sorted((installed.site / "taco" / "lib").iterdir())


def test_the_name_holds_version_and_tags(wheel):
    scope: dict = {}
    exec((ROOT / "python" / "taco" / "_version.py").read_text(), scope)
    assert re.fullmatch(
        rf"taco-{re.escape(scope['__version__'])}-py3-none-manylinux_2_\d+_x86_64\.whl", wheel.name
    )


def test_it_holds_the_package_and_no_test_or_build_file(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    libraries = {f"taco/lib/{name}" for name in USES if name != DPDK or DPDK_IS_HERE}
    others = {"taco/__init__.py", "taco/lightcc/cuda/kernels.cu"}
    assert others | libraries <= set(names)
    assert libraries == {name for name in names if name.endswith(".so")}
    assert {name.split("/")[0].split("-")[0] for name in names} == {"taco"}
    (helper,) = (name for name in names if name.endswith("/data/bin/harp-helper"))
    assert not [name for name in names if "__pycache__" in name or name.endswith("BUILD")]


def test_a_library_that_was_built_without_dpdk_is_left_out(harp_library, tmp_path):
    of_use = runpy.run_path(str(ROOT / "tools" / "build_wheel.py"))["of_use"]
    empty = tmp_path / DPDK
    subprocess.run(["cc", "-shared", "-x", "c", "/dev/null", "-o", empty], check=True)
    assert not of_use(empty)
    assert of_use(harp_library)


def test_it_needs_no_newer_c_library_than_its_tag_says(wheel, libraries):
    tagged = int(re.search(r"manylinux_2_(\d+)_", wheel.name).group(1))
    for library in libraries:
        symbols = subprocess.run(
            ["objdump", "-T", library], check=True, capture_output=True, text=True
        ).stdout
        needed = [int(minor) for minor in re.findall(r"\bGLIBC_2\.(\d+)", symbols)]
        assert max(needed) <= tagged, library.name


def test_no_library_names_the_machine_that_built_it(libraries):
    for library in libraries:
        dynamic = subprocess.run(
            ["readelf", "-d", library], check=True, capture_output=True, text=True
        ).stdout
        assert "RPATH" not in dynamic and "RUNPATH" not in dynamic, library.name
        assert str(ROOT).encode() not in library.read_bytes(), library.name


def test_an_op_library_exports_nothing(libraries):
    for name in ["libtaco_tf.so", "libtaco_torch.so"]:
        (library,) = (each for each in libraries if each.name == name)
        command = ["nm", "--dynamic", "--defined-only", library]
        exported = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert exported == "", name


def test_python_imports_the_installed_package(installed):
    assert "site-packages" in installed.python("import taco; print(taco.__file__)")


def test_the_wheel_alone_was_installed(installed):
    written = {path.name.split("-")[0] for path in installed.site.iterdir()}
    assert written == {"taco", "packages_of_the_build.pth"}


def test_the_command_is_installed(installed):
    command = str(installed.bin / "taco")
    version = installed.python("import taco; print(taco.__version__)").strip()
    assert version in installed.run(command, "--version")
    assert "demo" in installed.run(command, "--help")


def test_the_helper_of_harp_is_installed_beside_it(installed):
    assert "--group" in installed.run(str(installed.bin / "harp-helper"), "--help")


def test_the_doctor_finds_every_artefact_of_the_wheel(installed, libraries):
    report = installed.run(str(installed.bin / "taco"), "doctor", "--json")
    json.loads(report)
    for library in libraries:
        assert f"site-packages/taco/lib/{library.name}" in report


def test_every_artefact_is_of_use(installed, libraries):
    for library in libraries:
        installed.python(USES[library.name])
