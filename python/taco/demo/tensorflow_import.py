"""Imports what the demo needs beyond numpy and rich, before anything is computed."""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from taco.demo.errors import DemoError

_REMEDY = (
    "in a checkout `make demo` installs it; elsewhere it comes with the wheel's extra: "
    "`pip install 'taco-<version>.whl[demo]'`"
)


def require_matplotlib() -> None:
    """Fails before the training, not after it, where the plot cannot be drawn.

    Raises:
        DemoError: matplotlib is missing.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise DemoError(
            "matplotlib is not installed",
            _REMEDY,
        )


def import_tensorflow() -> None:
    """Imports TensorFlow and Keras 3 on it; what its libraries print is kept for an error.

    Raises:
        DemoError: One of them is missing or broken.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        with _held_stderr():
            importlib.import_module("tensorflow")
            importlib.import_module("keras")
    except ImportError as error:
        raise DemoError(
            f"TensorFlow cannot be imported: {error}",
            _REMEDY,
        ) from error


@contextmanager
def _held_stderr() -> Iterator[None]:
    """Holds back what is written to file descriptor 2, and lets it out if the body fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
