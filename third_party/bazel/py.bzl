"""TACO's Python rules. BUILD files use these and never the native ones. CONTRIBUTING.md has examples."""

def taco_py_library(name, **kwargs):
    """A Python library. It runs in the environment that third_party/python finds (.venv).

    Args:
      name: the target's name.
      **kwargs: as py_library's. Packages from PyPI are not named: they come with the environment.
    """
    native.py_library(
        name = name,
        srcs_version = "PY3",
        **kwargs
    )

def taco_py_test(name, srcs = None, deps = [], data = [], args = [], size = "medium", **kwargs):
    """A pytest file, run by pytest in the environment that third_party/python finds (.venv).

    `import taco` works where //python/taco is among the deps, and finds the libraries that are
    among its data. The same file runs under plain pytest, after `make build`.

    Args:
      name: the target's name; by custom x_test, of x_test.py.
      srcs: the test file, name + ".py", and its helpers; the former alone by default. Without a file of
        the target's name, the first is the test.
      deps: taco_py_library targets.
      data: files that the test reads.
      args: more arguments for pytest.
      size: as py_test's: small 1, medium 5, large 15 minutes at most.
      **kwargs: as py_test's.
    """
    srcs = srcs or [name + ".py"]
    test = name + ".py" if name + ".py" in srcs else srcs[0]
    native.py_test(
        name = name,
        size = size,
        srcs = srcs + ["//third_party/bazel:pytest_main.py"],
        args = ["$(rootpath %s)" % test] + args,
        data = data,
        legacy_create_init = 0,
        main = "//third_party/bazel:pytest_main.py",
        python_version = "PY3",
        srcs_version = "PY3",
        deps = deps,
        **kwargs
    )
