"""@nccl: nccl.h and libnccl.so.2, from NVIDIA's wheel or from the system.

Our plugin needs neither to build (its ABI headers are our own); tests that run real collectives do.
"""

load("//third_party/python:find.bzl", "PYTHON_ENVIRON", "find_package", "find_python")

_SYSTEM = [
    ("/usr/include", "/usr/lib/x86_64-linux-gnu"),
    ("/usr/local/cuda/include", "/usr/local/cuda/lib64"),
]

def _nccl_repository_impl(repository_ctx):
    candidates = []
    wheel = find_package(repository_ctx, find_python(repository_ctx), "nvidia.nccl", optional = True)
    if wheel:
        candidates.append((wheel.folder + "/include", wheel.folder + "/lib"))
    for include, lib in candidates + _SYSTEM:
        header = repository_ctx.path(include + "/nccl.h")
        library = repository_ctx.path(lib + "/libnccl.so.2")
        if header.exists and library.exists:
            repository_ctx.symlink(header, "include/nccl.h")
            repository_ctx.symlink(library, "lib/libnccl.so.2")
            repository_ctx.symlink(Label("//third_party/nccl:nccl.BUILD"), "BUILD")
            return
    fail("NCCL (nccl.h and libnccl.so.2) was found neither in the Python environment nor on the system, " +
         "and a target being built needs it. Remedy: pip install nvidia-nccl-cu12.")

nccl_repository = repository_rule(
    implementation = _nccl_repository_impl,
    configure = True,
    environ = PYTHON_ENVIRON,
    local = True,
)
