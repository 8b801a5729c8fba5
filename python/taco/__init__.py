"""TACO makes programs faster that people already have.

Importing this package costs a few milliseconds and imports no framework: the submodules come when
they are first used, and each imports only the framework that it extends.

Example:
    >>> import taco
    >>> import taco.tf.dynamic_embedding as de  # imports TensorFlow
    >>> var = de.get_variable("items", dim=16)
"""

from taco._version import __version__

TYPE_CHECKING = False  # type checkers take it for True; importing typing would cost milliseconds
if TYPE_CHECKING:
    import pathlib
    from types import ModuleType

__all__ = ["__version__", "library_path"]

# Found on first use by __getattr__, so that `import taco` imports none of them.
_SUBMODULES = frozenset({"cli", "demo", "tf"})


def library_path(name: str) -> "pathlib.Path":
    """Says where a native library of TACO lies, without loading it.

    Args:
        name: the file's name, such as `"libtaco_tf.so"`, or its short name: `"tf"`, `"torch"`,
            `"harp"`, `"goya"`.

    Returns:
        The absolute path of the file.

    Raises:
        ValueError: TACO has no library of that name.
        taco._loader.LibraryNotFoundError: the file is in none of the places looked at; the message
            lists them and says what to run. It is a FileNotFoundError.
    """
    from taco import _loader

    return _loader.library_path(name)


def __getattr__(name: str) -> "ModuleType":
    if name in _SUBMODULES:
        import importlib

        return importlib.import_module(f"taco.{name}")
    raise AttributeError(f"module 'taco' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
