"""A save that is killed at any moment leaves the last good file as it was."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from taco._loader import library_path

from tests.tf_ops._crash_child import DIM, ROWS
from tests.tf_ops._ops import file_of, make_table, ops, save

ROOT = Path(__file__).resolve().parents[2]


def start_child(folder: Path) -> subprocess.Popen:
    paths = [str(ROOT), str(ROOT / "python"), *sys.path]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "TACO_TF_LIBRARY": str(library_path("tf")),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.tf_ops._crash_child", str(folder)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )


def wait_for_save(folder: Path, size: int) -> None:
    """Returns when a save under way in `folder` has written so many bytes."""
    while True:
        for entry in os.scandir(folder):
            try:
                if entry.name.endswith(".tmp") and entry.stat().st_size >= size:
                    return
            except FileNotFoundError:
                pass  # renamed meanwhile


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One folder for all kills: each finds what those before it have left."""
    return tmp_path_factory.mktemp("crash")


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.6, 0.9])
def test_a_killed_save_never_spoils_the_last_good_one(folder, fraction):
    child = start_child(folder)
    try:
        # One save is complete, and its file is as large as the next one will be.
        assert child.stdout.readline(), "the child ended by itself"
        wait_for_save(folder, int(fraction * ROWS * DIM * 4))
    finally:
        child.kill()
        child.wait()
        child.stdout.close()

    restored = make_table(dim=DIM)
    manifest = (folder / "manifest").read_bytes()
    ops().taco_table_restore(restored, str(folder / "ckpt"), manifest)
    keys, values = ops().taco_table_export(restored, dim=DIM)
    np.testing.assert_array_equal(np.sort(keys), np.arange(ROWS))
    assert len(np.unique(values)) == 1


def test_what_killed_saves_have_left_goes_with_the_next_one(folder):
    manifest = (folder / "manifest").read_bytes()
    assert any(name.endswith(".tmp") for name in os.listdir(folder)), "no kill hit a save"
    [new] = save([make_table()], folder / "ckpt", keep=[json.loads(manifest)["suffix"]])
    expected = {os.path.basename(file_of(folder / "ckpt", m)) for m in (manifest, new)}
    assert {name for name in os.listdir(folder) if name.startswith("ckpt")} == expected
