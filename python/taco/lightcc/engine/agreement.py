"""What ranks have to agree about before a collective runs, and the sentence if they do not."""

from collections.abc import Callable

from taco.lightcc.engine import requests as rq
from taco.lightcc.engine.requests import Request

# Only a sum can go on with zeros in the place of a rank that has no more data.
_JOINABLE = (rq.ALLREDUCE,)
_JOINABLE_OPS = ("sum", "average", "adasum")


def disagreement(
    by_rank: dict[int, Request], members: tuple[int, ...], joined: tuple[int, ...]
) -> str:
    """Compares the requests for one name.

    Args:
        by_rank: the requests, by global rank.
        members: the process set's ranks.
        joined: members that have joined and sent none.

    Returns:
        What differs, with ranks and values; empty if nothing does.
    """
    ranks = sorted(by_rank)
    first_rank = ranks[0]
    first = by_rank[first_rank]
    for rank in ranks:
        if by_rank[rank].invalid:
            return f"{first.name}: rank {rank}: {by_rank[rank].invalid}"
    for what, of in _COMPARED:
        for rank in ranks[1:]:
            ours, theirs = of(first), of(by_rank[rank])
            if ours != theirs:
                return (
                    f"{first.name}: mismatched {what}: rank {first_rank} has {ours}, "
                    f"rank {rank} has {theirs}."
                )
    if joined and (first.kind not in _JOINABLE or first.op not in _JOINABLE_OPS):
        what = f"{first.kind} {first.op}".strip()
        return (
            f"{first.name}: {what} is not supported with join: rank {joined[0]} has joined. "
            f"Only allreduce of Sum and Average can go on without it."
        )
    if first.kind == rq.ADD_SET and not first.ranks:
        return f"{first.name}: a process set needs ranks"
    return ""


def _dtypes(request: Request) -> list[str]:
    return [spec.dtype for spec in request.tensors]


def _shapes(request: Request) -> list[tuple[int, ...]]:
    """The parts of the shapes that have to be equal."""
    shapes = [spec.shape for spec in request.tensors]
    if request.kind in (rq.ALLGATHER, rq.ALLTOALL):  # the first dimension may differ
        return [(-1, *shape[1:]) if shape else shape for shape in shapes]
    return shapes


# The order is that of the sentences' use: a wrong kind makes every other difference pointless.
_COMPARED: tuple[tuple[str, Callable[[Request], object]], ...] = (
    ("operations", lambda request: request.kind),
    ("numbers of tensors", lambda request: len(request.tensors)),
    ("data types", _dtypes),
    ("devices", lambda request: [spec.device for spec in request.tensors]),
    ("shapes", _shapes),
    ("reduction ops", lambda request: request.op),
    ("prescale factors", lambda request: request.prescale),
    ("postscale factors", lambda request: request.postscale),
    ("root ranks", lambda request: request.root),
    ("modes", lambda request: request.mode),
    ("ranks of a process set", lambda request: request.ranks),
)
