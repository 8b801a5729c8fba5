"""Ranks that wait for one another in different collectives: found out, to be told and not to hang.

A rank says which of its names it waits for once it has waited for a while. While it waits it
submits nothing, unless another of its threads does. So what it waits for can never be met if one of
the ranks that are missing there is itself such a rank: the ranks of which this is true together
are `stuck`.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from taco.lightcc.engine.requests import Pending

Key = tuple[int, str]  # (set id, name)

_NUMBERED = re.compile(r"noname\.\d+")
_NAMED = 4  # ranks that a sentence names at most


def stuck(
    pending: Mapping[Key, Pending], missing: Callable[[Key], list[int]]
) -> dict[Key, list[int]]:
    """What can never be met, and the ranks that wait for it.

    Args:
        pending: what has been submitted by some ranks.
        missing: the ranks that have yet to submit a name.
    """
    keys = [key for key, item in pending.items() if item.waiting]
    absent = {key: missing(key) for key in keys}
    ranks = {rank for key in keys for rank in pending[key].waiting}
    while True:
        dead = [key for key in keys if not ranks.isdisjoint(absent[key])]
        free = {rank for key in keys if key not in dead for rank in pending[key].waiting}
        if ranks.isdisjoint(free):
            return {key: sorted(pending[key].waiting & ranks) for key in dead}
        ranks -= free


def mismatched_kinds(
    pending: Mapping[Key, Pending], keys: Mapping[Key, object], sets: Mapping[int, tuple[int, ...]]
) -> Iterator[tuple[list[Key], str]]:
    """Of what is stuck, that for which all members of a set have asked, as different kinds.

    Kinds have names of their own, so that an allreduce and an allgather of one name can be in
    progress together.

    Yields:
        The keys, and the sentence for who asked.
    """
    groups: dict[Key, list[Key]] = {}
    for key in keys:
        groups.setdefault((key[0], _given_name(pending[key])), []).append(key)
    for (set_id, name), group in groups.items():
        kinds = {rank: _kind(pending[key]) for key in group for rank in pending[key].requests}
        if len(set(kinds.values())) > 1 and all(rank in kinds for rank in sets.get(set_id, ())):
            first = min(kinds)
            other = next(rank for rank in sorted(kinds) if kinds[rank] != kinds[first])
            yield (
                group,
                f"{name or 'a collective without a name'}: mismatched operations: rank {first} has "
                f"{kinds[first]}, rank {other} has {kinds[other]}.",
            )


def sentence(stuck_keys: Mapping[Key, list[int]]) -> str:
    """Who waits for what."""
    waits = sorted((rank, name) for (_, name), ranks in stuck_keys.items() for rank in ranks)
    shown = ", ".join(f"rank {rank} for {name}" for rank, name in waits[:_NAMED])
    more = f" and {len(waits) - _NAMED} more" if len(waits) > _NAMED else ""
    return (
        f"ranks wait for one another, and none can go on: {shown}{more}. The members of a process "
        f"set have to call the same collectives, by the same names."
    )


def _kind(item: Pending) -> str:
    return next(iter(item.requests.values())).kind


def _given_name(item: Pending) -> str:
    """The name that the program gave; empty if it gave none."""
    request = next(iter(item.requests.values()))
    name = request.name.removeprefix(f"{request.kind}.")
    return "" if _NUMBERED.fullmatch(name) else name
