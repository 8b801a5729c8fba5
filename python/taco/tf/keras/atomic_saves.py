"""Keras saves of models with tables, made so that a killed save spoils nothing.

Keras opens the target file and empties it before it writes. A table may take minutes to write, so
for models that hold one `model.save_weights("x.weights.h5")` and `model.save("x.keras")` write to a
temporary file in the same folder, sync it, and rename it onto the target: there is always either
the old file or the new one, whole. Models without a table are saved by Keras untouched.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

from keras.src.saving import saving_lib
from keras.src.utils import file_utils

from taco.tf.keras import _temporary
from taco.tf.keras.weight import has_table


def install() -> None:
    """Wraps Keras's two functions that write files, once."""
    for name in ("save_weights_only", "save_model"):
        stock = getattr(saving_lib, name)
        if not hasattr(stock, "_taco_stock"):
            setattr(saving_lib, name, _wrapped(stock))


def _wrapped(stock: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(stock)
    def save(model: Any, filepath: Any, *args: Any, **kwargs: Any) -> None:
        if not has_table(model) or not _is_one_local_file(filepath, args, kwargs):
            stock(model, filepath, *args, **kwargs)
            return
        with save_atomically(filepath) as temporary:
            stock(model, temporary, *args, **kwargs)

    save._taco_stock = stock  # type: ignore[attr-defined]
    return save


def _is_one_local_file(filepath: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Not a file object, a remote path, a folder (zipped=False) or a set of shards."""
    if not isinstance(filepath, (str, os.PathLike)):
        return False
    path = os.fspath(filepath)
    sharded = bool(args and isinstance(args[0], (int, float))) or kwargs.get("max_shard_size")
    return (
        path.endswith((".weights.h5", ".keras"))
        and not sharded
        and not file_utils.is_remote_path(path)
    )


@contextlib.contextmanager
def save_atomically(filepath: str | os.PathLike[str]) -> Iterator[str]:
    """Gives a temporary path to write to, and renames it onto `filepath` at the end.

    Whatever interrupts the block, `filepath` is what it was. Leftovers of killed processes are
    removed by the next save into the same folder.

    Example:

    >>> with save_atomically("model.weights.h5") as path:
    ...     model.save_weights(path)
    """
    target = os.path.abspath(os.fspath(filepath))
    folder, name = os.path.split(target)
    os.makedirs(folder, exist_ok=True)
    _temporary.remove_leftovers(folder)
    # It keeps its extension, which Keras looks at.
    temporary = os.path.join(folder, _temporary.prefix() + name)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
        _sync(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
