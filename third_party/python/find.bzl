"""Finds the Python interpreter and what is installed in its environment, without importing it."""

# Where a repository rule lists what re-evaluates it.
PYTHON_ENVIRON = ["PYTHON_BIN_PATH"]

def find_python(repository_ctx):
    """Returns the absolute path of the interpreter that TACO is built against.

    PYTHON_BIN_PATH first, then the workspace's .venv, which `make build` creates. Never python3 on
    PATH: Bazel would keep to it when .venv appears.

    Args:
      repository_ctx: the calling repository rule's context.

    Returns:
      The path as a string. Fails with the remedy where there is no such interpreter.
    """
    chosen = repository_ctx.os.environ.get("PYTHON_BIN_PATH", "")
    if chosen:
        if not repository_ctx.path(chosen).exists:
            fail("PYTHON_BIN_PATH names %s, which does not exist. Point it at a Python interpreter, " % chosen +
                 "or unset it to use the workspace's .venv.")
        return chosen

    workspace = repository_ctx.path(Label("//:WORKSPACE")).dirname
    venv = workspace.get_child(".venv").get_child("bin").get_child("python3")
    if venv.exists:
        return str(venv)

    fail("No Python interpreter: `make build` creates .venv, or pass " +
         "--repo_env=PYTHON_BIN_PATH=/path/to/python3.")

def find_package(repository_ctx, python, package, optional = False):
    """Locates an installed package with importlib.util.find_spec.

    Args:
      repository_ctx: the calling repository rule's context.
      python: the interpreter, from find_python.
      package: the import name, such as "tensorflow".
      optional: return None instead of failing where the package is absent.

    Returns:
      struct(folder, version): the package's folder, and its distribution's version ("" if unknown).
    """
    result = repository_ctx.execute([
        python,
        str(repository_ctx.path(Label("//third_party/python:find_package.py"))),
        package,
    ])
    if result.return_code != 0:
        if optional:
            return None
        fail("%s is not installed for %s, and a target being built needs it.\n" % (package, python) +
             "Remedy: `make build` (which fills .venv), or install it there, or pass " +
             "--repo_env=PYTHON_BIN_PATH=<a Python that has it>.\n" + result.stderr)
    lines = result.stdout.split("\n")
    return struct(folder = lines[0], version = lines[1])
