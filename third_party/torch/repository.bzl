"""@torch: headers and libraries of the installed PyTorch wheel, CPU or CUDA build."""

load("//third_party/python:find.bzl", "PYTHON_ENVIRON", "find_package", "find_python")

# torch.ops and the dispatcher are a C++ ABI that changes with every minor release.
_SUPPORTED = ["2.13."]

def _torch_repository_impl(repository_ctx):
    python = find_python(repository_ctx)
    found = find_package(repository_ctx, python, "torch")
    if not [prefix for prefix in _SUPPORTED if found.version.startswith(prefix)]:
        fail("PyTorch %s is installed for %s; TACO is built against %sx. " %
             (found.version, python, " or ".join(_SUPPORTED)) +
             "Remedy: pip install torch==2.13.0 there.")
    repository_ctx.symlink(found.folder + "/include", "include")
    repository_ctx.symlink(found.folder + "/lib", "lib")
    repository_ctx.symlink(Label("//third_party/torch:torch.BUILD"), "BUILD")

torch_repository = repository_rule(
    implementation = _torch_repository_impl,
    configure = True,
    environ = PYTHON_ENVIRON,
    local = True,
)
