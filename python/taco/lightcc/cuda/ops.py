"""The five ops: what is checked, what is allocated, and which kernels are launched.

Nothing here depends on values on the device, so nothing waits for it.
"""

from collections.abc import Sequence

import torch

from taco.lightcc.cuda import _fusion, _lists, _topk
from taco.lightcc.cuda._launch import Launcher

NAMES = ("topk_compress", "topk_decompress", "topk_accumulate_", "fuse", "unfuse")


class Ops:
    """The ops, on the devices that a launcher runs kernels on."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._mailboxes = _lists.Mailboxes()

    def register(self, library: torch.library.Library, key: str) -> None:
        """Registers all of them with a library that has their schemas, for a dispatch key."""
        for name in NAMES:
            library.impl(name, getattr(self, name), key)

    def topk_compress(
        self,
        grad: torch.Tensor,
        residual: torch.Tensor,
        state: torch.Tensor,
        k: int,
        *,
        scale: float = 1.0,
        exact: bool = False,
        values_dtype: torch.dtype | None = None,
        velocity: torch.Tensor | None = None,
        momentum: float = 0.0,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As docs/lightcc_ops.md."""
        step = _topk.Step(grad, residual, state, k, scale, exact, values_dtype, velocity, momentum)
        with self._launcher.on(grad.device) as launch:
            return step.run(launch)

    def topk_decompress(
        self, indices: torch.Tensor, values: torch.Tensor, n: int, *, scale: float = 1.0
    ) -> torch.Tensor:
        """As docs/lightcc_ops.md."""
        op = "topk_decompress"
        _lists.check_length(op, n)
        lists = _lists.checked(op, values.device, [indices], [values])
        out = torch.zeros(n, dtype=torch.float32, device=values.device)
        self._accumulate(op, out, lists, scale)
        return out

    def topk_accumulate_(
        self,
        out: torch.Tensor,
        indices: Sequence[torch.Tensor],
        values: Sequence[torch.Tensor],
        *,
        scale: float = 1.0,
    ) -> None:
        """As docs/lightcc_ops.md."""
        op = "topk_accumulate_"
        _lists.check_out(op, out)
        self._accumulate(op, out, _lists.checked(op, out.device, indices, values), scale)

    def _accumulate(
        self, op: str, out: torch.Tensor, lists: list[_lists.PackedList], scale: float
    ) -> None:
        self._mailboxes.raise_what_was_found(op)
        mailbox = self._mailboxes.of(out.device)
        with self._launcher.on(out.device) as launch:
            _lists.accumulate(launch, out, lists, scale, mailbox)
        self._mailboxes.raise_what_was_found(op)

    def fuse(
        self, tensors: Sequence[torch.Tensor], buffer: torch.Tensor, *, scale: float = 1.0
    ) -> None:
        """As docs/lightcc_ops.md."""
        arguments = _fusion.launches("fuse", tensors, buffer, scale, to_buffer=True)
        self._transfer(buffer.device, arguments)

    def unfuse(
        self, buffer: torch.Tensor, tensors: Sequence[torch.Tensor], *, scale: float = 1.0
    ) -> None:
        """As docs/lightcc_ops.md."""
        arguments = _fusion.launches("unfuse", tensors, buffer, scale, to_buffer=False)
        self._transfer(buffer.device, arguments)

    def _transfer(self, device: torch.device, arguments: list[_fusion.Argument]) -> None:
        with self._launcher.on(device) as launch:
            for blocks, argument in arguments:
                launch("fuse_transfer", blocks, argument)

    def raise_what_was_found(self) -> None:
        """Raises for a list whose index is out of range, if a kernel has found one."""
        self._mailboxes.raise_what_was_found("topk_accumulate_")
