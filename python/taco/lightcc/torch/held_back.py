"""What TopK holds back, in an optimizer's state_dict, and in worlds of another size.

The sum over the ranks of what they hold is still due to the parameters. It is averaged when it
travels, over the ranks of that time: in a world of another size it has to be scaled.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from taco.lightcc.adaptive.residuals import Parts

KEY = "lightcc"
"""Where it stands in a state_dict."""


def pack(parts: Parts, rank: int, size: int, average: bool, steps: int) -> dict[str, Any]:
    """For the state_dict.

    Args:
        parts: this rank's, by parameter name.
        rank: this rank.
        size: ranks of the job.
        average: whether the reduction divides by the number of ranks.
        steps: of training so far, for the warm-up.
    """
    copies = {
        name: {kind: tensor.clone() for kind, tensor in kinds.items()}
        for name, kinds in parts.items()
    }
    return {"rank": rank, "size": size, "average": average, "steps": steps, "residuals": copies}


def unpack(record: Mapping[str, Any], rank: int, size: int) -> Parts:
    """What this rank takes of a record: all of its own, nothing of another's.

    A state_dict that rank 0 wrote and all ranks load gives rank 0 its residual, and the others
    none: it would count several times. `reshard` gives records to the ranks of another world.

    Raises:
        ValueError: it is no record.
    """
    try:
        if record["rank"] != rank:
            return {}
        factor = size / record["size"] if record["average"] else 1.0
        return {
            name: {kind: tensor * factor for kind, tensor in kinds.items()}
            for name, kinds in record["residuals"].items()
        }
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ValueError(f"state_dict[{KEY!r}] is not as LightCC writes it: {error!r}") from None


def steps_of(record: Mapping[str, Any]) -> int:
    """Steps of training, as `pack` noted them; 0: it did not yet.

    Raises:
        ValueError: it is no record.
    """
    steps = record.get("steps", 0)
    if not isinstance(steps, int) or steps < 0:
        raise ValueError(f"state_dict[{KEY!r}] is not as LightCC writes it: steps {steps!r}")
    return steps


def carried_over(record: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """A record of a process that has another rank now: it is still its own.

    Args:
        record: as `pack` made it, in the world before.
        rank: this process's rank now.
    """
    return {**record, "rank": rank}  # the size stays: the scale is applied when it is loaded


def reshard(states: Sequence[Mapping[str, Any]], size: int) -> list[dict[str, Any]]:
    """Deals what the ranks of one world hold back to those of another; nothing is lost.

    Args:
        states: the optimizer's state_dict of every rank of the old world, in any order.
        size: ranks of the new world.

    Returns:
        State_dicts for the ranks of the new world, in order: rank 0's of the old world, with what
        rank i, i + size, i + 2 size, ... held back.

    Raises:
        ValueError: states are missing, or appear twice.
    """
    records = [state[KEY] for state in states if KEY in state]
    if not records:
        return [dict(states[0]) for _ in range(size)]
    old = records[0]["size"]
    ranks = sorted(record["rank"] for record in records)
    if ranks != list(range(old)):
        raise ValueError(
            f"the states of ranks {ranks} are there, those of 0 to {old - 1} are needed: save the "
            "state_dict on every rank"
        )
    by_rank = {record["rank"]: record for record in records}
    base = next(state for state in states if KEY in state and state[KEY]["rank"] == 0)
    result = []
    for rank in range(size):
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for source in range(rank, old, size):
            for name, kinds in by_rank[source]["residuals"].items():
                target = parts.setdefault(name, {})
                for kind, tensor in kinds.items():
                    target[kind] = target[kind] + tensor if kind in target else tensor.clone()
        # Sizes stay those of the old world: the scale is applied when it is loaded.
        record = {**by_rank[0], "rank": rank, "residuals": parts}
        result.append({**base, KEY: record})
    return result
