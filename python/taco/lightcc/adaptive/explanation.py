"""What `hvd.explain()` gives: per bucket its mode, times, bytes at each level, and why."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from taco.lightcc.adaptive.execution import Executed
from taco.lightcc.adaptive.policy import Bucket, Policy
from taco.lightcc.adaptive.rules import reason
from taco.lightcc.engine.requests import Response


@dataclass(frozen=True)
class BucketReport:
    """One bucket.

    Attributes:
        name: of its allreduce.
        nbytes: of its gradients.
        mode: of the last step, such as "2d+topk=0.01".
        predicted: seconds in that mode; None where nothing is predicted, or on ranks other than 0.
        measured: seconds, median of the last steps (of the last step, on ranks other than 0).
        dense: seconds that the flat dense allreduce took; None where that was not measured.
        sent: bytes that this rank sent in the last step, by level: "inside" the machine, between
            machines of a "rack", "across".
        residual: norm of what was held back, over that of what there was to send.
        why: the reason for the mode; empty on ranks other than 0.
    """

    name: str
    nbytes: int
    mode: str
    predicted: float | None
    measured: float
    dense: float | None
    sent: dict[str, int]
    residual: float | None
    why: str


@dataclass(frozen=True)
class Explanation:
    """All buckets of a rank. `str()` of it is a table.

    Attributes:
        rank: whose view it is.
        buckets: in the order in which they were first reduced.
        links: by process set and kind of device ("0/cpu"), what was measured: seconds and bytes.
        events: changes of mode and of TopK's ratio, with reasons.
    """

    rank: int
    buckets: tuple[BucketReport, ...] = ()
    links: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        head = ["bucket", "MB", "mode", "predicted", "measured", "dense", "bytes sent", "why"]
        rows = [head]
        for each in self.buckets:
            rows.append(
                [
                    each.name,
                    f"{each.nbytes / 1e6:.2f}",
                    each.mode,
                    _ms(each.predicted),
                    _ms(each.measured),
                    _ms(each.dense),
                    ", ".join(f"{level} {count}" for level, count in each.sent.items()),
                    each.why,
                ]
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, *self.events])


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.2f} ms"


def explain(
    rank: int,
    latest: Sequence[tuple[Response, Executed]],
    policy: Policy | None,
    events: Sequence[str],
) -> Explanation:
    """Puts together what a rank knows.

    Args:
        rank: this rank.
        latest: the last execution of each bucket.
        policy: rank 0's.
        events: what was noted.
    """
    known = {(each.set_id, each.name): each for each in policy.buckets()} if policy else {}
    reports = []
    for response, done in latest:
        name = response.names[0]
        bucket = known.get((response.set_id, name))
        choice = bucket.choice if bucket else None
        measured = done.seconds
        predicted = dense = None
        why = ""
        if bucket is not None:
            measured = statistics.median(bucket.seconds) if bucket.seconds else measured
            why = choice.why if choice else _rule(response, done, bucket, policy)
            if bucket.guard.why and (choice is None or done.mode.ratio):
                why = bucket.guard.why
            if choice is not None:
                predicted = choice.predicted(done.mode.family) or None
                dense = choice.measured(choice.dense)
        held = done.residual_norm / done.gradient_norm if done.gradient_norm else None
        reports.append(
            BucketReport(
                name,
                response.nbytes,
                done.mode.title,
                predicted,
                measured,
                dense,
                dict(done.sent),
                held,
                why,
            )
        )
    links = {}
    if policy is not None:
        measured_costs = policy.costs().items()
        links = {f"{set_id}/{device}": asdict(costs) for (set_id, device), costs in measured_costs}
    return Explanation(rank, tuple(reports), links, tuple(events))


def _rule(response: Response, done: Executed, bucket: Bucket, policy: Policy | None) -> str:
    if bucket.wish.mode is not None:
        return "asked for by compression="
    assert policy is not None
    return reason(policy.rules, policy.deep(response), done.mode, response.nbytes)
