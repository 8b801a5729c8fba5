"""NVRTC compiles the kernels to machine code, on a machine that has no GPU."""

import ctypes
import functools
import importlib.util
import pathlib
import re

import pytest
from taco.lightcc.cuda import _source

KERNELS = set(re.findall(r"TACO_KERNEL (\w+)\(", _source.text()))


@functools.cache
def nvrtc() -> ctypes.CDLL:
    """NVRTC from PyPI's nvidia-cuda-nvrtc-cu12, as requirements/dev.lock pins it."""
    spec = importlib.util.find_spec("nvidia.cuda_nvrtc")
    assert spec is not None and spec.submodule_search_locations
    (folder,) = spec.submodule_search_locations
    return ctypes.CDLL(str(pathlib.Path(folder) / "lib" / "libnvrtc.so.12"))


def text_of(get: str, size: str, program: ctypes.c_void_p) -> bytes:
    length = ctypes.c_size_t()
    assert getattr(nvrtc(), size)(program, ctypes.byref(length)) == 0
    text = ctypes.create_string_buffer(length.value)
    assert getattr(nvrtc(), get)(program, text) == 0
    return text.raw


def compiled(source: str, *options: str, to: str = "CUBIN") -> tuple[int, str, bytes]:
    """NVRTC's status, what it said, and the machine code (or PTX)."""
    program = ctypes.c_void_p()
    code = source.encode()
    assert nvrtc().nvrtcCreateProgram(ctypes.byref(program), code, b"taco.cu", 0, None, None) == 0
    arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    status = nvrtc().nvrtcCompileProgram(program, len(options), arguments)
    log = text_of("nvrtcGetProgramLog", "nvrtcGetProgramLogSize", program).rstrip(b"\0").decode()
    code = b"" if status else text_of(f"nvrtcGet{to}", f"nvrtcGet{to}Size", program)
    return status, log, code


@pytest.mark.parametrize("architecture", ["sm_70", "sm_80", "sm_90"])
def test_kernels_compile_to_machine_code_without_spilling(architecture):
    status, log, cubin = compiled(
        _source.text(),
        *_source.OPTIONS,
        f"--gpu-architecture={architecture}",
        "--ptxas-options=-v",
    )
    assert status == 0, log
    assert not re.search(r"\(\d+\): (warning|error)", log), log
    assert cubin.startswith(b"\x7fELF")
    assert len(KERNELS) == 9 and all(name.encode() in cubin for name in KERNELS)
    # No array of registers went to memory, and a block of 256 threads finds room for its registers.
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores", log)
    assert len(frames) == len(KERNELS) and set(frames) == {("0", "0")}, log
    assert all(int(used) <= 128 for used in re.findall(r"Used (\d+) registers", log)), log


def test_arithmetic_is_that_of_the_cpu():
    """No fused multiply-add; denormals are kept; division and root are rounded as IEEE wants."""
    options = (*_source.OPTIONS, "--gpu-architecture=compute_80")
    status, log, ptx = compiled(_source.text(), *options, to="PTX")
    assert status == 0, log
    instructions = set(re.findall(r"^\s+(?:@%p\d+ )?([a-z][\w.]+)", ptx.decode(), re.MULTILINE))
    floats = {name for name in instructions if re.search(r"\.f(32|64)$", name)}
    assert {"add.rn.f32", "mul.rn.f32", "div.rn.f32", "sqrt.rn.f32"} <= floats
    assert not {name for name in floats if "ftz" in name or "approx" in name or "fma" in name}


def test_an_error_names_the_file_and_line():
    broken = _source.text().replace("step.residual[begin + i] = v[j];", "no_such_thing;")
    status, log, _ = compiled(broken, *_source.OPTIONS, "--gpu-architecture=sm_80")
    assert status != 0
    assert re.search(r'torch_ext/cuda/topk_pass\.cu\(\d+\): error: .*"no_such_thing"', log), log
