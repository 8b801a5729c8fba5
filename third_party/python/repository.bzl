"""@local_config_python: the toolchain that runs py_ targets, and CPython's headers."""

load("//third_party/python:find.bzl", "PYTHON_ENVIRON", "find_python")

def _python_repository_impl(repository_ctx):
    python = find_python(repository_ctx)
    query = repository_ctx.execute([
        python,
        "-c",
        "import sys, sysconfig; print(sysconfig.get_paths()['include']); print('%d.%d' % sys.version_info[:2])",
    ])
    if query.return_code != 0:
        fail("%s does not run: %s" % (python, query.stderr))
    include, version = query.stdout.strip().split("\n")
    if repository_ctx.path(include).get_child("Python.h").exists:
        repository_ctx.symlink(include, "include")
    repository_ctx.template("BUILD", Label("//third_party/python:BUILD.tpl"), {
        "%{INTERPRETER}": python,
        "%{INCLUDE}": include,
        "%{VERSION}": version,
    })

python_repository = repository_rule(
    implementation = _python_repository_impl,
    configure = True,
    environ = PYTHON_ENVIRON,
    local = True,
)
