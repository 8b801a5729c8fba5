"""What ranks ask for and what the coordinator answers, as plain data that JSON can carry."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

ALLREDUCE = "allreduce"
ALLGATHER = "allgather"
BROADCAST = "broadcast"
ALLTOALL = "alltoall"
REDUCESCATTER = "reducescatter"
BARRIER = "barrier"
JOIN = "join"
ADD_SET = "add_process_set"
REMOVE_SET = "remove_process_set"

KINDS = (
    ALLREDUCE,
    ALLGATHER,
    BROADCAST,
    ALLTOALL,
    REDUCESCATTER,
    BARRIER,
    JOIN,
    ADD_SET,
    REMOVE_SET,
)

_ITEM_SIZES = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "float32": 4,
    "int64": 8,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}


@dataclass(frozen=True)
class TensorSpec:
    """What has to agree about a tensor.

    Attributes:
        dtype: torch's name of it without `torch.`, such as "float32".
        shape: its dimensions.
        device: "cpu" or "cuda".
    """

    dtype: str
    shape: tuple[int, ...]
    device: str = "cpu"

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * _ITEM_SIZES.get(self.dtype, 8)


@dataclass(frozen=True)
class Request:
    """One rank's wish. Everything but `splits` and the first dimension of gathers has to agree.

    Attributes:
        kind: one of KINDS.
        name: unique among what is in progress in its process set.
        set_id: the process set; 0 is all ranks.
        tensors: one, or those of a group, in order.
        op: of a reduction: "sum", "average", "min", "max", "product" or "adasum".
        prescale: factor for the input, before a reduction.
        postscale: factor for the result.
        root: global rank that a broadcast starts from.
        splits: of an alltoall: rows for each member, in order; empty for equal parts.
        ranks: of ADD_SET: the members; of REMOVE_SET: the set's id alone.
        mode: how an allreduce is to be carried out; empty for the engine's default.
        invalid: this rank cannot take part, and why; every rank gets this sentence.
    """

    kind: str
    name: str
    set_id: int = 0
    tensors: tuple[TensorSpec, ...] = ()
    op: str = ""
    prescale: float = 1.0
    postscale: float = 1.0
    root: int = -1
    splits: tuple[int, ...] = ()
    ranks: tuple[int, ...] = ()
    mode: str = ""
    invalid: str = ""

    @property
    def nbytes(self) -> int:
        return sum(spec.nbytes for spec in self.tensors)


@dataclass(frozen=True)
class Response:
    """What the members of a set execute, or an error that they raise.

    Attributes:
        kind, set_id, op, prescale, postscale, root, mode: as in the requests.
        names: the requests that it answers: several where allreduces were fused.
        tensors: those of all names, one after the other.
        counts: how many of the tensors belong to each name.
        lengths: of gathers: for each tensor, the first dimension on each member, in order.
        splits: of an alltoall: `splits[i][j]` rows go from member i to member j.
        ranks: who executes it, in order; of ADD_SET: the new set's members.
        new_set: of ADD_SET: the id that the set got.
        joined: members that have joined: they take part with zeros.
        last_joined: of JOIN: the rank that joined last.
        error: the sentence to raise in place of executing; empty for none.
    """

    kind: str
    names: tuple[str, ...]
    set_id: int = 0
    tensors: tuple[TensorSpec, ...] = ()
    counts: tuple[int, ...] = ()
    op: str = ""
    prescale: float = 1.0
    postscale: float = 1.0
    root: int = -1
    mode: str = ""
    lengths: tuple[tuple[int, ...], ...] = ()
    splits: tuple[tuple[int, ...], ...] = ()
    ranks: tuple[int, ...] = ()
    new_set: int = -1
    joined: tuple[int, ...] = ()
    last_joined: int = -1
    error: str = ""

    @property
    def nbytes(self) -> int:
        return sum(spec.nbytes for spec in self.tensors)


@dataclass
class Pending:
    """A name that some ranks have submitted.

    Attributes:
        requests: by global rank, in order of arrival.
        since: when the first arrived, in the coordinator's clock, seconds.
        warned: whether a stall was reported.
        waiting: ranks that do nothing until it is done.
    """

    since: float
    requests: dict[int, Request] = field(default_factory=dict)
    warned: bool = False
    waiting: set[int] = field(default_factory=set)


def to_json(value: Request | Response) -> dict[str, Any]:
    """As a JSON object; what holds its default is left out."""
    data = {}
    for field_ in fields(value):
        item = getattr(value, field_.name)
        if item != field_.default:
            data[field_.name] = item
    if value.tensors:
        data["tensors"] = [(spec.dtype, spec.shape, spec.device) for spec in value.tensors]
    return data


def request_from_json(data: dict[str, Any]) -> Request:
    """The reverse of `to_json`.

    Raises:
        ValueError: it is no request.
    """
    try:
        data = dict(data)
        data["tensors"] = _specs(data.get("tensors", ()))
        for key in ("splits", "ranks"):
            data[key] = tuple(int(item) for item in data.get(key, ()))
        request = Request(**data)
        if request.kind not in KINDS or not isinstance(request.name, str):
            raise ValueError(f"kind {request.kind!r}")
        return request
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"a request is malformed: {error}") from None


def response_from_json(data: dict[str, Any]) -> Response:
    """The reverse of `to_json`, for what the coordinator of this job wrote."""
    data = dict(data)
    data["tensors"] = _specs(data.get("tensors", ()))
    for key in ("names", "counts", "ranks", "joined"):
        data[key] = tuple(data.get(key, ()))
    for key in ("lengths", "splits"):
        data[key] = tuple(tuple(row) for row in data.get(key, ()))
    return Response(**data)


def _specs(items: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(str(dtype), tuple(int(n) for n in shape), str(device))
        for dtype, shape, device in items
    )
