"""The host's side of topk_accumulate_ and topk_decompress; torch_ext/cuda/accumulate.cu's."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from taco.lightcc.cuda import _arguments as arguments
from taco.lightcc.cuda._launch import Launch


@dataclass(frozen=True)
class PackedList:
    """One list: pointers, number of entries, and the values' type."""

    indices: int
    values: int
    count: int
    type: int


class Mailboxes:
    """Where kernels leave what the host has to know, without its waiting for them.

    One a device, in the host's memory: what accumulate.cu calls a Mailbox.
    """

    def __init__(self) -> None:
        self._boxes: dict[torch.device, torch.Tensor] = {}

    def of(self, device: torch.device) -> torch.Tensor:
        """The device's, which is made at the first call."""
        box = self._boxes.get(device)
        if box is None:
            pinned = device.type == "cuda"
            size = arguments.MAILBOX_FIELDS
            box = torch.zeros(size, dtype=torch.int64, device="cpu", pin_memory=pinned)
            box = self._boxes.setdefault(device, box)
        return box

    def raise_what_was_found(self, op: str) -> None:
        """Raises if a kernel has found an index that is out of range; once."""
        for box in list(self._boxes.values()):
            if not box[0]:
                continue
            number, position, index, n = box[1:].tolist()
            box[0] = 0
            arguments.check(
                False,
                op,
                f"list {number}, position {position}: index {index} is not in [0, {n}). The "
                "sender's tensor has another size, or the list was damaged. It was in this call or "
                "an earlier one, which has added nothing.",
            )


def check_length(op: str, n: int) -> None:
    """Raises unless n can be a number of elements."""
    arguments.check(n >= 0, op, f"n is {n} and must not be negative.")


def check_out(op: str, out: torch.Tensor) -> None:
    """Raises unless lists can be added to the tensor."""
    arguments.check_plain(op, "out", out, out.device, torch.float32)


def checked(
    op: str,
    device: torch.device,
    indices: Sequence[torch.Tensor],
    values: Sequence[torch.Tensor],
) -> list[PackedList]:
    """The lists, or RuntimeError. Their indices are for the kernels to check."""
    arguments.check(
        len(indices) == len(values),
        op,
        f"{len(indices)} lists of indices and {len(values)} of values: pass as many of each.",
    )
    lists = []
    for where, what in zip(indices, values, strict=True):
        arguments.check_plain(op, "indices", where, device, torch.int32)
        arguments.check_plain(op, "values", what, device)
        arguments.check(
            where.numel() == what.numel(),
            op,
            f"{where.numel()} indices and {what.numel()} values: pass as many of each.",
        )
        number = arguments.value_type(op, "values", what.dtype)
        lists.append(PackedList(where.data_ptr(), what.data_ptr(), where.numel(), number))
    return lists


def accumulate(
    launch: Launch,
    out: torch.Tensor,
    lists: Sequence[PackedList],
    scale: float,
    mailbox: torch.Tensor,
) -> None:
    """Checks all lists, and then adds one after the other."""
    numbered = [(number, each) for number, each in enumerate(lists) if each.count > 0]
    # In one piece: the first bad index, and by list whether it is out of order.
    found = torch.zeros(1 + len(lists), dtype=torch.int64, device=out.device)
    argument = arguments.filled(
        arguments.ACCUMULATE_STEP,
        out=out.data_ptr(),
        bad=found.data_ptr(),
        unordered=found[1:].data_ptr(),
        mailbox=mailbox.data_ptr(),
        n=out.numel(),
        scale=scale,
    )

    def start(kernel: str, part: Sequence[tuple[int, PackedList]]) -> None:
        first_block = 0
        for i, (number, each) in enumerate(part):
            argument["lists"][i] = (each.indices, each.values, each.count, number, each.type)
            argument["first_block"][i] = first_block
            first_block += arguments.blocks_of(each.count)
        argument["first_block"][len(part)] = first_block
        argument["num_lists"] = len(part)
        launch(kernel, first_block, argument)

    for begin in range(0, len(numbered), arguments.LISTS):
        start("accumulate_check", numbered[begin : begin + arguments.LISTS])
    for each in numbered:
        start("accumulate_add", [each])
