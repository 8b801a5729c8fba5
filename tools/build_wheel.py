"""Builds TACO's wheel: python/taco with the given native libraries in taco/lib/.

The wheel serves every CPython that pyproject.toml allows (no library of ours uses Python's C
interface), on every Linux whose C and C++ libraries are new enough for the symbols used; auditwheel
reads those from the libraries and names them in the tag.

libharp-dpdk.so is in it where the build machine has DPDK. DPDK itself is the user's: nothing opens
that library until HARP is asked for DPDK.
"""

import argparse
import os
import pathlib
import runpy
import shutil
import subprocess
import sys
import warnings

import setuptools
from setuptools.command.bdist_wheel import bdist_wheel

ROOT = pathlib.Path(__file__).resolve().parent.parent

# In the process that loads an op library these are there already, from the framework's own wheel.
PROVIDED_BY_THE_HOST = [
    "libtensorflow_framework.so.2",
    "libtensorflow_cc.so.2",
    "libc10.so",
    "libtorch.so",
    "libtorch_cpu.so",
    "librte_*.so.*",
]

# A library that is built without the thing that it is for, where that is absent, and is of no use
# then; and how one tells: by a library that it is linked to.
OPTIONAL = {"libharp-dpdk.so": "librte_ethdev.so"}


class NativeDistribution(setuptools.Distribution):
    """Holds native code, though setuptools compiled none of it."""

    def has_ext_modules(self) -> bool:
        return True


class AnyPythonWheel(bdist_wheel):
    """Native, and yet for any Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


def of_use(library: pathlib.Path) -> bool:
    """Whether a library is worth its place in the wheel."""
    wanted = OPTIONAL.get(library.name)
    if wanted is None:
        return True
    command = ["readelf", "--dynamic", "--wide", library]
    return wanted in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def copy_stripped(file: pathlib.Path, folder: pathlib.Path) -> None:
    """Copies a library or a program, without what only a linker needs."""
    folder.mkdir(exist_ok=True)
    copy = folder / file.name
    shutil.copyfile(file, copy)
    subprocess.run(["strip", "--strip-unneeded", copy], check=True)
    copy.chmod(0o755)


def stage(
    folder: pathlib.Path, libraries: list[pathlib.Path], programs: list[pathlib.Path]
) -> None:
    """Lays out in `folder` what goes into the wheel."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(
        ROOT / "python" / "taco",
        folder / "python" / "taco",
        ignore=shutil.ignore_patterns("__pycache__", "BUILD", "lib"),
    )
    for name in ["pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / name, folder / name)
    # The CUDA kernels are compiled where they are used, from one text.
    source = runpy.run_path(str(ROOT / "python" / "taco" / "lightcc" / "cuda" / "_source.py"))
    kernels = folder / "python" / "taco" / "lightcc" / "cuda" / source["INSTALLED"].name
    kernels.write_text(source["assemble"](ROOT))
    for library in libraries:
        copy_stripped(library, folder / "python" / "taco" / "lib")
    for program in programs:
        copy_stripped(program, folder / "bin")


def build(
    libraries: list[pathlib.Path],
    programs: list[pathlib.Path],
    out: pathlib.Path,
    work: pathlib.Path,
) -> pathlib.Path:
    """Builds the wheel in `work`, and returns its path in `out`."""
    stage(work, libraries, programs)
    os.chdir(work)
    with warnings.catch_warnings():
        # It warns people who run a setup.py by hand.
        warnings.simplefilter("ignore", setuptools.SetuptoolsDeprecationWarning)
        setuptools.setup(
            distclass=NativeDistribution,
            cmdclass={"bdist_wheel": AnyPythonWheel},
            # Where pip puts the `taco` command, too.
            data_files=[("bin", [f"bin/{program.name}" for program in programs])],
            script_args=["--quiet", "bdist_wheel", "--dist-dir=untagged"],
        )
    (untagged,) = (work / "untagged").glob("*.whl")
    exclude = [f"--exclude={name}" for name in PROVIDED_BY_THE_HOST]
    audit = [sys.executable, "-m", "auditwheel", "repair", "--plat=auto", "--only-plat", *exclude]
    environment = {
        **os.environ,
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    result = subprocess.run(
        [*audit, f"--wheel-dir={work / 'tagged'}", str(untagged)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        raise SystemExit(f"auditwheel refuses the wheel:\n{result.stdout}{result.stderr}")
    (tagged,) = (work / "tagged").glob("*.whl")
    out.mkdir(parents=True, exist_ok=True)
    return pathlib.Path(shutil.copy(tagged, out / tagged.name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("libraries", nargs="+", type=pathlib.Path, help="the .so files inside")
    parser.add_argument(
        "--program",
        action="append",
        default=[],
        type=pathlib.Path,
        help="an executable that goes beside the `taco` command",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default=ROOT / "dist", help="folder of the wheel"
    )
    args = parser.parse_args()
    libraries = []
    for library in args.libraries:
        if of_use(library):
            libraries.append(library.resolve())
        else:
            print(f"{library.name} is left out: it was built without DPDK", file=sys.stderr)
    programs = [program.resolve() for program in args.program]
    print(build(libraries, programs, args.out.resolve(), ROOT / "build" / "stage"))


if __name__ == "__main__":
    main()
