"""Watches gradients arrive, and has them reduced bucket by bucket."""

import logging
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from taco.lightcc import _settings
from taco.lightcc.adaptive.layout import cut
from taco.lightcc.adaptive.residuals import BucketState, Parts, join, split
from taco.lightcc.adaptive.wish import Wish
from taco.lightcc.torch import _state
from taco.lightcc.torch._submit import Average
from taco.lightcc.torch.arrivals import Arrivals
from taco.lightcc.torch.buckets import Bucket, Recipe, lists_by_limit
from taco.lightcc.torch.calibrate import calibrate
from taco.lightcc.torch.compression import Compression, TopKCompression
from taco.lightcc.torch.flat import FlatGradients
from taco.lightcc.torch.functions import broadcast_object
from taco.lightcc.torch.momentum import Correction
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
        correction: the optimizer's momentum, as far as it is applied before TopK selects.

    Attributes:
        sparse: parameters whose gradients TopK carried in the last step; the same on every rank.
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
        correction: Correction | None = None,
    ) -> None:
        self.passes = passes
        self._names = names
        self._params = {names[p]: p for p in params if p.requires_grad}
        average = op == Average
        topk = isinstance(compression, TopKCompression)
        self._recipe = Recipe(
            Compression.none if topk else compression,
            op,
            1.0 / predivide if average else 1.0,
            predivide if average else 1.0,
            sparse_as_dense,
            process_set,
            compression.wish if topk else Wish(gradient=True),
        )
        self._correction = correction or Correction()
        self.sparse: frozenset[torch.nn.Parameter] = frozenset()
        self.average = average
        self._remaining: dict[torch.nn.Parameter, int] = {}
        self._arrivals = Arrivals()
        self._step_ended = 0.0
        self._recorded = 0
        self.steps = 0  # of training
        self._early = True
        self._callback_queued = False
        self._elastic = environ.get("HOROVOD_ELASTIC") == "1"
        self._job = _state.runtime()
        self._active: bool | None = None
        self._fixed = groups is not None
        self._buckets = self._user_buckets(groups) if groups else self._single()
        self._index()
        self.set_passes(passes)
        if self._takes_part() or self._elastic:
            for param in self._params.values():
                param.register_post_accumulate_grad_hook(self._arrived)

    # Layout.

    def _single(self) -> list[Bucket]:
        # Momentum needs a state; without it small ones may be fused.
        wish = None if self._correction.local else Wish()
        return [self._bucket(name, [name], wish) for name in self._params]

    def _bucket(self, name: str, members: Sequence[str], wish: Wish | None = None) -> Bucket:
        params = tuple(self._params[each] for each in members)
        flat = FlatGradients(params) if self._recipe.plain and FlatGradients.suits(params) else None
        state = BucketState(self._correction.local, mean=self._correction.adam)
        return Bucket(name, params, state=state, wish=wish, flat=flat)

    def _user_buckets(self, groups: int | list[list[torch.nn.Parameter]]) -> list[Bucket]:
        # The same on all ranks, as load_state_dict needs it too. Nobody is asked: newcomers of an
        # elastic job make their optimizer while the others do something else.
        order = list(self._params)
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
            self._bucket(f"group.{i}.{names[0]}.{_fingerprint(names)}", names)
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
        """Cuts buckets from the order noted last; has costs measured, which the modes need too."""
        numbers = self._measure()
        if self._fixed:
            return
        kept = self.residuals()
        order = self._agreed(self._arrivals.names)
        sparse = {p for p in self._params.values() if p.grad is not None and p.grad.is_sparse}
        most = _settings.settings().fusion_threshold
        lists = self._by_cost(order, most, numbers) if most and not sparse else None
        if lists is None:
            aim = _bucket_bytes(self._params.values())
            lists = lists_by_limit(order, self._params, aim, most, lambda param: param in sparse)
        self._buckets = [
            self._bucket(f"bucket.{i}.{names[0]}", names) for i, names in enumerate(lists)
        ]
        self._index()
        self.load_residuals(kept)

    def _measure(self) -> list[float] | None:
        """What allreduces cost, as all ranks measure it; None where nobody wants to know."""
        hub = _state.adaptive()
        hub.forget_buckets()
        devices = {param.device for param in self._params.values()}
        if not hub.measured_layout or len(devices) != 1:
            return None
        return calibrate(self._recipe.process_set, devices.pop())

    def _by_cost(
        self, order: list[str], most: int, numbers: list[float] | None
    ) -> list[list[str]] | None:
        """Cuts by measured costs and by when gradients came; None where that cannot be.

        All ranks measure; those of the set's first rank count.
        """
        hub = _state.adaptive()
        kinds = {(p.dtype, p.device.type) for p in self._params.values()}
        if numbers is None or len(kinds) != 1:
            return None
        process_set = self._recipe.process_set
        assert process_set.process_set_id is not None
        ranks = _state.runtime().sets[process_set.process_set_id]
        item = next(iter(kinds))[0].itemsize
        came = self._arrivals.seconds()
        latest, arrivals = 0.0, []
        for name in order:  # of those that did not come, as the one before
            latest = max(latest, came.get(name, 0.0))
            arrivals.append(latest)
        sizes = [self._params[name].numel() * item for name in order]
        cuts = cut(arrivals, sizes, hub.bucket_cost(ranks, item, numbers), most)
        cuts = broadcast_object(cuts, ranks[0], "taco.bucket_cuts", process_set)
        starts = [0, *cuts[:-1]]
        return [order[start:end] for start, end in zip(starts, cuts, strict=True)]

    # What TopK holds back.

    def residuals(self) -> Parts:
        """By parameter name: "residual" and perhaps "velocity", in the parameter's shape."""
        parts: Parts = {}
        for bucket in self._buckets:
            shapes = [(self._names[param], param.shape) for param in bucket.params]
            parts |= split(bucket.state, shapes)
        return parts

    def load_residuals(self, parts: Parts) -> None:
        """The reverse of `residuals`; parameters that are not there have none.

        Raises:
            ValueError: a part is of another size than its parameter.
        """
        for bucket in self._buckets:
            shapes = [(self._names[param], param.shape) for param in bucket.params]
            bucket.state = join(parts, shapes, self._correction.local, self._correction.adam)

    def resume(self, steps: int) -> None:
        """So many steps of training have been: a warm-up goes on behind them."""
        self.steps = steps
        self._active = None

    def restart(self) -> None:
        """Begins as a new one would, in another job: some of its ranks may have no buckets yet.

        What TopK holds back stays; where it is averaged, it is scaled to the new number of ranks.
        """
        self.reset()
        job = _state.runtime()
        factor = job.size / self._job.size if self.average else 1.0
        kept = {
            name: {kind: tensor * factor for kind, tensor in kinds.items()}
            for name, kinds in self.residuals().items()
        }
        self._job, self._active = job, None
        if not self._fixed:
            self._buckets = self._single()
            self._index()
        self._recorded = 0
        self._early = True
        self._step_ended = 0.0
        self.load_residuals(kept)

    def _takes_part(self) -> bool:
        """Whether this rank's gradients are reduced; begins anew where the job is another one.

        Asked again in each job, and when it is needed: a program may add its process set there.
        """
        if self._job is not _state.runtime():
            self.restart()
        if self._active is None:
            included = self._recipe.process_set.included()
            self._active = included and (self._job.size > 1 or self._elastic)
            if self._active and self.steps:
                assert self._recipe.process_set.process_set_id is not None
                _state.adaptive().resume(self._recipe.process_set.process_set_id, self.steps)
        return self._active

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
        if not self._takes_part():
            return
        if self._remaining[param] <= 0:
            raise AssertionError(
                "Gradients were computed more than backward_passes_per_step times before call to "
                "step(). Increase backward_passes_per_step to accumulate gradients locally."
            )
        self._remaining[param] -= 1
        if self._remaining[param] > 0:
            return
        self._arrivals.note(self._names[param], param, self._recorded < _RECORDED_STEPS)
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
        if not self._takes_part():
            return
        for bucket in self._buckets:
            if bucket.work is None:
                bucket.submit(self._recipe)
        for bucket in self._buckets:
            assert bucket.work is not None
            bucket.work.finish()
        carried = (bucket for bucket in self._buckets if bucket.state.sparse)
        self.sparse = frozenset(param for bucket in carried for param in bucket.params)
        now = time.perf_counter()
        if self._step_ended:
            _state.adaptive().step(now - self._step_ended)
        self._step_ended = now
        self.steps += 1
        self._recorded += 1
        if self._recorded == _RECORDED_STEPS:
            self._lay_out()
        elif any(bucket.state.recut for bucket in self._buckets):
            # All ranks have read it in the same answers: after the next step, by its arrivals.
            self._recorded = _RECORDED_STEPS - 1
            for bucket in self._buckets:
                bucket.state.recut = False
        self.reset()

    def reset(self) -> None:
        """Forgets what is in progress."""
        for bucket in self._buckets:
            bucket.reset()
        self.set_passes(self.passes)
        self._arrivals = Arrivals()
        self._callback_queued = False


def _fingerprint(names: Sequence[str]) -> str:
    """Ranks whose groups differ must not add up different parameters: they wait, and are named."""
    return f"{zlib.crc32(' '.join(names).encode()):08x}"


def _bucket_bytes(params: Iterable[torch.nn.Parameter]) -> int:
    """About eight buckets, so that most of them travel while backward goes on."""
    total = sum(param.numel() * param.element_size() for param in params)
    return max(_LEAST_BUCKET, total // 8)
