"""What a job has of `adaptive`: start here.

Every rank has a `Hub`. `reducer` executes what the responses say; on rank 0 `assign` says it. The
training loop tells it of steps, `explain` tells people.
"""

import dataclasses
import functools
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from taco.lightcc._settings import Settings
from taco.lightcc.adaptive.cost import Costs
from taco.lightcc.adaptive.execution import Executed, ModeReducer
from taco.lightcc.adaptive.explanation import Explanation, explain
from taco.lightcc.adaptive.places import Levels, Place, levels_of
from taco.lightcc.adaptive.policy import Policy
from taco.lightcc.adaptive.rules import Rules, bucket_cost
from taco.lightcc.adaptive.wish import CALIBRATE, RECUT, understand
from taco.lightcc.engine.requests import Response

_log = logging.getLogger("taco.lightcc")


@dataclass(frozen=True)
class Setup:
    """What the environment says of it.

    Attributes:
        rules: for the policy.
        intra_size: ranks in a group; None: the machines are the groups.
        cut_by_cost: whether buckets are cut by measured costs.
        log: file for every choice; empty for none.
    """

    rules: Rules
    intra_size: int | None
    cut_by_cost: bool
    log: str


def setup(settings: Settings, chosen: set[str]) -> Setup:
    """Reads the rules out of the settings.

    Args:
        settings: as they are.
        chosen: names of the settings that somebody has set.
    """
    levels = 1
    if settings.light_2d_allreduce or settings.hierarchical_allreduce or settings.torus_allreduce:
        levels = 2
    if settings.light_3d_allreduce:
        levels = 3
    auto = settings.light_mode != ""
    rules = Rules(
        auto=auto,
        lossy=settings.light_mode == "auto",
        levels=levels,
        hierarchical_threshold=settings.light_hierarchical_threshold,
        topk=settings.light_topk_allreduce,
        ratio=settings.light_topk_ratio,
        topk_threshold=settings.light_topk_threshold,
        topk_half=settings.light_topk_fp16,
        # Auto begins dense, and its guard watches: a warm-up would only keep it dense for longer.
        warmup=0 if auto and "light_topk_warmup" not in chosen else settings.light_topk_warmup,
        guarded=settings.light_topk_guard,
    )
    return Setup(
        rules,
        settings.light_intra_size if "light_intra_size" in chosen else None,
        rules.auto or rules.topk or settings.autotune,
        settings.autotune_log,
    )


class Hub:
    """One rank's.

    Args:
        found: what the environment says.
        rank: this rank.
        place: where it runs.
    """

    def __init__(self, found: Setup, rank: int, place: Place) -> None:
        self._setup = found
        self._rank = rank
        self._place = place
        self._places: Callable[[], Sequence[Place]] = lambda: [place]
        self._levels: dict[tuple[int, ...], Levels] = {}
        self._latest: dict[tuple[int, str], tuple[Response, Executed]] = {}
        self.notes: list[str] = []
        self.mark: Callable[[str], None] = lambda text: None
        self.policy = Policy(found.rules, self.levels, self._note) if rank == 0 else None
        self.reducer = ModeReducer(self.levels, self._executed)

    @property
    def measured_layout(self) -> bool:
        """Whether buckets are cut by measured costs."""
        return self._setup.cut_by_cost

    def meet(self, store: dist.Store, size: int) -> None:
        """Says where this rank is; the others' places are read when somebody asks.

        Args:
            store: the job's.
            size: ranks of the job.
        """
        store.set(f"place/{self._rank}", json.dumps([self._place.host, self._place.rack]))

        @functools.cache
        def places() -> Sequence[Place]:
            found = store.multi_get([f"place/{rank}" for rank in range(size)])
            return [Place(*json.loads(each)) for each in found]

        self._places = places

    def levels(self, response: Response) -> Levels:
        """The groups of a response's ranks."""
        return self.levels_of(response.ranks)

    def levels_of(self, ranks: Sequence[int]) -> Levels:
        """The groups of some ranks, by position among them."""
        key = tuple(ranks)
        found = self._levels.get(key)
        if found is None:
            found = self._levels[key] = levels_of(self._places(), ranks, self._setup.intra_size)
        return found

    def bucket_cost(
        self, ranks: Sequence[int], item_bytes: int, numbers: list[float]
    ) -> Callable[[int], float]:
        """Seconds that a bucket of so many bytes should take in the best mode there is.

        Args:
            ranks: that reduce it.
            item_bytes: of an element.
            numbers: `Costs.numbers()`, as the ranks have measured them.
        """
        levels = self.levels_of(ranks)
        return bucket_cost(self._setup.rules, Costs.of(numbers), levels, item_bytes)

    def assign(self, response: Response) -> str:
        """On rank 0: the mode of an allreduce. Flat and dense if the policy fails, and says so."""
        assert self.policy is not None
        if response.mode == CALIBRATE:
            return CALIBRATE
        try:
            mode = self.policy.assign(response)
            # A rank that has joined would not read it.
            can_recut = understand(response.mode).gradient and not response.joined
            return mode + RECUT if can_recut and self.policy.wants_layout() else mode
        except Exception:
            _log.exception("the mode of %s could not be chosen: flat", response.names[0])
            return ""

    def calibrated(self, set_id: int, numbers: list[float], device: str) -> None:
        """Takes the costs that all ranks of a set have measured on a kind of device."""
        if self.policy is not None:
            self.policy.calibrated(set_id, Costs.of(numbers), device)

    def resume(self, set_id: int, steps: int) -> None:
        """A process set's training goes on behind so many steps."""
        if self.policy is not None:
            self.policy.resume(set_id, steps)

    def step(self, seconds: float) -> None:
        """A training step took so long."""
        if self.policy is not None:
            self.policy.step(seconds)

    def loss(self, value: float) -> None:
        """A training step's loss."""
        if self.policy is not None:
            self.policy.loss(value)

    def forget_buckets(self) -> None:
        """Buckets are cut anew: `explain` says nothing of the old ones."""
        self._latest.clear()

    def explain(self) -> Explanation:
        """What runs how, and why. Predictions and reasons are rank 0's alone."""
        return explain(self._rank, list(self._latest.values()), self.policy, self.notes)

    def _note(self, text: str) -> None:
        if len(self.notes) < 1000:
            self.notes.append(text)
        self.mark(text)
        if self._setup.log:
            try:
                with open(self._setup.log, "a", encoding="utf-8") as file:
                    file.write(text + "\n")
            except OSError as error:
                _log.warning("HOROVOD_AUTOTUNE_LOG=%s: %s", self._setup.log, error.strerror)
                self._setup = dataclasses.replace(self._setup, log="")

    def _executed(self, response: Response, done: Executed) -> None:
        if len(self._latest) < 10_000:
            self._latest[response.set_id, response.names[0]] = (response, done)
        if self.policy is not None:
            self.policy.observe(response, done)


def chosen(environ: Any, variables: Any) -> set[str]:
    """Names of the settings whose variables are set."""
    return {each.name for each in variables if environ.get(each.env, "").strip()}
