"""A table inside a Keras weights file (`.weights.h5`, or the one within `.keras`).

Keras gives each layer a store of named arrays. A table goes into it as the bytes of its own file,
cut into uint8 arrays, so that it has the same format, the same checksums and the same slots as in a
checkpoint:

    manifest        uint8: JSON, of each of the table's files
    file_0_00000    uint8: the first bytes of file 0
    file_0_00001    ...

One array is in memory at a time. The file stands in a temporary folder meanwhile.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from taco.tf import checkpoint_files
from taco.tf.dynamic_embedding import Variable
from taco.tf.keras import _temporary

_CHUNK_BYTES = 16 << 20
_MANIFEST = "manifest"
# The path of a temporary file of a table, as it stands in errors.
_TEMPORARY_PATH = re.compile(r'"[^"]*/table\.data-[^"]*"|\S*/table\.data-[\w-]+')


def save(table: Variable, store: Any) -> None:
    """Writes `table` to a Keras store: an h5 group or another mapping that takes arrays."""
    with tempfile.TemporaryDirectory(prefix=_temporary.prefix(), dir=_folder(store)) as folder:
        manifests = _write_files(table, folder)
        text = json.dumps([json.loads(manifest) for manifest in manifests])
        store[_MANIFEST] = np.frombuffer(text.encode(), np.uint8)
        for index, manifest in enumerate(manifests):
            for number, chunk in enumerate(_chunks(_file(folder, manifest))):
                store[f"file_{index}_{number:05d}"] = chunk


def load(table: Variable, store: Any, what: str) -> None:
    """Replaces the rows of `table` by those in a Keras store.

    Args:
      table: to fill.
      store: as it was given to `save`.
      what: names the layer in errors.

    Raises:
      ValueError: the store holds no table, or a corrupt one. The table is as it was.
    """
    if _MANIFEST not in store:
        raise ValueError(
            f"{what}: the file holds no dynamic table here, but {sorted(store.keys())}. Was it "
            "saved by another kind of layer?"
        )
    try:
        manifests = json.loads(np.asarray(store[_MANIFEST]).tobytes())
        with tempfile.TemporaryDirectory(prefix=_temporary.prefix(), dir=_folder(store)) as folder:
            for index, manifest in enumerate(manifests):
                _write(_file(folder, manifest), _stored_chunks(store, index))
            _restore(table, _prefix(folder), [json.dumps(each) for each in manifests], what)
    except (tf.errors.OpError, ValueError, KeyError, TypeError, OSError) as error:
        message = getattr(error, "message", None) or str(error)
        message = _TEMPORARY_PATH.sub("the table", message)
        raise ValueError(
            f"{what}: the table in {_source(store)} cannot be restored: {message}"
        ) from error


def _restore(table: Variable, prefix: str, manifests: list[str], what: str) -> None:
    """Restores `table`, whatever optimizer's slots it has and the files have, as Keras loads
    weights whatever optimizer a model is compiled with."""
    try:
        table.restore(prefix, manifests)
    except tf.errors.FailedPreconditionError as error:  # they are of two kinds; nothing was touched
        from taco.tf.keras import optimizer_state

        if not optimizer_state.goes_on():
            table.drop_slots()
            table.restore(prefix, manifests)
            return
        table.restore(prefix, manifests, vectors_only=True)
        warnings.warn(
            f"{what}: its rows are loaded, and its optimizer's slots begin afresh, as the file was "
            f"saved with another optimizer ({_TEMPORARY_PATH.sub('the table', error.message)})",
            stacklevel=2,
        )


def read_table(table: Variable) -> tuple[bytes, Iterator[np.ndarray]]:
    """The files of `table` as (manifests, arrays): what `write_table` takes."""
    with tempfile.TemporaryDirectory(prefix=_temporary.prefix()) as folder:
        manifests = [json.loads(manifest) for manifest in _write_files(table, folder)]
        sizes = [os.path.getsize(_file(folder, manifest)) for manifest in manifests]
        chunks = [chunk for each in manifests for chunk in _chunks(_file(folder, each))]
    return json.dumps({"manifests": manifests, "sizes": sizes}).encode(), iter(chunks)


def write_table(table: Variable, manifest: bytes | None, chunks: Iterable[np.ndarray]) -> None:
    """Replaces the rows of `table` by what `read_table` gave."""
    described = json.loads(manifest or b"{}")
    data = np.concatenate(list(chunks))
    with tempfile.TemporaryDirectory(prefix=_temporary.prefix()) as folder:
        start = 0
        for each, size in zip(described["manifests"], described["sizes"], strict=True):
            _write(_file(folder, each), [data[start : start + size]])
            start += size
        table.restore(_prefix(folder), [json.dumps(each) for each in described["manifests"]])


def _write_files(table: Variable, folder: str) -> list[bytes]:
    return list(checkpoint_files.save(table.handles, _prefix(folder)).numpy())


def _prefix(folder: str) -> str:
    return os.path.join(folder, "table")


def _file(folder: str, manifest: bytes | dict[str, Any]) -> str:
    described = json.loads(manifest) if isinstance(manifest, bytes) else manifest
    suffix = str(described["suffix"])
    if not suffix.startswith(".data-") or os.sep in suffix:
        raise ValueError(f"'{suffix}' is not the suffix of a table's file")
    return _prefix(folder) + suffix


def _chunks(path: str) -> Iterator[np.ndarray]:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield np.frombuffer(chunk, np.uint8)


def _stored_chunks(store: Any, index: int) -> Iterator[np.ndarray]:
    number = 0
    while (key := f"file_{index}_{number:05d}") in store:
        yield np.ascontiguousarray(store[key], np.uint8)
        number += 1


def _write(path: str, chunks: Iterable[Any]) -> None:
    with open(path, "wb") as file:
        for chunk in chunks:
            file.write(chunk)


def _source(store: Any) -> str:
    """The file of the store, for errors. Keras does not say which .keras file it reads."""
    name = getattr(getattr(store, "h5_file", None), "filename", None)
    return f'"{name}"' if isinstance(name, str) and os.path.isfile(name) else "the weights file"


def _folder(store: Any) -> str | None:
    """Beside the weights file, which is where room for its size is; None: the default."""
    path = getattr(store, "path_or_io", None)
    if isinstance(path, pathlib.Path) and getattr(store, "archive", None) is None:
        folder = path.parent
        if folder.is_dir() and os.access(folder, os.W_OK):
            return str(folder)
    return None
