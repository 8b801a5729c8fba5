"""Saves one table again and again until it is killed: the child of save_crash_test.py.

    python -m tests.tf_ops._crash_child FOLDER

Generation g holds rows that are all g. Each manifest goes, by rename, into FOLDER/manifest.
"""

import os
import sys

import numpy as np

from tests.tf_ops._ops import make_table, save, upsert

ROWS = 200_000  # 16 MB: a save takes long enough to be caught at it
DIM = 16


def main(folder: str) -> None:
    table = make_table(dim=DIM)
    keys = np.arange(ROWS, dtype=np.int64)
    prefix = os.path.join(folder, "ckpt")
    keep: list[str] = []
    generation = 0
    while True:
        generation += 1
        upsert(table, keys, np.full((ROWS, DIM), generation, np.float32))
        [manifest] = save([table], prefix, keep=keep)
        with open(os.path.join(folder, "manifest.new"), "wb") as file:
            file.write(manifest)
        os.replace(os.path.join(folder, "manifest.new"), os.path.join(folder, "manifest"))
        keep = [manifest.split(b'"suffix": "')[1].split(b'"')[0].decode()]
        print(generation, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
