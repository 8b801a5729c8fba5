"""What an elastic job keeps: the last commit, and what newcomers need to take part."""

import copy
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch

from taco.lightcc.engine.errors import HostsUpdatedInterrupt
from taco.lightcc.torch import held_back
from taco.lightcc.torch.basics import rank
from taco.lightcc.torch.elastic.sampler import ElasticSampler
from taco.lightcc.torch.functions import (
    broadcast_object,
    broadcast_optimizer_state,
    broadcast_parameters,
)

# How hosts changed, as bits.
_REMOVED, _ADDED = 1, 2
_KINDS = {"removed": _REMOVED, "added": _ADDED, "mixed": _REMOVED | _ADDED}


class State:
    """What training needs to go on. Subclasses say how it is saved, restored and shared.

    Args:
        bcast_object: gives all ranks what rank 0 passes to it.
        get_rank: gives this worker's rank.
    """

    def __init__(self, bcast_object: Callable[[Any], Any], get_rank: Callable[[], int]) -> None:
        self._bcast_object = bcast_object
        self._rank = get_rank
        self._host_messages: deque[tuple[float, int]] = deque()
        self._last_updated = 0.0
        self._reset_callbacks: list[Callable[[], Any]] = []
        self._look: Callable[[], str | None] | None = None

    def register_reset_callbacks(self, callbacks: Iterable[Callable[[], Any]]) -> None:
        """Has functions called whenever the ranks have changed, before state is shared.

        Args:
            callbacks: for example one that scales the learning rate by the number of ranks.
        """
        self._reset_callbacks.extend(callbacks)

    def on_reset(self) -> None:
        """`run` calls it in each new round."""
        self._host_messages.clear()
        self.reset()
        for callback in self._reset_callbacks:
            callback()

    def watch(self, look: Callable[[], str | None] | None) -> None:
        """Says where to look for changes of the hosts.

        Args:
            look: gives None, "added", "removed" or "mixed"; `run` sets it.
        """
        self._look = look

    def on_hosts_updated(self, timestamp: float, update_res: int) -> None:
        """Takes a message that hosts changed, from any thread.

        Args:
            timestamp: when; messages that are not newer than the last one seen are ignored.
            update_res: 1: removed, 2: added, 3: both.
        """
        self._host_messages.append((timestamp, int(update_res)))

    def commit(self) -> None:
        """Saves, then looks for changes of the hosts. All ranks have to call it together.

        Raises:
            HostsUpdatedInterrupt: as `check_host_updates`.
        """
        self.save()
        self.check_host_updates()

    def check_host_updates(self) -> None:
        """Looks for changes of the hosts. All ranks have to call it together.

        Raises:
            HostsUpdatedInterrupt: there are some, as rank 0 sees it; on all ranks alike.
        """
        kind = 0
        while self._host_messages:
            timestamp, update = self._host_messages.popleft()
            if timestamp > self._last_updated:
                self._last_updated = timestamp
                kind |= update
        if self._look is not None and self._rank() == 0:
            kind |= _KINDS.get(self._look() or "", 0)
        kind = self._bcast_object(kind)
        if kind:
            raise HostsUpdatedInterrupt(kind == _REMOVED)

    def save(self) -> None:
        """Keeps the present state as the last commit."""
        raise NotImplementedError

    def restore(self) -> None:
        """Goes back to the last commit."""
        raise NotImplementedError

    def sync(self) -> None:
        """Gives all ranks rank 0's state."""
        raise NotImplementedError

    def reset(self) -> None:
        """Adapts to the ranks of a new round, before state is shared."""


class ObjectState(State):
    """Plain Python objects, as attributes.

    A commit keeps references: assign new objects rather than change those that are there.

    Args:
        bcast_object: gives all ranks what rank 0 passes to it.
        get_rank: gives this worker's rank.
        kwargs: the attributes.
    """

    def __init__(
        self,
        bcast_object: Callable[[Any], Any],
        get_rank: Callable[[], int],
        **kwargs: Any,
    ) -> None:
        super().__init__(bcast_object, get_rank)
        self._saved_state = kwargs
        self._set_attrs()

    def save(self) -> None:
        self._saved_state = {name: getattr(self, name) for name in self._saved_state}

    def restore(self) -> None:
        self._set_attrs()

    def sync(self) -> None:
        if self._saved_state:
            ObjectState.save(self)
            self._saved_state = self._bcast_object(self._saved_state)
            self._set_attrs()

    def _set_attrs(self) -> None:
        for name, value in self._saved_state.items():
            setattr(self, name, value)


