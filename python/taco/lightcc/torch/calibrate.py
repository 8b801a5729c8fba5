"""Has the ranks of a process set measure what allreduces cost."""

import torch

from taco.lightcc.adaptive.cost import NUMBERS
from taco.lightcc.adaptive.wish import CALIBRATE
from taco.lightcc.engine import requests as rq
from taco.lightcc.torch import _state
from taco.lightcc.torch._submit import Average, op_name, submit
from taco.lightcc.torch.process_sets import ProcessSet


def calibrate(process_set: ProcessSet, device: torch.device) -> list[float]:
    """Measures, on all ranks of the set together: some tenths of a second on slow links.

    Args:
        process_set: the ranks.
        device: of the tensors whose allreduces are meant.

    Returns:
        `adaptive.cost.Costs.numbers()`, the mean over the ranks.
    """
    tensor = torch.zeros(NUMBERS, dtype=torch.float64, device=device)
    handle = submit(
        rq.ALLREDUCE,
        [tensor],
        f"taco.calibrate.{process_set.process_set_id}.{device.type}",
        process_set,
        outputs=[tensor],
        reduces=True,
        finish=lambda _: None,
        op=op_name(Average),
        mode=CALIBRATE,
    )
    _state.synchronize(handle)
    numbers: list[float] = tensor.tolist()
    assert process_set.process_set_id is not None
    _state.adaptive().calibrated(process_set.process_set_id, numbers, device.type)
    return numbers
