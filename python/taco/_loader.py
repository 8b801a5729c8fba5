"""Finds TACO's native libraries and loads them, with errors that say what to do.

An artefact is looked for in this order; the first that exists is taken:

1. the file that its own environment variable names (TACO_TF_LIBRARY and the like), and then no
   other;
2. the folders of TACO_LIBRARY_PATH;
3. Bazel's runfiles, in a program that Bazel runs;
4. `lib/` inside the installed package, where a wheel puts it;
5. `bazel-bin/` of the source tree that this file stands in, where `make build` puts it.

libharp-dpdk.so is looked for where the plugin that opens it was found, and nowhere else.
"""

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from taco import _tunables
from taco._version import __version__

# The exact version that libtaco_tf.so is built against: TensorFlow's C++ interface changes with
# each release.
TENSORFLOW_VERSION = "2.21.0"

# The release that libtaco_torch.so is built against: PyTorch's C++ interface changes with each
# minor release, and not within one.
TORCH_VERSION = "2.13.0"

FRAMEWORK_VERSIONS = {"tensorflow": TENSORFLOW_VERSION, "torch": TORCH_VERSION}

_PACKAGE = Path(__file__).resolve().parent
_WORKSPACE = "taco"  # as WORKSPACE names it, which is the first part of a runfiles path
_load_lock = threading.Lock()


class LibraryNotFoundError(FileNotFoundError):
    """A native library is in none of the places where it may be."""


class LibraryLoadError(ImportError):
    """A native library was found and does not load here. The message says why."""


@dataclass(frozen=True)
class Artefact:
    """One native library.

    Attributes:
        key: its short name.
        file_name: the file's name.
        bazel_package: the folder of the source tree that builds it.
        tunable: the knob that names another file to take.
        loaded_by: `"tensorflow"`, `"torch"`, `"dpdk"` or `"dlopen"`.
        summary: what it gives.
        in_this_version: False while this version of TACO does not build it.
        beside: the short name of another one, which opens it from its own folder; empty: none.
    """

    key: str
    file_name: str
    bazel_package: str
    tunable: str
    loaded_by: str
    summary: str
    in_this_version: bool = True
    beside: str = ""


ARTEFACTS: tuple[Artefact, ...] = (
    Artefact("tf", "libtaco_tf.so", "tf_ops", "tf_library", "tensorflow", "dynamic embeddings"),
    Artefact(
        "torch",
        "libtaco_torch.so",
        "torch_ext",
        "torch_library",
        "torch",
        "gradient compression and fusion",
    ),
    Artefact(
        "harp",
        "libnccl-net-harp.so",
        "nccl_plugin",
        "harp_library",
        "dlopen",
        "NCCL over HARP",
    ),
    Artefact(
        "harp_dpdk",
        "libharp-dpdk.so",
        "nccl_plugin",
        "harp_library",
        "dpdk",
        "HARP over DPDK (HARP_IO=dpdk)",
        beside="harp",
    ),
    Artefact(
        "goya",
        "libtaco_goya.so",
        "providers",
        "goya_library",
        "dlopen",
        "Goya HL-1000 inference",
        in_this_version=False,
    ),
)


@dataclass(frozen=True)
class Search:
    """Where an artefact was looked for.

    Attributes:
        artefact: what was looked for.
        path: the file found; None if there is none.
        place: which kind of place it was found in; empty if none.
        looked: (kind of place, path) of everything looked at, in order.
    """

    artefact: Artefact
    path: Path | None
    place: str
    looked: tuple[tuple[str, Path], ...]


def artefact(name: str) -> Artefact:
    """The artefact of a file name or short name.

    Raises:
        ValueError: there is none.
    """
    for candidate in ARTEFACTS:
        if name in (candidate.key, candidate.file_name):
            return candidate
    known = ", ".join(f"{each.file_name} ({each.key})" for each in ARTEFACTS)
    raise ValueError(f"TACO has no library named {name!r}; there are {known}.")