class StateHandler:
    """Saves, restores and shares one object of a TorchState.

    Args:
        value: the object.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def save(self) -> None:
        """Keeps its present state."""
        raise NotImplementedError

    def restore(self) -> None:
        """Goes back to what was kept."""
        raise NotImplementedError

    def sync(self) -> None:
        """Gives all ranks rank 0's state."""
        raise NotImplementedError

    def reset(self) -> None:
        """Adapts to the ranks of a new round."""

    def set_value(self, value: Any) -> None:
        """Takes another object in its place, and saves it."""
        self.value = value
        self.save()


class _StateDictHandler(StateHandler):
    """Of whatever has state_dict and load_state_dict."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.save()

    def save(self) -> None:
        self._saved = copy.deepcopy(self.value.state_dict())

    def restore(self) -> None:
        # A copy: optimizers go on to change the very tensors that they load.
        self.value.load_state_dict(copy.deepcopy(self._saved))

    def sync(self) -> None:
        self._share()
        self.save()

    def _share(self) -> None:
        raise NotImplementedError


class ModelStateHandler(_StateDictHandler):
    """Of a torch.nn.Module."""

    def _share(self) -> None:
        broadcast_parameters(self.value.state_dict(), root_rank=0)


class OptimizerStateHandler(_StateDictHandler):
    """Of an optimizer, also a DistributedOptimizer.

    What TopK holds back is each rank's own: it is saved and restored with the rest, and not shared.
    """

    def _share(self) -> None:
        broadcast_optimizer_state(self.value, root_rank=0)

    def reset(self) -> None:
        """Buckets are cut anew, together with ranks that have none yet."""
        reducer = getattr(self.value, "_reducer", None)
        if reducer is not None:
            reducer.restart()
        if held_back.KEY in self._saved:
            record = self._saved[held_back.KEY]
            self._saved[held_back.KEY] = held_back.carried_over(record, rank())


class SamplerStateHandler(_StateDictHandler):
    """Of an ElasticSampler."""

    def _share(self) -> None:
        self.value.load_state_dict(broadcast_object(self.value.state_dict()))

    def reset(self) -> None:
        self.value.reset()


Registry = list[tuple[type, type[StateHandler]]]

_registry: Registry = [
    (torch.nn.Module, ModelStateHandler),
    (torch.optim.Optimizer, OptimizerStateHandler),
    (ElasticSampler, SamplerStateHandler),
]


def get_handler_registry() -> Registry:
    """Which types TorchState handles, and by what; the first that fits is taken."""
    return _registry


def set_handler_registry(registry: Registry) -> None:
    """Replaces it."""
    global _registry
    _registry = registry


def _handler_of(value: Any) -> StateHandler | None:
    fitting = (handler for kind, handler in _registry if isinstance(value, kind))
    found = next(fitting, None)
    return None if found is None else found(value)


class TorchState(ObjectState):
    """Models, optimizers, samplers and plain objects, as attributes.

    Args:
        model: a model, or None.
        optimizer: its optimizer, or None.
        kwargs: more attributes. Modules, optimizers and ElasticSamplers are saved and shared by
            what they hold; anything else is a plain object that pickle can take.
    """

    def __init__(self, model: Any = None, optimizer: Any = None, **kwargs: Any) -> None:
        kwargs.update(model=model, optimizer=optimizer)
        handlers = {name: _handler_of(value) for name, value in kwargs.items()}
        self._handlers = {name: each for name, each in handlers.items() if each is not None}
        for name, handler in self._handlers.items():
            object.__setattr__(self, name, handler.value)
        plain = {name: value for name, value in kwargs.items() if name not in self._handlers}
        super().__init__(broadcast_object, rank, **plain)

    def save(self) -> None:
        for handler in self._handlers.values():
            handler.save()
        super().save()

    def restore(self) -> None:
        for handler in self._handlers.values():
            handler.restore()
        super().restore()

    def sync(self) -> None:
        for handler in self._handlers.values():
            handler.sync()
        super().sync()

    def reset(self) -> None:
        for handler in self._handlers.values():
            reset = getattr(handler, "reset", None)  # a program's own handlers may have none
            if reset is not None:
                reset()
        super().reset()

    def __setattr__(self, name: str, value: Any) -> None:
        handler = self.__dict__.get("_handlers", {}).get(name)
        if handler is not None:
            handler.set_value(value)
        super().__setattr__(name, value)
