"""What the plugin writes for HARP_STATS is what `taco harp top` reads."""

import json
import os
import pathlib
import socket
import subprocess

from taco.harp.statistics import Follower

PERF = pathlib.Path("nccl_plugin/tools/harp_perf/harp-perf")
PLUGIN = pathlib.Path("nccl_plugin/libnccl-net-harp.so")


def test_both_ends_are_written_and_read(tmp_path):
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{made.getsockname()[1]}"
    environment = {
        **os.environ,
        "HARP_IFACE": "=lo",
        "HARP_PATHS": "3",
        "HARP_STATS": str(tmp_path / "%p.jsonl"),
        "HARP_STATS_SECONDS": "0.2",
    }
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    server = subprocess.Popen([PERF, "--listen", address], **options)
    words = ["--io", str(PLUGIN), "--sizes", "100000", "--seconds", "2", "--rounds", "1"]
    client = subprocess.Popen([PERF, "--connect", address, *words, "--pings", "10"], **options)
    _, err = client.communicate(timeout=60)
    assert client.returncode == 0, err
    assert server.wait(timeout=20) == 0
    files = sorted(tmp_path.iterdir())
    assert sorted(int(file.stem) for file in files) == sorted([server.pid, client.pid])
    follower = Follower(files)
    follower.read()
    assert follower.malformed == 0
    rows = follower.rows()
    assert {row.kind for row in rows} == {"send", "receive"}
    assert {row.state for row in rows} == {"open"}
    sends = [row for row in rows if row.kind == "send"]
    assert {row.paths for row in sends} == {3}
    used = [row for row in sends if row.rtt_us]  # the way back has carried little or nothing
    assert used and all(row.rtt_us >= row.least_rtt_us > 0 for row in used)
    # Rates are those of the last two lines, by which nothing may have been under way any more.
    written = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    for kind in ("send", "receive"):
        assert max(line["bytes"] for line in written if line["kind"] == kind) > 0
