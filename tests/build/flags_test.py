"""The flags of third_party/bazel against the frameworks that they have to match."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FLAGS = (ROOT / "third_party" / "bazel" / "flags.bzl").read_text()


def flags_of(name: str) -> list[str]:
    """The quoted strings of a list in flags.bzl, lists that it names included."""
    text = re.search(rf"^{name} = (.*?)\]$", FLAGS, re.MULTILINE | re.DOTALL).group(1)
    own = re.findall(r'"([^"]+)"', text)
    return own + [
        flag for other in re.findall(r"\b([A-Z][A-Z0-9]+)\b +\+", text) for flag in flags_of(other)
    ]


def test_tensorflow_flags_are_those_of_the_wheel():
    program = "import tensorflow as tf; print('\\n'.join(tf.sysconfig.get_compile_flags()))"
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    wanted = {
        flag.replace("--std=", "-std=") for flag in output.split() if not flag.startswith("-I")
    }
    assert set(flags_of("TENSORFLOW_COPTS")) == wanted


def test_every_simd_level_keeps_only_its_own_namespace_global(tmp_path):
    """Else the linker may give a caller without AVX-512 the AVX-512 copy of an inline function."""
    source = tmp_path / "kernel.cc"
    source.write_text(
        "#include <vector>\n"
        "namespace taco::v4 {\n"
        "float F(std::vector<float> v) { v.push_back(1); return v.back(); }\n"
        "}\n"
    )
    compiled, archive, out = (str(tmp_path / name) for name in ("k.o", "libk.a", "out.o"))
    # Unoptimised, so that the inline functions of std::vector stand in the object.
    subprocess.run(["g++", "-O0", "-fPIC", "-c", str(source), "-o", compiled], check=True)
    subprocess.run(["ar", "rcs", archive, compiled], check=True)
    localize = ROOT / "third_party" / "bazel" / "localize.sh"
    subprocess.run([localize, "v4", out, archive], check=True)

    def defined(path: str) -> list[str]:
        command = ["nm", "--extern-only", "--defined-only", "-C", path]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [line.split(maxsplit=2)[2] for line in lines.splitlines()]

    assert any(name.startswith("std::vector") for name in defined(compiled))
    assert [name for name in defined(out) if not name.startswith("DW.ref.")] == [
        "taco::v4::F(std::vector<float, std::allocator<float> >)"
    ]