def search(
    wanted: Artefact,
    readings: Mapping[str, _tunables.Reading] | None = None,
    package: Path = _PACKAGE,
) -> Search:
    """Looks for an artefact.

    Args:
        wanted: which one.
        readings: the knobs; those of this process by default.
        package: the folder of the `taco` package.

    Raises:
        taco._tunables.InvalidTunableError: a knob names a file or folder that does not exist.
    """
    looked = []
    for place, path in _candidates(wanted, readings, package):
        looked.append((place, path))
        if path.is_file():
            return Search(wanted, path, place, tuple(looked))
    return Search(wanted, None, "", tuple(looked))


def library_path(name: str) -> Path:
    """As `taco.library_path`."""
    wanted = artefact(name)
    found = search(wanted)
    if found.path is None:
        raise LibraryNotFoundError(not_found_message(found))
    return found.path


def not_found_message(missing: Search) -> str:
    """The sentence for a library that is nowhere: where it was looked for, and the remedy."""
    env = next(t.env for t in _tunables.TUNABLES if t.name == missing.artefact.tunable)
    lines = [f"{missing.artefact.file_name} was not found. Looked at:"]
    lines += [f"  {path}  ({place})" for place, path in missing.looked]
    if missing.artefact.in_this_version:
        lines.append(
            "In a source tree, run `make build`. Elsewhere, install TACO's wheel with pip: it "
            "holds the library."
        )
    else:
        lines.append(f"TACO {__version__} does not build it yet.")
    if missing.artefact.beside:
        opener = artefact(missing.artefact.beside).file_name
        lines.append(f"It has to stand beside {opener}, for which {env} names another place.")
    else:
        lines.append(f"To use a file from another place, set {env} to its path.")
    return "\n".join(lines)


def _candidates(
    wanted: Artefact, readings: Mapping[str, _tunables.Reading] | None, package: Path
) -> list[tuple[str, Path]]:
    if wanted.beside:
        opener = search(artefact(wanted.beside), readings, package)
        looked = opener.looked if opener.path is None else ((opener.place, opener.path),)
        return [(place, path.with_name(wanted.file_name)) for place, path in looked]
    named = _tunables.value(wanted.tunable, readings)
    if named is not None:
        return [("named by the environment", named)]
    places = [
        ("TACO_LIBRARY_PATH", folder / wanted.file_name)
        for folder in _tunables.value("library_path", readings)
    ]
    runfile = _runfile(f"{_WORKSPACE}/{wanted.bazel_package}/{wanted.file_name}")
    if runfile is not None:
        places.append(("Bazel runfiles", runfile))
    places.append(("installed package", package / "lib" / wanted.file_name))
    root = package.parent.parent
    if (root / "WORKSPACE").is_file():
        built = root / "bazel-bin" / wanted.bazel_package / wanted.file_name
        places.append(("source tree", built))
    return places


def _runfile(path: str) -> Path | None:
    try:
        import runfiles
    except ImportError:  # outside Bazel it is not needed
        return None
    try:
        found = runfiles.Create()
        location = found.Rlocation(path) if found is not None else None
    except (OSError, ValueError):  # variables left over from a Bazel run that is gone
        return None
    return Path(location) if location else None


def load_tf_ops() -> ModuleType:
    """Loads libtaco_tf.so into TensorFlow, once a process.

    Returns:
        The module of the raw ops, as `tf.load_op_library` gives it. Every call gives the same one.

    Raises:
        LibraryNotFoundError: the library is nowhere.
        LibraryLoadError: TensorFlow is missing, or of another version than the library was built
            for, or the library refers to something that this machine lacks.
        taco._tunables.InvalidTunableError: TACO_SIMD or the path of a library holds nonsense.
    """
    with _load_lock:
        return _load_tf_ops_once()


