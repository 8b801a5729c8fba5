"""Watches gradients arrive, and has them reduced bucket by bucket."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from taco.lightcc import _settings
from taco.lightcc.torch import _state
from taco.lightcc.torch._submit import Average
from taco.lightcc.torch.buckets import Bucket, Recipe, cut
from taco.lightcc.torch.functions import broadcast_object
from taco.lightcc.torch.process_sets import ProcessSet

_log = logging.getLogger("taco.lightcc")

# Steps whose order of arrival is noted before buckets are cut. The first step's backward may build
# things (compiled graphs, caches) in another order than later ones.
_RECORDED_STEPS = 2

# How long the end of backward waits for other ranks, seconds. They may be in a collective of the
# script that comes before their step, which waits for this rank: then the rest waits for the step.
_EARLY_WAIT = 5.0

_LEAST_BUCKET = 1 << 20


class GradientReducer:
    """The gradients of one optimizer.

    Args:
        params: the optimizer's parameters.
        names: their names.
        compression: of the tensors on the wire.
        passes: backward passes a step.
        op: Average or Sum.
        predivide: part of the division that comes before the sum.
        groups: buckets that the user wants: their number, or their parameters; None: ours.
        sparse_as_dense: whether sparse gradients are made dense first.
        process_set: who takes part.
        environ: the environment.
    """

    def __init__(
        self,
        params: Sequence[torch.nn.Parameter],
        names: dict[torch.nn.Parameter, str],
        compression: Any,
        passes: int,
        op: int,
        predivide: float,
        groups: int | list[list[torch.nn.Parameter]] | None,
        sparse_as_dense: bool,
        process_set: ProcessSet,
        environ: Mapping[str, str],
    ) -> None:
        self.passes = passes
        self._names = names
        self._params = {names[p]: p for p in params if p.requires_grad}
        average = op == Average
        self._recipe = Recipe(
            compression,
            op,
            1.0 / predivide if average else 1.0,
            predivide if average else 1.0,
            sparse_as_dense,
            process_set,
        )
        self._remaining: dict[torch.nn.Parameter, int] = {}
        self._order: list[str] = []  # of arrival, in the step under way
        self._recorded = 0
        self._early = True
        self._callback_queued = False
        self._active = process_set.included() and (
            _state.runtime().size > 1 or environ.get("HOROVOD_ELASTIC") == "1"
        )
        self._fixed = groups is not None
        self._buckets = self._user_buckets(groups) if self._active and groups else self._single()
        self._index()
        self.set_passes(passes)
        if self._active:
            for param in self._params.values():
                param.register_post_accumulate_grad_hook(self._arrived)

    # Layout.

    def _single(self) -> list[Bucket]:
        return [Bucket(name, (param,)) for name, param in self._params.items()]

    def _user_buckets(self, groups: int | list[list[torch.nn.Parameter]]) -> list[Bucket]:
        order = self._agreed(list(self._params))
        if isinstance(groups, int):
            size, extra = divmod(len(order), groups)
            lists, start = [], 0
            for i in range(min(groups, len(order))):
                end = start + size + (i < extra)
                lists.append(order[start:end])
                start = end
        else:
            lists = [
                [self._names[p] for p in group if self._names[p] in self._params]
                for group in groups
            ]
            grouped = {name for names in lists for name in names}
            lists += [[name] for name in order if name not in grouped]
        return [
            Bucket(f"group.{i}.{names[0]}", tuple(self._params[name] for name in names))
            for i, names in enumerate(lists)
            if names
        ]

    def _agreed(self, order: list[str]) -> list[str]:
        """The order of the set's first rank, for all; names that it lacks come last."""
        process_set = self._recipe.process_set
        assert process_set.process_set_id is not None
        root = _state.runtime().sets[process_set.process_set_id][0]
        theirs = broadcast_object(order, root, "taco.bucket_order", process_set)
        known = [name for name in theirs if name in self._params]
        return known + [name for name in self._params if name not in set(known)]

    def _index(self) -> None:
        self._bucket_of = {param: bucket for bucket in self._buckets for param in bucket.params}

    def _lay_out(self) -> None:
        """Cuts buckets from the order noted last."""
        limit = min(_settings.settings().fusion_threshold, _bucket_bytes(self._params.values()))
        order = self._agreed(self._order)
        sparse = {p for p in self._params.values() if p.grad is not None and p.grad.is_sparse}
        self._buckets = cut(order, self._params, limit, lambda param: param in sparse)
        self._index()

    # Steps.

    @property
    def in_progress(self) -> bool:
        """Whether gradients are on their way: nobody may touch them now."""
        return any(bucket.work is not None and not bucket.work.written for bucket in self._buckets)

    def set_passes(self, passes: int) -> None:
        self.passes = passes
        self._remaining = dict.fromkeys(self._params.values(), passes)

    def _arrived(self, param: torch.nn.Parameter) -> None:
        """The hook: backward has added to this gradient."""
        if self._remaining[param] <= 0:
            raise AssertionError(
                "Gradients were computed more than backward_passes_per_step times before call to "
                "step(). Increase backward_passes_per_step to accumulate gradients locally."
            )
        self._remaining[param] -= 1
        if self._remaining[param] > 0:
            return
        self._order.append(self._names[param])
        bucket = self._bucket_of[param]
        bucket.arrived.add(param)
        if bucket.complete:
            bucket.submit(self._recipe)
        if not self._callback_queued:
            self._callback_queued = True
            torch.autograd.Variable._execution_engine.queue_callback(self._backward_done)

    def _backward_done(self) -> None:
        """Backward is over: with all gradients on their way, waits for them here."""
        self._callback_queued = False
        works = [bucket.work for bucket in self._buckets]
        if not self._early or any(work is None for work in works):
            return
        deadline = time.monotonic() + _EARLY_WAIT
        for work in works:
            assert work is not None
            if not work.wait(deadline):
                self._early = False
                _log.info("gradients are waited for in step() from now on, not in backward()")
                return
        for work in works:
            assert work is not None
            work.finish()

    def synchronize(self) -> None:
        """Hands in what is left, and waits for all."""
        if not self._active:
            return
        for bucket in self._buckets:
            if bucket.work is None:
                bucket.submit(self._recipe)
        for bucket in self._buckets:
            assert bucket.work is not None
            bucket.work.finish()
        if not self._fixed:
            self._recorded += 1
            if self._recorded == _RECORDED_STEPS:
                self._lay_out()
        self.reset()

    def reset(self) -> None:
        """Forgets what is in progress."""
        for bucket in self._buckets:
            bucket.reset()
        self.set_passes(self.passes)
        self._order = []
        self._callback_queued = False


def _bucket_bytes(params: Iterable[torch.nn.Parameter]) -> int:
    """About eight buckets, so that most of them travel while backward goes on."""
    total = sum(param.numel() * param.element_size() for param in params)
    return max(_LEAST_BUCKET, total // 8)
