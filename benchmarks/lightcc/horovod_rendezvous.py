"""Horovod's meeting place: `python -m benchmarks.lightcc.horovod_rendezvous MACHINES PER_MACHINE`.

horovodrun starts this server inside of itself, and the ranks by ssh. Here the ranks are started by
the benchmark, on machines that are network namespaces. Needs Horovod's own environment.
"""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.lightcc import speech


def main() -> None:
    """Serves until standard input ends; its greeting has the port."""

    def greet() -> tuple[dict[str, Any], speech.Handler]:
        from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
        from horovod.runner.http.http_server import RendezvousServer

        machines, per_machine = map(int, sys.argv[1:])
        hosts = ",".join(f"machine{each}:{per_machine}" for each in range(machines))
        server = RendezvousServer()
        port = server.start()
        server.init(get_host_assignments(parse_hosts(hosts), machines * per_machine))
        return {"port": port}, lambda request: {}

    speech.serve(greet)


if __name__ == "__main__":
    main()
