"""Small allreduces that are ready together run as one: the start-up cost is paid once."""

import dataclasses

from taco.lightcc.engine import requests as rq
from taco.lightcc.engine.requests import Response


def fuse(responses: list[Response], threshold: int) -> list[Response]:
    """Merges allreduces of one kind, whatever stands between them, up to `threshold` bytes.

    The order of what is not merged stays. Adasum is never merged: its coefficients belong to one
    tensor.

    Args:
        responses: in the order of their readiness.
        threshold: bytes that a merged one may have; 0 merges nothing.
    """
    if threshold <= 0:
        return responses
    open_groups: dict[tuple[object, ...], int] = {}  # what has to be equal -> index in fused
    fused: list[Response] = []
    for response in responses:
        key = _key(response)
        if key is None:
            fused.append(response)
            continue
        index = open_groups.get(key)
        if index is not None and fused[index].nbytes + response.nbytes <= threshold:
            fused[index] = _merged(fused[index], response)
            continue
        open_groups[key] = len(fused)
        fused.append(response)
    return fused


def _key(response: Response) -> tuple[object, ...] | None:
    """Responses with equal keys can run as one; None: never."""
    if response.kind != rq.ALLREDUCE or response.error or response.op == "adasum":
        return None
    if response.mode or not response.tensors:  # a bucket that was laid out already
        return None
    dtypes = {(spec.dtype, spec.device) for spec in response.tensors}
    if len(dtypes) != 1:
        return None
    return (
        response.set_id,
        response.op,
        response.prescale,
        response.postscale,
        response.joined,
        next(iter(dtypes)),
    )


def _merged(left: Response, right: Response) -> Response:
    return dataclasses.replace(
        left,
        names=left.names + right.names,
        tensors=left.tensors + right.tensors,
        counts=left.counts + right.counts,
    )