@functools.cache
def _load_tf_ops_once() -> ModuleType:
    _tunables.value("simd")  # the library acts on it; say here what is wrong with it
    path = library_path("tf")
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise LibraryLoadError(
            f"TACO's embeddings need TensorFlow, which is not installed here. Run "
            f"`pip install tensorflow=={TENSORFLOW_VERSION}` (or tensorflow-cpu).",
            name="tensorflow",
        ) from None
    try:
        ops: ModuleType = tf.load_op_library(str(path))
    except (tf.errors.OpError, RuntimeError, OSError) as error:
        message = getattr(error, "message", None) or str(error)
        raise LibraryLoadError(explain(path, message, tf.__version__), path=str(path)) from error
    return ops


def load_torch_ops() -> Any:
    """Loads libtaco_torch.so into PyTorch, once a process.

    Returns:
        `torch.ops.taco`, whose attributes are the ops; docs/lightcc_ops.md is their reference.

    Raises:
        LibraryNotFoundError: the library is nowhere.
        LibraryLoadError: PyTorch is missing, or of another release than the library was built for,
            or the library refers to something that this machine lacks.
        taco._tunables.InvalidTunableError: TACO_SIMD or the path of a library holds nonsense.
    """
    with _load_lock:
        return _load_torch_ops_once()


@functools.cache
def _load_torch_ops_once() -> Any:
    _tunables.value("simd")  # the library acts on it; say here what is wrong with it
    path = library_path("torch")
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise LibraryLoadError(
            f"TACO's LightCC needs PyTorch, which is not installed here. Run "
            f"`pip install torch=={TORCH_VERSION}`.",
            name="torch",
        ) from None
    # Before it is loaded: with another release's C++ interface, that may end the process.
    if not _same_release(torch.__version__, TORCH_VERSION):
        raise LibraryLoadError(
            explain(path, "It was not tried.", torch.__version__, "PyTorch"), path=str(path)
        )
    try:
        torch.ops.load_library(str(path))
    except (RuntimeError, OSError) as error:
        said = str(error.__cause__ or error)  # PyTorch puts a sentence of its own before it
        message = explain(path, said, torch.__version__, "PyTorch")
        raise LibraryLoadError(message, path=str(path)) from error
    if torch.version.cuda is not None:  # no other build has CUDA tensors
        from taco.lightcc import cuda

        cuda.register()
    return torch.ops.taco


def _same_release(running: str, wanted: str) -> bool:
    """Whether two versions differ in their third number at most: 2.13.1+cpu is a 2.13."""
    return running.split(".")[:2] == wanted.split(".")[:2]


def explain(path: Path, message: str, running_version: str, framework: str = "TensorFlow") -> str:
    """Turns what the dynamic linker or the framework said into a sentence with a remedy.

    Args:
        path: the library.
        message: the error's text.
        running_version: the framework's version in this process.
        framework: `"TensorFlow"` or `"PyTorch"`.
    """
    if framework == "PyTorch":
        wanted, package = TORCH_VERSION, "torch"
        fits = _same_release(running_version, wanted)
    else:
        wanted, package = TENSORFLOW_VERSION, "tensorflow"
        fits = running_version == wanted
    if "was built for TensorFlow" in message:  # the library's own check
        return message
    if not fits:
        return (
            f"{path} does not load into {framework} {running_version}: TACO is built for {wanted}. "
            f"Run `pip install {package}=={wanted}`, or rebuild TACO in this environment with "
            f"`make build`.\n  {message}"
        )
    if "undefined symbol" in message:
        remedy = (
            f"It was built against another {framework}: rebuild it in this environment with `make "
            "build`, or install TACO's wheel again."
        )
    elif "cannot open shared object file" in message:
        remedy = "A library that it needs is missing from this machine: install that one."
    elif "GLIBC" in message or "GLIBCXX" in message:
        remedy = "It was built on a newer system than this: rebuild it here with `make build`."
    elif any(text in message for text in ("invalid ELF header", "file too short", "ELF")):
        remedy = "The file is damaged: run `make build`, or install TACO's wheel again."
    else:
        remedy = "Run `taco doctor` for what is installed, or rebuild it with `make build`."
    return f"{path} does not load into {framework} {running_version}. {remedy}\n  {message}"
