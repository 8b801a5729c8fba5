"""Runs one case: contestants take turns, round by round; those who wait are stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.embedding import memory
from benchmarks.lightcc import process
from benchmarks.lightcc.cases import Case
from benchmarks.lightcc.contestants import CONTESTANTS, Contestant, groups, taking_part
from benchmarks.lightcc.links import INTERFACE, Links
from benchmarks.lightcc.process import ContestantError, Ranks

_START_SECONDS = 180.0
_TURN_SECONDS = 300.0
_FIRST_PORT = 20_000
_MEMORY_SHARE = 0.85
_LEAST_STEPS, _MOST_STEPS = 3, 100
CHOOSING_TAKES = 4
_MODULES = {"torch": "", "horovod": "horovod.torch", "taco": "taco.lightcc.torch"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What holds for the whole run.

    Attributes:
        folder: for logs.
        names: who takes part.
        horovod: the interpreter of Horovod's environment; empty where there is none.
        rounds: turns of each contestant.
        turn_seconds: about how long a turn's measured steps take; at least three are done.
        warm_up_seconds: about how long each trains before the first round; those that choose
            their modes by measurement, CHOOSING_TAKES times as long.
        deadline: time.monotonic() after which no new round begins.
        say: told what goes on.
    """

    folder: pathlib.Path
    names: tuple[str, ...]
    horovod: str = ""
    rounds: int = 7
    turn_seconds: float = 3.0
    warm_up_seconds: float = 8.0
    deadline: float = float("inf")
    say: Callable[[str], None] = print


def run(case: Case, settings: Settings) -> dict[str, Any]:
    """Measures all contestants of a case.

    Returns:
        The case; who ran beside whom; each contestant's rounds, and a note where it failed.

    Raises:
        LinksUnavailable: this process may not make network namespaces.
    """
    names = taking_part(case, [name for name in settings.names if _can_start(name, settings)])
    parts = groups(case, names, int(memory.available() * _MEMORY_SHARE))
    result: dict[str, Any] = {
        "case": case.to_json(),
        "groups": parts,
        "contestants": {name: {"rounds": [], "note": ""} for name in names},
    }
    with Links(case.machines, case.mbits or None) as links:
        result["rtt_us"] = links.delay_us
        for number, part in enumerate(parts):
            _Group(number, part, case, settings, links, result).run()
    return result


def _can_start(name: str, settings: Settings) -> bool:
    return bool(settings.horovod) or CONTESTANTS[name].library != "horovod"


