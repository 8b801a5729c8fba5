"""Machines on one machine: network namespaces, joined by links of a known rate.

    with Links(machines=2, mbits=1000) as links:
        child = links.popen(0, ["python", "worker.py"])   # runs on "machine" 0
        links.address(0)                                    # "10.83.0.1"

Inside a namespace the loopback carries what the ranks of one machine say to each other; between
two namespaces every byte passes a veth interface `link0`, which a token bucket (tc tbf) throttles
in each direction. Two machines are joined directly, more by a bridge in a namespace of its own.
Round trips take `rtt_us`, by netem or, without it, by benchmarks/lightcc/delay.py: `Links.delay_us`
is what was measured.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

INTERFACE = "link0"

_PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
_IP = shutil.which("ip", path=_PLACES) or ""
_TC = shutil.which("tc", path=_PLACES) or ""


class LinksUnavailable(RuntimeError):
    """This process may not make network namespaces, or lacks the tools to."""


@dataclasses.dataclass(frozen=True)
class Counters:
    """Bytes that left and reached a machine over its link, headers included."""

    sent: int
    received: int


class Links:
    """Network namespaces that are removed again, with all that runs in them, on leaving.

    Between, SIGTERM ends the program as Ctrl-C does, so that leaving happens. What a killed program
    left behind the next one removes.

    Args:
        machines: how many, at least one.
        mbits: rate of each machine's link in each direction, in Mbit/s; None for no limit.
        rtt_us: round-trip delay between two machines, in microseconds, where there is a limit; 0
            for the links' own.

    Attributes:
        delay_us: the round trip as measured while nothing else was sent; 0 if none was asked for.
    """

    def __init__(self, machines: int, mbits: int | None = 1000, rtt_us: int = 200) -> None:
        self.machines = machines
        self.delay_us = 0.0
        self._mbits = mbits
        self._rtt_us = rtt_us
        self._prefix = f"taco{os.getpid()}"
        self._made: list[str] = []
        self._children: list[subprocess.Popen[Any]] = []
        self._handler: Any = None

    def __enter__(self) -> "Links":
        """Makes the namespaces.

        Raises:
            LinksUnavailable: not root, no iproute2, or namespaces are forbidden here.
        """
        if not all(map(os.path.isfile, (_IP, _TC))):
            raise LinksUnavailable("network namespaces need the programs ip and tc (iproute2)")
        try:
            if threading.current_thread() is threading.main_thread():
                self._handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            _remove_orphans()
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def address(self, machine: int) -> str:
        """The IPv4 address of a machine's link."""
        return f"10.83.0.{machine + 1}"

    def popen(self, machine: int, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a process on a machine; it is killed on leaving if it still runs."""
        command = [_IP, "netns", "exec", self._name(machine), *argv]
        child = subprocess.Popen(command, **options)
        self._children.append(child)
        return child

    def counters(self, machine: int) -> Counters:
        """What the machine's link has carried so far."""
        folder = f"/sys/class/net/{INTERFACE}/statistics"
        files = [f"{folder}/tx_bytes", f"{folder}/rx_bytes"]
        sent, received = self._run(_IP, "netns", "exec", self._name(machine), "cat", *files).split()
        return Counters(int(sent), int(received))

    def close(self) -> None:
        """Ends the children and removes all namespaces; may be called again."""
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()
        self._children.clear()
        while self._made:
            subprocess.run([_IP, "netns", "delete", self._made.pop()], capture_output=True)
        if self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)
            self._handler = None

    def _make(self) -> None:
        for machine in range(self.machines):
            self._add(self._name(machine))
        if self.machines == 2:
            self._join(self._name(0), INTERFACE, self._name(1), INTERFACE)
        elif self.machines > 2:
            self._make_hub()
        for machine in range(self.machines):
            name = self._name(machine)
            self._run(_IP, "-n", name, "link", "set", "lo", "up")
            if self.machines > 1:
                address = f"{self.address(machine)}/24"
                self._run(_IP, "-n", name, "address", "add", address, "dev", INTERFACE)
                self._run(_IP, "-n", name, "link", "set", INTERFACE, "up")
        if self.machines > 1 and self._mbits is not None:
            for machine in range(self.machines):
                self._throttle(self._name(machine), self._mbits)
            if self._rtt_us:
                with contextlib.suppress(LinksUnavailable):  # their own round trips, then
                    self._delay()
                self.delay_us = self._round_trip()

    def _make_hub(self) -> None:
        hub = f"{self._prefix}hub"
        self._add(hub)
        self._run(_IP, "-n", hub, "link", "add", "bridge0", "type", "bridge")
        self._run(_IP, "-n", hub, "link", "set", "bridge0", "up")
        for machine in range(self.machines):
            port = f"port{machine}"
            self._join(self._name(machine), INTERFACE, hub, port)
            self._run(_IP, "-n", hub, "link", "set", port, "master", "bridge0", "up")

    def _throttle(self, name: str, mbits: int) -> None:
        # The burst has to hold the largest packet that the stack hands over (64 KiB), and what the
        # link carries between two ticks of the timer.
        burst = max(131072, mbits * 125)
        change = (_TC, "-n", name, "qdisc", "add", "dev", INTERFACE)
        bucket = ("tbf", "rate", f"{mbits}mbit", "burst", f"{burst}", "latency", "50ms")
        self._run(*change, "root", "handle", "1:", *bucket)

    def _delay(self) -> None:
        one_way = self._rtt_us // 2
        names = [self._name(machine) for machine in range(self.machines)]
        netem = ("parent", "1:1", "netem", "delay", f"{one_way}us", "limit", "10000")
        for name in names:
            add = (_TC, "-n", name, "qdisc", "add", "dev", INTERFACE, *netem)
            if subprocess.run(add, capture_output=True).returncode:
                break
        else:
            return
        for port in range(self.machines if self.machines > 2 else 0):
            self._run(*self._delay_program(f"{self._prefix}hub", "plain", f"port{port}"))
        for name in names:
            self._run(*self._delay_program(name, "hold", INTERFACE, str(one_way)))

    def _round_trip(self) -> float:
        there = self._delay_program(self._name(1), "answer", self.address(1))
        with subprocess.Popen(there) as answering:
            try:
                measure = self._delay_program(self._name(0), "measure", self.address(1))
                return round(float(self._run(*measure)))
            finally:
                answering.kill()

    def _delay_program(self, name: str, *arguments: str) -> list[str]:
        python = [sys.executable, str(pathlib.Path(__file__).with_name("delay.py"))]
        return [_IP, "netns", "exec", name, *python, *arguments]

    def _add(self, name: str) -> None:
        done = subprocess.run([_IP, "netns", "add", name], capture_output=True, text=True)
        if done.returncode:
            raise LinksUnavailable(
                f"cannot make a network namespace ({done.stderr.strip()}): this needs root "
                "(CAP_SYS_ADMIN and CAP_NET_ADMIN), which containers often lack"
            )
        self._made.append(name)

    def _join(self, one: str, interface: str, other: str, peer: str) -> None:
        half = (_IP, "link", "add", interface, "netns", one)
        self._run(*half, "type", "veth", "peer", "name", peer, "netns", other)

    def _name(self, machine: int) -> str:
        return f"{self._prefix}m{machine}"

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise LinksUnavailable(f"`{' '.join(command)}`: {done.stderr.strip()}")
        return done.stdout


def _remove_orphans() -> None:
    """Removes namespaces whose maker, named by its process id, is gone."""
    listed = subprocess.run([_IP, "netns", "list"], capture_output=True, text=True).stdout
    for name, maker in re.findall(r"^(taco(\d+)(?:m\d+|hub))\b", listed, re.MULTILINE):
        if not os.path.exists(f"/proc/{maker}"):
            subprocess.run([_IP, "netns", "delete", name], capture_output=True)
