"""The views that a run trains on, and which of them each sample takes.

Batches carry indices of views, not pixels: the module encodes every view once when fit starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from dreambooth_pl.data.photos import VettingReport, prepare, read_photo, to_tensor, vet_folder
from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import check_template, fill
from dreambooth_pl.randomness import generator


@dataclass(frozen=True)
class View:
    """One way of looking at one picture, with its prompt: what is encoded once and drawn often."""

    path: Path
    kind: str
    """`instance` or `class`."""
    prompt: str
    flip: bool = False
    """Whether left and right are swapped."""

    def pixels(self, resolution: int) -> Tensor:
        """Return float32 [3, resolution, resolution] in [-1, 1]."""
        pixels = to_tensor(prepare(read_photo(self.path), resolution))
        return pixels.flip(-1) if self.flip else pixels


class Turns:
    """Whose turn it is: the picture and the flip of the i-th sample, a function of (seed, i).

    Samples go through the pictures in rounds, each round a permutation of its own, so that every
    picture is seen equally often. With flips, every two rounds show each picture both ways.

    Args:
        seed: the run's seed.
        kind: tells apart the turns of different kinds of picture under one seed.
        count: number of pictures.
        flips: whether pictures are shown flipped as well.
    """

    def __init__(self, seed: int, kind: str, count: int, flips: bool) -> None:
        assert count > 0
        self.seed, self.kind, self.count, self.flips = seed, kind, count, flips
        self._round = -1  # the one whose permutation is kept
        self._permutation: list[int] = []

    def __call__(self, index: int) -> int:
        """Return the view index: picture, or 2 * picture + flipped where there are flips."""
        round_, position = divmod(index, self.count)
        if round_ != self._round:
            rng = generator(self.seed, "turns", self.kind, round_)
            self._permutation = torch.randperm(self.count, generator=rng).tolist()
            self._round = round_
        picture = self._permutation[position]
        if not self.flips:
            return picture
        rng = generator(self.seed, "flips", self.kind, round_ // 2)
        flipped_first = torch.randint(2, (self.count,), generator=rng)[picture].item()
        return 2 * picture + (flipped_first ^ round_ % 2)


class Samples(Dataset):
    """All samples of a run: item i is a function of (seed, i) alone.

    Items are dicts of ints: `sample_index` is i, `instance_view` and, with class images,
    `class_view` are indices of views.
    """

    def __init__(self, length: int, instances: Turns, classes: Turns | None, offset: int) -> None:
        self.length = length
        self.instances = instances
        self.classes = classes
        self.offset = offset  # class views come after the instance views

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, int]:
        if not 0 <= index < self.length:
            raise IndexError(index)  # ends iteration, too
        item = {"sample_index": index, "instance_view": self.instances(index)}
        if self.classes is not None:
            item["class_view"] = self.offset + self.classes(index)
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


class DreamBoothDataModule(LightningDataModule):
    """Photos of the subject and class images, as one epoch that is the whole run.

    Args:
        instance_dir: folder with the photos of the subject (JPEG, PNG, WebP, ...; three to five
            are usual).
        identifier: rare word that stands for the subject in prompts, such as sks.
        class_noun: what the subject is, such as dog or stuffed animal.
        instance_prompt: caption of the photos; {identifier} and {class} are filled in.
        class_prompt: caption of the class images, and the prompt that draws them.
        num_class_images: how many class images the prior-preservation loss learns from; 0 for none.
        class_dir: folder with class images of your own, or where drawn ones go (default: a folder
            in data/class_images per base, prompt and sampler, shared by all runs).
        resolution: side of the square training images in pixels; photos are scaled and their centre
            is cut out.
        batch_size: photos per batch; as many class images come with them.
        horizontal_flip: also show every picture with left and right swapped.
        num_workers: processes that prepare batches; batches are a few indices, so 0 is fastest.
        seed: keys the order of the pictures; follows seed_everything.
    """

    def __init__(
        self,
        instance_dir: str = "data/sks_dog",
        identifier: str = "sks",
        class_noun: str = "dog",
        instance_prompt: str = "a {identifier} {class}",
        class_prompt: str = "a {class}",
        num_class_images: int = 100,
        class_dir: str | None = None,
        resolution: int = 128,
        batch_size: int = 1,
        horizontal_flip: bool = False,
        num_workers: int = 0,
        seed: int = 42,
    ) -> None:
        super().__init__()
        _check("resolution", resolution, minimum=8)
        if resolution % 8:
            raise UserError(f"data.resolution: {resolution} px is not a multiple of 8.")
        _check("batch_size", batch_size, minimum=1)
        _check("num_class_images", num_class_images, minimum=0)
        _check("num_workers", num_workers, minimum=0)
        if not class_noun.strip():
            raise UserError("data.class_noun: is empty; say what the subject is, such as dog.")
        for key, template in (("instance_prompt", instance_prompt), ("class_prompt", class_prompt)):
            try:
                check_template(template)
            except UserError as error:
                raise UserError(f"data.{key}: {error}") from error
        self.instance_dir = Path(instance_dir)
        self.identifier = identifier
        self.class_noun = class_noun
        self.instance_prompt = fill(instance_prompt, identifier, class_noun)
        self.class_prompt = fill(class_prompt, None, class_noun)
        self.num_class_images = num_class_images
        self.class_dir = None if class_dir is None else Path(class_dir)
        self.resolution = resolution
        self.batch_size = batch_size
        self.horizontal_flip = horizontal_flip
        self.num_workers = num_workers
        self.seed = seed
        self._report: VettingReport | None = None
        self._class_images: tuple[Path, ...] = ()

    @property
    def report(self) -> VettingReport:
        """What `instance_dir` holds; vetted at the first call, UserError if nothing is usable."""
        if self._report is None:
            self._report = vet_folder(self.instance_dir)
        return self._report

    @property
    def instance_photos(self) -> tuple[Path, ...]:
        """The usable photos of the subject."""
        return self.report.used

    def setup(self, stage: str) -> None:
        """Vet the photos."""
        assert self.report.used

    def set_class_images(self, paths: Sequence[Path]) -> None:
        """Use these class images from now on; none for training without prior preservation."""
        self._class_images = tuple(Path(path) for path in paths)

    @property
    def views(self) -> list[View]:
        """The distinct views, of photos first; batches refer to them by position."""
        flips = (False, True) if self.horizontal_flip else (False,)
        pictures = [(path, "instance", self.instance_prompt) for path in self.instance_photos]
        pictures += [(path, "class", self.class_prompt) for path in self._class_images]
        return [View(*picture, flip) for picture in pictures for flip in flips]

    def samples(self, length: int) -> Samples:
        """Return the first `length` samples of a run."""
        flips = self.horizontal_flip
        instances = Turns(self.seed, "instance", len(self.instance_photos), flips)
        classes = None
        if self._class_images:
            classes = Turns(self.seed, "class", len(self._class_images), flips)
        return Samples(length, instances, classes, instances.count * (1 + flips))

    def train_dataloader(self) -> RunLoader:
        """Return the loader of the whole run; iterating it starts at the trainer's step.

        Batches are dicts of int64 [B]: `sample_index`, `instance_view` and, with class images,
        `class_view`.
        """
        trainer = self.trainer
        assert trainer is not None, "the trainer asks for this"
        if trainer.max_steps < 0:
            raise UserError(
                "trainer.max_steps: is not set; a run is counted in optimiser steps, such as 1300."
            )
        per_step = self.batch_size * trainer.accumulate_grad_batches * trainer.world_size
        samples = self.samples(trainer.max_steps * per_step)
        sampler = RunSampler(
            samples,
            consumed=lambda: trainer.global_step * per_step,
            num_replicas=trainer.world_size,
            rank=trainer.global_rank,
        )
        return RunLoader(
            samples,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            generator=torch.Generator(),  # else each epoch's start draws from the global state
        )


def _check(key: str, value: int, minimum: int) -> None:
    if value < minimum:
        raise UserError(f"data.{key}: {value} is too small; it must be at least {minimum}.")
