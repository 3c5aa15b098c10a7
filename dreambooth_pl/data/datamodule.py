"""The data module: the views that a run trains on, and the samples that show them.

Batches hold view indices, not pixels. The LightningModule encodes every view once when fit starts.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from dreambooth_pl.data.buckets import default_step
from dreambooth_pl.data.captions import read_captions, remarks_about, warnings_about
from dreambooth_pl.data.class_images import remarks_on_own_images
from dreambooth_pl.data.photo_views import PhotoViews
from dreambooth_pl.data.photos import VettingReport, vet_folder
from dreambooth_pl.data.sample_order import BucketSampleOrder, SampleOrder
from dreambooth_pl.data.samples import RunLoader, RunSampler, Samples
from dreambooth_pl.data.settings import DataSettings
from dreambooth_pl.data.views import View
from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import fill


class DreamBoothDataModule(LightningDataModule):
    """Photos of the subject and class images, as one epoch that is the whole run.

    Args:
        **settings: Fields of `DataSettings`.

    Raises:
        UserError: A value is out of range, or a prompt has an unknown placeholder.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        # jsonargparse reads this call to offer the fields of DataSettings as the keys data.*
        self.settings = DataSettings(**settings)
        # What training and callbacks read.
        self.identifier = self.settings.identifier
        self.class_noun = self.settings.class_noun
        self.class_prompt = fill(self.settings.class_prompt, None, self.class_noun)
        self.num_class_images = self.settings.num_class_images
        class_dir = self.settings.class_dir
        self.class_dir = None if class_dir is None else Path(class_dir)
        cache_dir = self.settings.cache_dir
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self.resolution = self.settings.resolution
        self.caption_dropout = self.settings.caption_dropout
        self.seed = self.settings.seed
        self._class_images: tuple[Path, ...] = ()

    @cached_property
    def _vetted(self) -> tuple[VettingReport, list[list[View]]]:
        """The report on the photos and, for each usable one, its unflipped views."""
        settings = self.settings
        folder = Path(settings.instance_dir)
        of_class: tuple[str, ...] = ()
        if self.class_dir is not None and self.num_class_images:
            of_class = remarks_on_own_images(self.class_dir, folder, self.num_class_images)
        report = vet_folder(folder, resolution=self.resolution)
        words = self.identifier, self.class_noun
        prompts = read_captions(settings.captions, report.used, settings.instance_prompt, *words)
        photo_views = _photo_views(settings)
        views = photo_views(report.used, prompts)
        report = replace(
            report,
            warned=(*report.warned, *warnings_about(settings.captions, report, prompts, *words)),
            remarks=(
                *remarks_about(settings.captions, report.used),
                *photo_views.remarks(views, settings.horizontal_flip),
                *of_class,
            ),
        )
        return report, views

    @property
    def report(self) -> VettingReport:
        """What `instance_dir` holds, captions and masks included. The first access reads it.

        Raises:
            UserError: No photo is usable, or a caption or mask is missing or broken.
        """
        return self._vetted[0]

    @property
    def instance_photos(self) -> tuple[Path, ...]:
        """The usable photos of the subject."""
        return self.report.used

    def setup(self, stage: str) -> None:
        """Vet the photos."""
        assert self.report.used

    def set_class_images(self, paths: Sequence[Path]) -> None:
        """Set the class images to train on; none for training without prior preservation."""
        self._class_images = tuple(Path(path) for path in paths)

    @property
    def views(self) -> list[View]:
        """The distinct views, those of photos first. Batches refer to them by position."""
        square = (self.resolution, self.resolution)
        views = [view for of_photo in self._vetted[1] for view in of_photo]
        views += [View(path, self.class_prompt, size=square) for path in self._class_images]
        flips = (False, True) if self.settings.horizontal_flip else (False,)
        return [replace(view, flip=flip) for view in views for flip in flips]

    def for_trial(self, class_images: int) -> DreamBoothDataModule:
        """Return a copy with few views, for some steps whose result is thrown away.

        Args:
            class_images: number of class images, for which photos stand in.
        """
        trial = copy.copy(self)
        trial.cache_dir = None  # nothing is written
        report, views = self._vetted
        largest = sorted(views, key=lambda of_photo: of_photo[0].size, reverse=True)[:2]
        trial._vetted = report, [of_photo[:1] for of_photo in largest]
        trial.set_class_images([of_photo[0].path for of_photo in largest][:class_images])
        return trial

    def samples(self, length: int, block: int | None = None) -> Samples:
        """Return the first samples of a run.

        Args:
            length: Number of samples.
            block: Number of consecutive samples whose photos have the same size if aspect-ratio
                buckets are on; None for the batch size.
        """
        flips = self.settings.horizontal_flip
        classes = None
        if self._class_images:
            classes = SampleOrder(self.seed, "class", len(self._class_images), flips)
        instances = self._photo_order(block or self.settings.batch_size)
        return Samples(length, instances, classes, self.seed, self.caption_dropout)

    def _photo_order(self, block: int) -> SampleOrder | BucketSampleOrder:
        """Return the sample order of the photos; it keeps to buckets if there are several."""
        photos, flips = self._vetted[1], self.settings.horizontal_flip
        crops = [len(views) for views in photos]
        buckets: dict[tuple[int, int] | None, list[int]] = {}
        for number, views in enumerate(photos):
            buckets.setdefault(views[0].size, []).append(number)
        if len(buckets) == 1 or block == 1:
            return SampleOrder(self.seed, "instance", len(photos), flips, crops)
        pictures = list(buckets.values())
        return BucketSampleOrder(self.seed, "instance", pictures, flips, crops, block)

    def train_dataloader(self) -> RunLoader:
        """Return the loader of the whole run. It starts at the trainer's step.

        Batches are dicts of int64 [B]: `sample_index`, `instance_view`, with class images
        `class_view`, and with caption dropout `caption_dropped`.

        Raises:
            UserError: The trainer has no number of steps.
        """
        trainer = self.trainer
        assert trainer is not None, "the trainer asks for this"
        if trainer.max_steps < 0:
            raise UserError(
                "trainer.max_steps: is not set; a run is counted in optimiser steps, such as 1300."
            )
        batch_size = self.settings.batch_size
        per_step = batch_size * trainer.accumulate_grad_batches * trainer.world_size
        samples = self.samples(trainer.max_steps * per_step, batch_size * trainer.world_size)
        sampler = RunSampler(
            samples,
            consumed=lambda: trainer.global_step * per_step,
            num_replicas=trainer.world_size,
            rank=trainer.global_rank,
        )
        return RunLoader(
            samples,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.settings.num_workers,
            generator=torch.Generator(),  # else each epoch's start draws from the global state
        )


def _photo_views(settings: DataSettings) -> PhotoViews:
    step = settings.bucket_step or default_step(settings.resolution)
    return PhotoViews(
        seed=settings.seed,
        resolution=settings.resolution,
        num_crops=settings.num_crops if settings.crop == "random" else None,
        bucket_step=step if settings.aspect_ratio_buckets else None,
        mask_dir=None if settings.mask_dir is None else Path(settings.mask_dir),
        mask_background_weight=settings.mask_background_weight,
    )
