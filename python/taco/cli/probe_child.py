"""Loads one native library and tells what came of it. Run as a program, by probe.py alone.

    python -m taco.cli.probe_child HOW PATH FD

HOW is an artefact's `loaded_by`. The answer is one JSON object, written to the file descriptor FD;
stdout and stderr belong to the frameworks, which write there as they like. Whoever waits for the
answer must also bear that this process crashes, hangs or says nothing: that is why it exists.
"""

import json
import os
import re
import sys
from typing import Any


def main(argv: list[str]) -> int:
    """Loads the library and answers; the exit code says nothing that the answer does not."""
    how, path, descriptor = argv
    try:
        answer = {"error": None, **_LOADERS[how](path)}
    except Exception as error:  # whatever it is, doctor shows it
        answer = {"error": str(error) or type(error).__name__}
    with os.fdopen(int(descriptor), "w", encoding="utf-8") as pipe:
        json.dump(answer, pipe)
    # Nothing of a library under suspicion runs once the answer is out, destructors included.
    sys.stdout.flush()
    os._exit(0)


def _tensorflow(path: str) -> dict[str, Any]:
    os.environ["TACO_TF_LIBRARY"] = path
    from taco import _loader

    ops = _loader.load_tf_ops()
    # The generated module holds a function an op, in snake case, and helpers of TensorFlow's own.
    names = sorted(name for name in vars(ops) if re.fullmatch(r"taco_[a-z0-9_]+", name))
    names = [name for name in names if not name.endswith("_eager_fallback")]
    built: dict[str, Any] = {}
    if "taco_version" in names:
        built = json.loads(ops.taco_version().numpy())
    return {"ops": names, "built": built}


def _torch(path: str) -> dict[str, Any]:
    os.environ["TACO_TORCH_LIBRARY"] = path
    from taco import _loader

    ops = _loader.load_torch_ops()
    import torch

    registered = torch._C._dispatch_get_all_op_names()
    return {
        "ops": sorted(name for name in registered if name.startswith("taco::")),
        "built": json.loads(ops.build_info()),
    }


def _dlopen(path: str) -> dict[str, Any]:
    import ctypes

    ctypes.CDLL(path)
    return {"ops": []}


def _dpdk(path: str) -> dict[str, Any]:
    import ctypes

    needed = "it is needed for HARP_IO=dpdk alone"
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        if re.search(r"\blibrte_\w+\.so[.\d]*: cannot open", str(error)) is None:
            raise
        remedy = "install DPDK 22.11 (Debian 12: apt-get install libdpdk-dev)"
        return _without_framework(f"{error}: {remedy}; {needed}")
    library.taco_harp_dpdk.restype = ctypes.c_void_p
    if library.taco_harp_dpdk() is None:
        remedy = "install it (Debian 12: apt-get install libdpdk-dev) and build again"
        return _without_framework(f"It was built where there was no DPDK: {remedy}; {needed}")
    library.rte_version.restype = ctypes.c_char_p  # of DPDK, to which it is linked
    return {"ops": [], "built": {"dpdk_found": library.rte_version().decode()}}


def _without_framework(remedy: str) -> dict[str, Any]:
    from taco.cli import probe

    return {"error": remedy, "status": probe.NEEDS_FRAMEWORK}


_LOADERS = {"tensorflow": _tensorflow, "torch": _torch, "dlopen": _dlopen, "dpdk": _dpdk}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
