"""State that every rank starts with: parameters, optimizer state, any object."""

import io
from collections.abc import Iterable, Mapping
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import torch

from taco.lightcc.torch import _state, held_back
from taco.lightcc.torch.gathers import allgather, broadcast_, broadcast_async_
from taco.lightcc.torch.process_sets import ProcessSet, global_process_set


def broadcast_parameters(
    params: Mapping[str, Any] | Iterable[tuple[str, Any]],
    root_rank: int,
    process_set: ProcessSet = global_process_set,
) -> None:
    """Gives every rank the root's parameters, in place.

    Args:
        params: `model.state_dict()`, `model.named_parameters()`, or a list of (name, tensor).
            What is None is passed over.
        root_rank: global rank of whose values all get.
        process_set: who takes part.

    Raises:
        ValueError: `params` is of none of these kinds.
        HorovodInternalError: the ranks' parameters differ in names, shapes or dtypes.
    """
    if isinstance(params, Mapping):
        pairs = sorted(params.items())
    elif isinstance(params, Iterable):
        pairs = [pair if isinstance(pair, tuple) else (None, pair) for pair in params]
    else:
        raise ValueError(f"invalid params of type: {type(params)}")
    handles = []
    copies = []
    for name, value in pairs:
        if value is None:
            continue
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"invalid params of type: {type(value)} (parameter {name!r})")
        target = value.detach()
        if not target.is_contiguous():
            target = target.contiguous()
            copies.append((value, target))
        handles.append(broadcast_async_(target, root_rank, name, process_set))
    for handle in handles:
        _state.synchronize(handle)
    for value, target in copies:
        value.detach().copy_(target)


def broadcast_object(
    obj: Any,
    root_rank: int = 0,
    name: str | None = None,
    process_set: ProcessSet = global_process_set,
) -> Any:
    """Gives every rank a copy of the root's object.

    Args:
        obj: anything that cloudpickle serialises; read on the root alone.
        root_rank: global rank of who sends.
        name: what the ranks know it by; its type's name if None.
        process_set: who takes part.

    Returns:
        The object itself on the root, a copy elsewhere.
    """
    name = name or type(obj).__name__
    is_root = _state.runtime().rank == root_rank
    data = _to_bytes(obj) if is_root else torch.empty(0, dtype=torch.uint8)
    length = torch.tensor([data.numel()])
    broadcast_(length, root_rank, f"{name}.sz", process_set)
    if not is_root:
        data = torch.empty(int(length), dtype=torch.uint8)
    broadcast_(data, root_rank, f"{name}.t", process_set)
    return obj if is_root else _from_bytes(data)


def allgather_object(
    obj: Any, name: str | None = None, process_set: ProcessSet = global_process_set
) -> list[Any]:
    """Every rank's object, on every rank, in the order of the ranks.

    Args:
        obj: anything that cloudpickle serialises.
        name: what the ranks know it by; its type's name if None.
        process_set: who takes part.
    """
    name = name or type(obj).__name__
    data = _to_bytes(obj)
    lengths = allgather(torch.tensor([data.numel()]), f"{name}.sz", process_set)
    everything = allgather(data, f"{name}.t", process_set)
    return [_from_bytes(part) for part in everything.split(lengths.tolist())]


def _to_bytes(obj: Any) -> torch.Tensor:
    buffer = io.BytesIO()
    cloudpickle.dump(obj, buffer)
    return torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8).clone()


def _from_bytes(data: torch.Tensor) -> Any:
    return cloudpickle.loads(data.numpy().tobytes())


def broadcast_optimizer_state(
    optimizer: torch.optim.Optimizer,
    root_rank: int,
    process_set: ProcessSet = global_process_set,
    model: torch.nn.Module | None = None,
) -> None:
    """Gives every rank the root's optimizer state and options.

    A rank whose optimizer has no state yet gets it too: structure and options travel as one
    object, tensors one by one. What stands under "lightcc" in a state_dict (`held_back`) is each
    rank's own: it does not travel, and every rank keeps what it has.

    Args:
        optimizer: the same kind over the same parameters on every rank.
        root_rank: global rank of whose state all get.
        process_set: who takes part.
        model: not needed; Horovod's signature has it.

    Raises:
        ValueError: for torch.optim.LBFGS, whose state is not that of its parameters.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("cannot broadcast torch.optim.LBFGS state")
    for group in optimizer.param_groups:  # Horovod's callers rely on gradients being there
        for param in group["params"]:
            if param.requires_grad and param.grad is None:
                param.grad = torch.zeros_like(param)
    state = optimizer.state_dict()
    own = {held_back.KEY: state.pop(held_back.KEY)} if held_back.KEY in state else {}
    is_root = _state.runtime().rank == root_rank
    skeleton, tensors = _take_apart(state) if is_root else (None, [])
    skeleton = broadcast_object(skeleton, root_rank, "optimizer.state", process_set)
    if not is_root:
        tensors = [torch.empty(shape, dtype=dtype) for shape, dtype in skeleton[1]]
    for i, tensor in enumerate(tensors):
        broadcast_(tensor, root_rank, f"optimizer.state.{i}", process_set)
    if not is_root:
        optimizer.load_state_dict(_put_together(skeleton[0], tensors) | own)


class _Slot:
    """Where a tensor stood."""

    def __init__(self, index: int) -> None:
        self.index = index


def _take_apart(value: Any) -> tuple[Any, list[torch.Tensor]]:
    """The structure without its tensors, with their shapes and dtypes; and the tensors."""
    tensors: list[torch.Tensor] = []

    def walk(item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            tensors.append(item.detach().cpu().contiguous())
            return _Slot(len(tensors) - 1)
        if isinstance(item, dict):
            return {key: walk(each) for key, each in item.items()}
        if isinstance(item, (list, tuple)):
            return type(item)(walk(each) for each in item)
        return item

    structure = walk(value)
    return (structure, [(tuple(t.shape), t.dtype) for t in tensors]), tensors


def _put_together(value: Any, tensors: list[torch.Tensor]) -> Any:
    if isinstance(value, _Slot):
        return tensors[value.index]
    if isinstance(value, dict):
        return {key: _put_together(each, tensors) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_put_together(each, tensors) for each in value)
    return value
