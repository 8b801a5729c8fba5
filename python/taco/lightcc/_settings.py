"""The variables of LightCC and of Horovod that are understood, each in one place.

`settings()` reads them once. Names, defaults and meaning are those of LightCC and of Horovod
0.28.1 (https://horovod.readthedocs.io); `taco doctor` prints the list. This module imports neither
torch nor anything else that takes time.
"""

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from taco.lightcc import warmup

LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "FATAL")


class InvalidSettingError(ValueError):
    """An environment variable holds what it does not take; says which, and what it takes."""


def _flag(text: str) -> bool:
    """As Horovod reads it: a number, and off at 0. Words are taken as well."""
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if text.lower() in words:
        return words[text.lower()]
    if not text.isascii() or not text.isdigit():
        raise ValueError("must be 0 or 1 (or yes, no, on, off, true, false)")
    return int(text) > 0


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("must be a whole number from 0")
    return int(text)


def _positive(text: str) -> int:
    number = _whole(text)
    if number == 0:
        raise ValueError("must be a whole number from 1")
    return number


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError("must be a number from 0")
    return number


def _ratio(text: str) -> float:
    number = _number(text)
    if not 0 < number <= 1:
        raise ValueError("must be above 0 and at most 1")
    return number


def _mode(text: str) -> str:
    if text not in ("auto", "dense"):
        raise ValueError("must be auto or dense")
    return text


def _momentum(text: str) -> str:
    if text not in ("auto", "keep", "local"):
        raise ValueError("must be auto, keep or local")
    return text


def _level(text: str) -> str:
    if text.upper() not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
    return text.upper()


def _knob(env: str, default: Any, parse: Callable[[str], Any], doc: str) -> Any:
    return field(default=default, metadata={"env": env, "parse": parse, "doc": doc})


@dataclass(frozen=True)
class Settings:
    """What is in force. Times are in seconds and sizes in bytes, where nothing else is said."""

    light_2d_allreduce: bool = _knob(
        "LIGHT_2D_ALLREDUCE", False, _flag, "Allreduce in two levels: in the group, then across."
    )
    light_3d_allreduce: bool = _knob(
        "LIGHT_3D_ALLREDUCE", False, _flag, "2D with racks as a third level, where they are known."
    )
    taco_cma: bool = _knob(
        "TACO_CMA",
        True,
        _flag,
        "In levels and TopK, ranks of a machine read each other's memory where that is allowed.",
    )
    light_mode: str = _knob(
        "LIGHT_MODE",
        "",
        _mode,
        "auto: each bucket's mode is chosen by measurement, TopK and float16 among them; dense: "
        "among modes that lose nothing.",
    )
    light_intra_size: int = _knob(
        "LIGHT_INTRA_SIZE",
        8,
        _positive,
        "Ranks in a group of a 2D allreduce; where it is not set, those of a host.",
    )
    light_hierarchical_threshold: int = _knob(
        "LIGHT_HIERARCHICAL_THRESHOLD", 1 << 30, _whole, "2D only for tensors up to so many bytes."
    )
    light_topk_allreduce: bool = _knob(
        "LIGHT_TOPK_ALLREDUCE", False, _flag, "Allows TopK compression with error feedback."
    )
    light_topk_ratio: float = _knob(
        "LIGHT_TOPK_RATIO", 0.01, _ratio, "Part of the values that TopK keeps."
    )
    light_topk_threshold: int = _knob(
        "LIGHT_TOPK_THRESHOLD", 1 << 20, _whole, "TopK only for tensors from so many bytes."
    )
    light_topk_fp16: bool = _knob(
        "LIGHT_TOPK_FP16", False, _flag, "TopK sends its values in half precision."
    )
    light_topk_warmup: int = _knob(
        "LIGHT_TOPK_WARMUP",
        warmup.STEPS,
        _whole,
        "Steps in which TopK's ratio comes down from 0.25. LIGHT_MODE=auto has none but by this.",
    )
    taco_topk_momentum: str = _knob(
        "TACO_TOPK_MOMENTUM",
        "auto",
        _momentum,
        "auto: Adam's first moment is left out where TopK carries gradients; keep: the optimizer "
        "is left alone; local: momentum is applied before the selection.",
    )
    light_topk_guard: bool = _knob(
        "LIGHT_TOPK_GUARD", True, _flag, "TopK's ratio rises where it would harm the training."
    )
    fusion_threshold: int = _knob(
        "HOROVOD_FUSION_THRESHOLD",
        128 << 20,
        _whole,
        "Bytes up to which small tensors are sent as one; 0: each by itself.",
    )
    cycle_time: float = _knob(
        "HOROVOD_CYCLE_TIME",
        1.0,
        _number,
        "Milliseconds between Horovod's rounds; accepted, as LightCC acts when there is work.",
    )
    cache_capacity: int = _knob(
        "HOROVOD_CACHE_CAPACITY", 1024, _whole, "Tensor names that ranks remember having agreed on."
    )
    hierarchical_allreduce: bool = _knob(
        "HOROVOD_HIERARCHICAL_ALLREDUCE", False, _flag, "As LIGHT_2D_ALLREDUCE, group: the host."
    )
    hierarchical_allgather: bool = _knob(
        "HOROVOD_HIERARCHICAL_ALLGATHER", False, _flag, "Allgather in two levels."
    )
    torus_allreduce: bool = _knob(
        "HOROVOD_TORUS_ALLREDUCE", False, _flag, "As HOROVOD_HIERARCHICAL_ALLREDUCE."
    )
    timeline: str = _knob(
        "HOROVOD_TIMELINE", "", str, "File for a Chrome trace; DYNAMIC waits for start_timeline."
    )
    timeline_mark_cycles: bool = _knob(
        "HOROVOD_TIMELINE_MARK_CYCLES", False, _flag, "Marks the rounds in the timeline."
    )
    autotune: bool = _knob(
        "HOROVOD_AUTOTUNE", False, _flag, "Fusion follows the measured cost model."
    )
    autotune_log: str = _knob("HOROVOD_AUTOTUNE_LOG", "", str, "File for what autotuning tried.")
    stall_check_disable: bool = _knob(
        "HOROVOD_STALL_CHECK_DISABLE", False, _flag, "Switches stall warnings off."
    )
    stall_check_time: float = _knob(
        "HOROVOD_STALL_CHECK_TIME_SECONDS",
        60.0,
        _number,
        "Seconds until a tensor that some ranks have not submitted is reported.",
    )
    stall_shutdown_time: float = _knob(
        "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS",
        0.0,
        _number,
        "Seconds until such a stall ends the job; 0: never.",
    )
    gloo_timeout: float = _knob(
        "HOROVOD_GLOO_TIMEOUT_SECONDS",
        1800.0,
        _number,
        "Seconds for one exchange of data. Horovod's default is 30, which ends busy jobs.",
    )
    gloo_interface: str = _knob(
        "HOROVOD_GLOO_IFACE", "", str, "Network interface; by default the one towards rank 0."
    )
    start_timeout: float = _knob(
        "HOROVOD_START_TIMEOUT", 120.0, _number, "Seconds for all ranks to start and to meet."
    )
    elastic: bool = _knob(
        "HOROVOD_ELASTIC", False, _flag, "Ranks may come and go; set by `taco run`."
    )
    elastic_timeout: float = _knob(
        "HOROVOD_ELASTIC_TIMEOUT", 600.0, _number, "Seconds to wait for enough hosts."
    )
    log_level: str = _knob(
        "HOROVOD_LOG_LEVEL", "WARNING", _level, f"Least of {', '.join(LOG_LEVELS)} that is logged."
    )
    log_hide_time: bool = _knob("HOROVOD_LOG_HIDE_TIME", False, _flag, "Logs without the time.")
    report: str = _knob(
        "TACO_REPORT", "", str, "File into which rank 0 writes hvd.explain() at the end."
    )

    @property
    def stall_warning(self) -> float:
        """Seconds until a stall is reported; 0: never."""
        return 0.0 if self.stall_check_disable else self.stall_check_time

    @property
    def stall_shutdown(self) -> float:
        """Seconds until a stall ends the job; 0: never. As in Horovod, a warning comes first."""
        later = self.stall_shutdown_time > self.stall_check_time
        return self.stall_shutdown_time if later and not self.stall_check_disable else 0.0

    def check_files(self) -> None:
        """For rank 0, which writes them: now, and not at the end of a night.

        Raises:
            InvalidSettingError: one cannot be written.
        """
        timeline = "" if self.timeline == "DYNAMIC" else self.timeline
        for env, path, option in (
            ("HOROVOD_TIMELINE", timeline, "--timeline"),
            ("HOROVOD_AUTOTUNE_LOG", self.autotune_log, "--autotune-log-file"),
            ("TACO_REPORT", self.report, "--report"),
        ):
            if path and (why := _unwritable(path)):
                raise InvalidSettingError(
                    f"{env}={path!r} (taco run {option}) cannot be written: {why}. Name a file in "
                    f"a folder that exists on rank 0's host."
                )


