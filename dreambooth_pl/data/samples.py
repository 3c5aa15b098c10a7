"""The samples of a run as a data set, and the order in which loaders go through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from dreambooth_pl.data.sample_order import BucketSampleOrder, SampleOrder
from dreambooth_pl.randomness import generator


class Samples(Dataset):
    """All samples of a run: item i is a function of (seed, i) alone.

    Items are dicts of ints: `sample_index` is i, `instance_view` and, with class images,
    `class_view` are indices of views; with caption dropout `caption_dropped` is 1 where the
    instance's prompt is to be left empty.
    """

    def __init__(
        self,
        length: int,
        instances: SampleOrder | BucketSampleOrder,
        classes: SampleOrder | None,
        seed: int = 0,
        caption_dropout: float = 0.0,
    ) -> None:
        self.length = length
        self.instances = instances
        self.classes = classes
        self.seed = seed
        self.caption_dropout = caption_dropout

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, int]:
        if not 0 <= index < self.length:
            raise IndexError(index)  # ends iteration, too
        item = {"sample_index": index, "instance_view": self.instances(index)}
        if self.classes is not None:
            # class views come after the instance views
            item["class_view"] = self.instances.first_view[-1] + self.classes(index)
        if self.caption_dropout > 0:
            draw = torch.rand((), generator=generator(self.seed, "caption dropout", index))
            item["caption_dropped"] = int(draw.item() < self.caption_dropout)
        return item


class RunSampler(DistributedSampler):
    """Goes through a run's samples in order, from the first that no step has consumed yet.

    Its length is that of the whole run also when it starts in the middle: on resuming, Lightning
    goes on counting batches where the checkpoint stopped. It is a DistributedSampler so that
    Lightning leaves it alone under several ranks, which take turns.
    """

    def __init__(
        self, samples: Samples, consumed: Callable[[], int], num_replicas: int, rank: int
    ) -> None:
        super().__init__(samples, num_replicas=num_replicas, rank=rank, shuffle=False)
        self.consumed = consumed

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.consumed() + self.rank, len(self.dataset), self.num_replicas))


class RunLoader(DataLoader):
    """Its state is the trainer's step, which Lightning restores; it has nothing to save itself.

    Having the two methods tells Lightning that it can be resumed in the middle.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return nothing to save."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore nothing."""
