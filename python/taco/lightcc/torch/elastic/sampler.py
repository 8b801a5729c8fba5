"""ElasticSampler: gives each rank its part of what is left of an epoch."""

import random
from collections.abc import Iterator, Sized
from typing import Any

import torch.utils.data

from taco.lightcc.torch.basics import rank, size


class ElasticSampler(torch.utils.data.Sampler[int]):
    """Deals a data set out to the ranks, and again when their number has changed.

    1. Give it to `TorchState`.
    2. Call `record_batch` after each batch.
    3. Call `set_epoch` at the end of each epoch, not at its beginning.

    Args:
        dataset: of constant size.
        shuffle: whether to shuffle, in another order each epoch.
        seed: of the order; the same on every rank.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int = 0) -> None:
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.processed_num = 0
        self.reset()

    def set_epoch(self, epoch: int) -> None:
        """Begins an epoch, with nothing processed.

        Args:
            epoch: its number.
        """
        self.epoch = epoch
        self.processed_num = 0
        self.reset()

    def record_batch(self, batch_idx: int, batch_size: int) -> None:
        """Notes that every rank has processed a batch.

        Args:
            batch_idx: not needed; Horovod's signature has it.
            batch_size: samples on each rank.
        """
        self.processed_num += batch_size * self.num_replicas

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and how much of it is done."""
        return {"epoch": self.epoch, "processed_num": self.processed_num}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where the state was taken, with the present ranks."""
        self.epoch = state_dict["epoch"]
        self.processed_num = state_dict["processed_num"]
        self.reset()

    def reset(self) -> None:
        """Deals out what is left to the present ranks."""
        self.num_replicas = size()
        self.rank = rank()
        order = list(range(len(self.dataset)))
        if self.shuffle:
            random.Random(self.seed + self.epoch).shuffle(order)
        self.remaining_indices = order[self.processed_num :]
        self.num_samples = -(-len(self.remaining_indices) // self.num_replicas)
        self.total_size = self.num_samples * self.num_replicas

    def __iter__(self) -> Iterator[int]:
        """This rank's samples; the first ones come again where the number does not divide."""
        left = self.remaining_indices
        for i in range(self.rank, self.total_size, self.num_replicas):
            yield left[i % len(left)]

    def __len__(self) -> int:
        return self.num_samples