def _unwritable(path: str) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        return "it is a folder"
    if not os.path.isdir(folder):
        return f"there is no folder {folder}"
    allowed = os.access(path if os.path.exists(path) else folder, os.W_OK)
    return "" if allowed else "that is not permitted"


@dataclass(frozen=True)
class Variable:
    """One variable: its name, and how its text is read."""

    name: str
    env: str
    default: Any
    doc: str
    parse: Callable[[str], Any]

    @property
    def default_text(self) -> str | None:
        """The default as the variable would spell it; None where it would be empty."""
        flag = isinstance(self.default, bool)
        return str(int(self.default) if flag else self.default) or None

    def check(self, text: str) -> str:
        """The text as it is, if it can be read. Raises ValueError, saying what is allowed."""
        self.parse(text)
        return text


VARIABLES: tuple[Variable, ...] = tuple(
    Variable(
        each.name, each.metadata["env"], each.default, each.metadata["doc"], each.metadata["parse"]
    )
    for each in fields(Settings)
    if each.default is not MISSING
)


def read(environ: Mapping[str, str]) -> Settings:
    """Reads all variables; an empty one counts as unset.

    Raises:
        InvalidSettingError: one holds nonsense.
    """
    found = {}
    for variable in VARIABLES:
        text = environ.get(variable.env, "").strip()
        if text:
            try:
                found[variable.name] = variable.parse(text)
            except ValueError as error:
                raise InvalidSettingError(f"{variable.env}={text!r}: {error}") from error
    return Settings(**found)


@functools.cache
def settings() -> Settings:
    """The settings of this process: read from the environment once. Raises as `read`."""
    return read(os.environ)


def refresh() -> Settings:
    """Reads the environment anew, as `hvd.init()` does each time. Raises as `read`."""
    settings.cache_clear()
    return settings()
