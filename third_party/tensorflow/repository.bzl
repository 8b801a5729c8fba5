"""@tensorflow: headers and libraries of the installed TensorFlow wheel."""

load("//third_party/python:find.bzl", "PYTHON_ENVIRON", "find_package", "find_python")

# The op library uses TensorFlow's C++ ABI, which changes with every minor release. These are the
# releases whose headers our adapters are written against and whose flags stand in
# third_party/bazel/flags.bzl.
_SUPPORTED = ["2.21."]

def _tensorflow_repository_impl(repository_ctx):
    python = find_python(repository_ctx)
    found = find_package(repository_ctx, python, "tensorflow")
    if not [prefix for prefix in _SUPPORTED if found.version.startswith(prefix)]:
        fail("TensorFlow %s is installed for %s; TACO's op library is built against %sx. " %
             (found.version, python, " or ".join(_SUPPORTED)) +
             "Remedy: `make build` (which fills .venv), or pip install tensorflow-cpu==2.21.0.")
    for name in ["include", "libtensorflow_framework.so.2", "libtensorflow_cc.so.2"]:
        source = found.folder + "/" + name
        if not repository_ctx.path(source).exists:
            fail("TensorFlow %s lacks %s: the wheel is damaged; reinstall it." % (found.version, source))
        repository_ctx.symlink(source, name)
    repository_ctx.template("BUILD", Label("//third_party/tensorflow:BUILD.tpl"), {
        "%{VERSION}": found.version,
    })

tensorflow_repository = repository_rule(
    implementation = _tensorflow_repository_impl,
    configure = True,
    environ = PYTHON_ENVIRON,
    local = True,
)
