"""@pybind11: headers of the installed pybind11 package."""

load("//third_party/python:find.bzl", "PYTHON_ENVIRON", "find_package", "find_python")

def _pybind11_repository_impl(repository_ctx):
    found = find_package(repository_ctx, find_python(repository_ctx), "pybind11")
    repository_ctx.symlink(found.folder + "/include", "include")
    repository_ctx.symlink(Label("//third_party/pybind11:pybind11.BUILD"), "BUILD")

pybind11_repository = repository_rule(
    implementation = _pybind11_repository_impl,
    configure = True,
    environ = PYTHON_ENVIRON,
    local = True,
)
