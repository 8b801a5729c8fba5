"""The kernels as machine code, in a file: compiled once for each kind of GPU, and kept.

CuPy's RawModule would compile them with -ftz=true, which no option of ours overrides: what is too
small for a normal float32 would be lost. So RawModule gets what NVRTC has made already.
"""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from taco.lightcc.cuda import _source


def compiled(cupy: Any, device: int) -> Path:
    """The file, for the GPU of this number. Anything that matters and has changed makes another."""
    with cupy.cuda.Device(device) as gpu:
        made_of = (
            _source.text(),
            _source.OPTIONS,
            gpu.compute_capability,
            cupy.cuda.nvrtc.getVersion(),
        )
        name = hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]
        path = _folder() / f"{name}.cubin"
        if not path.is_file():
            code, _ = cupy.cuda.compiler.compile_using_nvrtc(_source.text(), _source.OPTIONS)
            _write(path, code)
        return path


def _folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taco" / "cuda"
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        if os.access(cache, os.W_OK):
            return cache
    return Path(tempfile.mkdtemp(prefix="taco-cuda-"))


def _write(path: Path, code: bytes) -> None:
    # In one step: other processes may be doing the same.
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(code)
    os.replace(file.name, path)
