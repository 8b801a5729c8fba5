"""The kernels' source: one text, as NVRTC takes it.

torch_ext/cuda holds it, beside two headers of the CPU's kernels that it shares. A wheel holds the
text itself, in kernels.cu beside this file.
"""

import functools
import re
from pathlib import Path

FILES = (
    "torch_ext/cuda/device.cuh",  # first: what the others want of the standard library
    "torch_ext/base/value_type.h",
    "torch_ext/base/half.h",
    "torch_ext/topk/magnitude.h",
    "torch_ext/cuda/block.cuh",
    "torch_ext/cuda/topk.cuh",
    "torch_ext/cuda/histogram.cuh",
    "torch_ext/cuda/topk_pass.cu",
    "torch_ext/cuda/topk_select.cu",
    "torch_ext/cuda/accumulate.cu",
    "torch_ext/cuda/fuse.cu",
)

OPTIONS = (
    "--std=c++17",
    "--device-as-default-execution-space",
    # The CPU's bits:
    "--fmad=false",
    "--ftz=false",
    "--prec-div=true",
    "--prec-sqrt=true",
)
"""For NVRTC, beside the architecture."""

INSTALLED = Path(__file__).resolve().parent / "kernels.cu"


def assemble(root: Path) -> str:
    """The text, from the files of a source tree. Errors name the file and line they are in."""
    parts = []
    for name in FILES:
        code = re.sub(r"^#include .*$", "", (root / name).read_text(), flags=re.MULTILINE)
        parts.append(f'#line 1 "{name}"\n{code}')
    return "\n".join(parts)


@functools.cache
def text() -> str:
    """The text, from the wheel or the source tree that this file stands in."""
    if INSTALLED.is_file():
        return INSTALLED.read_text()
    return assemble(INSTALLED.parents[4])
