"""The samples of a run as a dataset, and the sampler and loader that start at the run's step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from dreambooth_pl.data.sample_order import BucketSampleOrder, SampleOrder
from dreambooth_pl.randomness import generator


class Samples(Dataset):
    """All samples of a run. Item i is a function of (seed, i) alone.

    Items are dicts of ints. `sample_index` is i. `instance_view` and, with class images,
    `class_view` are view indices. With caption dropout, `caption_dropped` is 1 where the photo's
    prompt is replaced by the empty one.

    Args:
        length: Number of samples in the run.
        instances: Sample order of the photos.
        classes: Sample order of the class images; None without class images.
        seed: The run's seed.
        caption_dropout: Probability that a photo's prompt is dropped.
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
            # the class images' views come after the photos'
            item["class_view"] = self.instances.first_view[-1] + self.classes(index)
        if self.caption_dropout > 0:
            chance = torch.rand((), generator=generator(self.seed, "caption dropout", index))
            item["caption_dropped"] = int(chance.item() < self.caption_dropout)
        return item


class RunSampler(DistributedSampler):
    """Yields a run's sample indices in order, from the first that no step has consumed.

    Its length is that of the whole run even if it starts in the middle, because a resumed
    Lightning trainer continues to count batches where the checkpoint stopped. Lightning does not
    replace a `DistributedSampler` under several ranks, so it derives from that class. The ranks
    take the samples alternately.

    Args:
        samples: The samples of the run.
        consumed: Returns the number of samples that all ranks together have trained on.
        num_replicas: Number of ranks.
        rank: This rank.
    """

    def __init__(
        self, samples: Samples, consumed: Callable[[], int], num_replicas: int, rank: int
    ) -> None:
        super().__init__(samples, num_replicas=num_replicas, rank=rank, shuffle=False)
        self.consumed = consumed

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.consumed() + self.rank, len(self.dataset), self.num_replicas))


class RunLoader(DataLoader):
    """A loader that Lightning can resume in the middle of an epoch.

    Lightning recognises such a loader by its two state methods. The state itself is the trainer's
    step, which Lightning restores, so there is nothing to save here.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return nothing to save."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore nothing."""
