"""A save that is killed at any moment leaves the last good file as it was."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from taco._loader import library_path

from tests.tf_ops._crash_child import DIM, ROWS
from tests.tf_ops._ops import make_table, ops, save

ROOT = Path(__file__).resolve().parents[2]
KILLS = 12


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


def test_a_killed_save_never_spoils_the_last_good_one(tmp_path):
    moments = random.Random(11)
    restored = make_table(dim=DIM)
    unfinished = 0
    child = None
    for _ in range(KILLS):
        child = start_child(tmp_path)
        # The second save of this child is under way from here on; one takes some milliseconds.
        saved = [child.stdout.readline() for _ in range(2)]
        assert all(saved), "the child ended by itself"
        deadline = time.monotonic() + moments.uniform(0, 0.05)
        while time.monotonic() < deadline:
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()

        manifest = (tmp_path / "manifest").read_bytes()
        ops().taco_table_restore(restored, str(tmp_path / "ckpt"), manifest)
        keys, values = ops().taco_table_export(restored, dim=DIM)
        assert sorted(keys.numpy().tolist()) == list(range(ROWS))
        assert len(np.unique(values)) == 1
        unfinished += any(name.endswith(".tmp") for name in os.listdir(tmp_path))
    assert unfinished > 0, "no kill fell into a save: the test shows nothing"

    suffix = manifest.split(b'"suffix": "')[1].split(b'"')[0].decode()
    save([restored], tmp_path / "ckpt", keep=[suffix])
    left = [name for name in os.listdir(tmp_path) if name.startswith("ckpt")]
    assert len(left) == 2, "what killed saves have left goes with the next save"
