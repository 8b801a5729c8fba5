"""When gradients arrive, in the step under way: their order, and the time between them."""

import time

import torch


class Arrivals:
    """Of one step.

    Attributes:
        names: of the parameters, in the order in which their gradients came.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._clock: list[float] = []
        self._events: list[torch.cuda.Event] = []

    def note(self, name: str, param: torch.Tensor, timed: bool) -> None:
        """A gradient has come.

        Args:
            name: of its parameter.
            param: the parameter. On a GPU the kernels that make the gradient may still be to run.
            timed: whether anybody will ask for `seconds`.
        """
        self.names.append(name)
        if not timed:
            return
        if param.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(param.device))
            self._events.append(event)
        else:
            self._clock.append(time.perf_counter())

    def seconds(self) -> dict[str, float]:
        """By name, when each came, after the first; empty where some were not timed alike.

        Waits for the device.
        """
        times = [each - self._clock[0] for each in self._clock]
        if self._events:
            self._events[-1].synchronize()
            times = [self._events[0].elapsed_time(each) / 1e3 for each in self._events]
        if len(times) != len(self.names):
            return {}
        return dict(zip(self.names, times, strict=True))
