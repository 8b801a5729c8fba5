"""Who takes part in the training benchmark, and how each is started."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from benchmarks.lightcc.cases import Case

DDP, HOROVOD = "ddp", "horovod"
# They run beside everybody else, wherever memory splits the contestants: ratios are to them.
ANCHORS = (DDP, HOROVOD)


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One way to train over several ranks.

    Attributes:
        name: in results.
        library: "torch", "horovod" or "taco".
        what: for readers.
        environment: variables of its processes; `{per_machine}` stands for a case's number.
        hook: DDP's communication hook: "", "powersgd1", "powersgd4" or "taco_topk".
        levels: it makes sense only where a machine has several ranks.
        chooses: it measures modes and chooses among them.
    """

    name: str
    library: str
    what: str
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hook: str = ""
    levels: bool = False
    chooses: bool = False

    def variables(self, case: Case) -> dict[str, str]:
        """The environment for a case."""
        return {
            key: value.format(per_machine=case.per_machine)
            for key, value in self.environment.items()
        }


_2D = {"LIGHT_2D_ALLREDUCE": "1", "LIGHT_INTRA_SIZE": "{per_machine}"}
_TOPK = {"LIGHT_TOPK_ALLREDUCE": "1", "LIGHT_TOPK_RATIO": "0.01", "LIGHT_TOPK_WARMUP": "0"}

_ALL = (
    Contestant(DDP, "torch", "`DistributedDataParallel` over Gloo, gradients as views of buckets"),
    Contestant("ddp_powersgd1", "torch", "the same with PowerSGD's hook, rank 1", hook="powersgd1"),
    Contestant("ddp_powersgd4", "torch", "the same with PowerSGD's hook, rank 4", hook="powersgd4"),
    Contestant(HOROVOD, "horovod", "Horovod 0.28.1 over Gloo, its defaults"),
    Contestant("taco", "taco", "LightCC, its defaults: dense and flat"),
    Contestant("taco_2d", "taco", "`LIGHT_2D_ALLREDUCE=1`, machines as groups", _2D, levels=True),
    Contestant("taco_topk", "taco", "`LIGHT_TOPK_ALLREDUCE=1`, 1%", _TOPK),
    Contestant("taco_2d_topk", "taco", "both", {**_2D, **_TOPK}, levels=True),
    Contestant("taco_auto", "taco", "`LIGHT_MODE=auto`", {"LIGHT_MODE": "auto"}, chooses=True),
    Contestant(
        "taco_auto_dense", "taco", "`LIGHT_MODE=dense`", {"LIGHT_MODE": "dense"}, chooses=True
    ),
    Contestant("ddp_taco_topk", "torch", "DDP with `taco.lightcc.topk_hook`, 1%", hook="taco_topk"),
)
CONTESTANTS: dict[str, Contestant] = {each.name: each for each in _ALL}


def taking_part(case: Case, names: list[str]) -> list[str]:
    """Those for which a case makes sense."""
    return [name for name in names if case.per_machine > 1 or not CONTESTANTS[name].levels]


def groups(case: Case, names: list[str], memory: int) -> list[list[str]]:
    """Who runs side by side: as many as fit into memory, the anchors among them.

    Args:
        case: what they train.
        names: who takes part.
        memory: bytes to be had.
    """
    anchors = [name for name in ANCHORS if name in names]
    others = [name for name in names if name not in anchors]
    room = max(1, memory // case.footprint - len(anchors))
    parts = [others[at : at + room] for at in range(0, len(others), room)] or [[]]
    return [[*anchors, *part] for part in parts]
