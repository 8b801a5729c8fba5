"""Names that only some ranks have submitted for long: a warning that says who is missing.

Where ranks wait for one another, which no patience helps, an error ends the wait.
"""

import logging

from taco.lightcc.engine.negotiation import Negotiation

_log = logging.getLogger("taco.lightcc")


class StallCheck:
    """Looks over what waits.

    Args:
        warn_after: seconds until a warning; 0 for never.
        fail_after: seconds until the job is ended; 0 for never.
    """

    def __init__(self, warn_after: float, fail_after: float) -> None:
        self._warn_after = warn_after
        self._fail_after = fail_after

    def check(self, negotiation: Negotiation, now: float) -> str:
        """Warns of what waits too long, and ends what waits in a circle.

        Returns:
            Why the job has to end; empty if it has not.
        """
        stalled = []
        for name, pending, missing in negotiation.waiting():
            waited = now - pending.since
            if self._fail_after and waited > self._fail_after:
                return (
                    f"{name} waited {waited:.0f} s for ranks {missing}, longer than "
                    f"HOROVOD_STALL_SHUTDOWN_TIME_SECONDS={self._fail_after:g}"
                )
            if self._warn_after and waited > self._warn_after and not pending.warned:
                pending.warned = True
                stalled.append(f"{name} [missing ranks: {', '.join(map(str, missing))}]")
        if self._warn_after:
            negotiation.end_deadlock(now - self._warn_after)
        if stalled:
            _log.warning(
                "One or more tensors were submitted to be reduced, gathered or broadcasted by "
                "subset of ranks and are waiting for remainder of ranks for more than %g seconds. "
                "This may indicate that different ranks are trying to submit different tensors or "
                "that only subset of ranks is submitting tensors, which will cause deadlock.\n"
                "Stalled ops: %s",
                self._warn_after,
                "; ".join(stalled),
            )
        return ""