class _Group:
    """Contestants that live side by side."""

    def __init__(
        self,
        number: int,
        names: list[str],
        case: Case,
        settings: Settings,
        links: Links,
        result: dict[str, Any],
    ) -> None:
        self._number, self._case, self._settings = number, case, settings
        self._names, self._links, self._result = names, links, result
        self._ranks: dict[str, Ranks] = {}
        self._steps: dict[str, int] = {}

    def run(self) -> None:
        """All rounds."""
        with contextlib.ExitStack() as stack:
            for name in self._names:
                self._guard(name, lambda name=name: self._start(name, stack))
            for index in range(self._settings.rounds):
                if time.monotonic() > self._settings.deadline:
                    self._settings.say(f"{self._case.name}: out of time after {index} rounds")
                    break
                for name in turns(list(self._ranks), index):
                    self._guard(name, lambda name=name, index=index: self._turn(name, index))
            for name in list(self._ranks):
                self._guard(name, lambda name=name: self._finish(name))

    def _guard(self, name: str, action: Callable[[], None]) -> None:
        """A contestant that fails leaves, with the reason in the result; the others go on."""
        try:
            action()
        except ContestantError as error:
            self._settings.say(f"{name} leaves {self._case.name}: {error}")
            self._result["contestants"][name]["note"] = str(error)
            if name in self._ranks:
                self._ranks.pop(name).close()

    def _start(self, name: str, stack: contextlib.ExitStack) -> None:
        contestant, case = CONTESTANTS[name], self._case
        log = self._settings.folder / f"{name}.log"
        python = self._settings.horovod if contestant.library == "horovod" else sys.executable
        port = _FIRST_PORT + self._names.index(name)
        if contestant.library == "horovod":
            port = self._rendezvous(python, log, stack)
        module = [python, "-m", "benchmarks.lightcc.training_worker"]
        setups = [self._setup(contestant, rank, port) for rank in range(case.size)]
        ranks = Ranks(
            self._links.popen,
            [rank // case.per_machine for rank in range(case.size)],
            [
                [*self._named(contestant, setup["rank"]), *module, json.dumps(setup)]
                for setup in setups
            ],
            [self._variables(contestant, rank, port) for rank in range(case.size)],
            log,
        )
        self._ranks[name] = stack.enter_context(ranks)
        greeting = ranks.greetings(_START_SECONDS)[0]
        found = self._result["contestants"][name]
        found["versions"] = greeting["versions"]
        self._result |= {"elements": greeting["elements"], "tensors": greeting["tensors"]}
        self._warm_up(name)
        found["resident_bytes"] = ranks.resident()
        ranks.pause()

    def _rendezvous(self, python: str, log: pathlib.Path, stack: contextlib.ExitStack) -> int:
        shape = [str(self._case.machines), str(self._case.per_machine)]
        argv = [python, "-m", "benchmarks.lightcc.horovod_rendezvous", *shape]
        server = Ranks(self._links.popen, [0], [argv], [process.environment({}, ours=False)], log)
        stack.enter_context(server)
        return int(server.greetings(_START_SECONDS)[0]["port"])

    def _named(self, contestant: Contestant, rank: int) -> list[str]:
        """What stands before Horovod's command: the host's name becomes the link's address.

        Its groups of process sets forget the interface that they were told and ask for that name.
        The mount is the process's own.
        """
        if contestant.library != "horovod":
            return []
        machine = rank // self._case.per_machine
        hosts = self._settings.folder / f"hosts{machine}"
        names = f"127.0.0.1 localhost\n{self._links.address(machine)} {socket.gethostname()}\n"
        hosts.write_text(names)
        return ["sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)]

    def _setup(self, contestant: Contestant, rank: int, port: int) -> dict[str, Any]:
        case = self._case
        return {
            "model": case.model,
            "scale": case.scale,
            "rank": rank,
            "size": case.size,
            "library": contestant.library,
            "module": _MODULES[contestant.library],
            "hook": contestant.hook,
            "address": self._links.address(0),
            "port": port,
        }

    def _variables(self, contestant: Contestant, rank: int, port: int) -> dict[str, str]:
        """What a launcher would set, for whichever library reads it."""
        case, address = self._case, self._links.address(0)
        machine, local = divmod(rank, case.per_machine)
        places = {"": (rank, case.size), "LOCAL_": (local, case.per_machine)}
        places["CROSS_"] = (machine, case.machines)
        variables = {
            "GLOO_SOCKET_IFNAME": INTERFACE,
            "HOROVOD_GLOO_IFACE": INTERFACE,
            # Those who wait are stopped; none of it may count as a failure.
            "HOROVOD_GLOO_TIMEOUT_SECONDS": "7200",
            "HOROVOD_STALL_CHECK_DISABLE": "1",
            "HOROVOD_HOSTNAME": f"machine{machine}",
        }
        for level, (mine, of) in places.items():
            variables |= {f"HOROVOD_{level}RANK": str(mine), f"HOROVOD_{level}SIZE": str(of)}
        if contestant.library == "horovod":
            variables |= {
                "HOROVOD_CONTROLLER": "gloo",
                "HOROVOD_CPU_OPERATIONS": "gloo",
                "HOROVOD_GLOO_RENDEZVOUS_ADDR": address,
                "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
            }
        else:
            variables |= {"MASTER_ADDR": address, "MASTER_PORT": str(port)}
        ours = contestant.library != "horovod"
        return process.environment(variables | contestant.variables(case), ours=ours)

    def _warm_up(self, name: str) -> None:
        """A few steps tell how long one takes; then as many as the time allows."""
        last = self._train(name, _LEAST_STEPS)["seconds"][-1]
        takes = CHOOSING_TAKES if CONTESTANTS[name].chooses else 1
        more = steps_for(takes * self._settings.warm_up_seconds, last)
        seconds = self._train(name, more)["seconds"]
        self._steps[name] = steps_for(self._settings.turn_seconds, min(seconds))

    def _turn(self, name: str, index: int) -> None:
        ranks = self._ranks[name]
        ranks.resume()
        found = self._train(name, self._steps[name])
        ranks.pause()
        self._steps[name] = steps_for(self._settings.turn_seconds, min(found["seconds"]))
        self._result["contestants"][name]["rounds"].append(
            {"group": self._number, "index": index, **found}
        )

    def _train(self, name: str, steps: int) -> dict[str, Any]:
        answers = self._ranks[name].ask(_TURN_SECONDS, do="train", steps=steps)
        return together(answers, self._case.per_machine)

    def _finish(self, name: str) -> None:
        ranks = self._ranks[name]
        if CONTESTANTS[name].library == "taco":
            ranks.resume()
            text = ranks.ask(_TURN_SECONDS, do="explain")[0]["text"]
            if text:
                self._result["contestants"][name]["explained"] = text


def together(answers: list[dict[str, Any]], per_machine: int) -> dict[str, Any]:
    """A turn of all ranks.

    Args:
        answers: of each rank.
        per_machine: ranks on a machine: all of them read the same link.

    Returns:
        seconds: of each step, of the slowest rank; processor_seconds: a step, of all ranks;
        sent, received: bytes a step over the busiest machine's link.
    """
    steps = len(answers[0]["seconds"])
    firsts = answers[::per_machine]
    return {
        "seconds": [max(each) for each in zip(*(a["seconds"] for a in answers), strict=True)],
        "processor_seconds": sum(a["processor_seconds"] for a in answers) / steps,
        "sent": max(a["sent"] for a in firsts) / steps,
        "received": max(a["received"] for a in firsts) / steps,
    }


def steps_for(seconds: float, step: float) -> int:
    """How many steps take about so long; at least three, at most a hundred."""
    return max(_LEAST_STEPS, min(_MOST_STEPS, round(seconds / max(step, 1e-6))))


def turns(names: list[str], index: int) -> list[str]:
    """Each round begins with another: what the one before leaves behind helps or hinders all."""
    first = index % max(1, len(names))
    return names[first:] + names[:first]
