"""The views that a run trains on, and which of them each sample takes.

Batches carry indices of views, not pixels: the module encodes every view once when fit starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule

from dreambooth_pl.data.buckets import default_step
from dreambooth_pl.data.captions import (
    CaptionSource,
    read_captions,
    remarks_about,
    warnings_about,
)
from dreambooth_pl.data.photo_views import MAX_CROPS, PhotoViews
from dreambooth_pl.data.photos import VettingReport, vet_folder
from dreambooth_pl.data.priors import remarks_on_own_images
from dreambooth_pl.data.sample_order import BucketSampleOrder, SampleOrder
from dreambooth_pl.data.samples import RunLoader, RunSampler, Samples
from dreambooth_pl.data.views import View
from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import check_template, fill


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
        resolution: side of the square training images in pixels; photos are scaled and cropped.
        batch_size: photos per batch; as many class images come with them.
        horizontal_flip: also show every picture with left and right swapped.
        captions: where the photos' captions are: template (instance_prompt for all), files
            (NAME.txt beside each photo), metadata (metadata.jsonl with file_name and text), or auto
            (the first of metadata, files, template that is there). {identifier} and {class} are
            filled into all of them.
        caption_dropout: probability that a photo is shown with an empty prompt instead of its own;
            class images always keep theirs.
        crop: which part of a photo is used where its shape does not fit: its center, or num_crops
            random ones. Class images are always cropped to the centre.
        num_crops: distinct random crops of each photo, all encoded before the first step; fewer
            where a photo has no more. For crop random.
        aspect_ratio_buckets: train on photos in sizes near their own shape, of about
            resolution x resolution pixels, instead of squares; photos of a batch share a size.
        bucket_step: what the sides of buckets are multiples of, in pixels; null for an eighth of
            the resolution, at most 64.
        mask_dir: folder with a mask of the same name for each photo, white where the subject is;
            the loss looks there. null: NAME.mask.png beside the photo NAME, if there.
        mask_background_weight: weight of the loss where a mask is black, against 1 where it is
            white.
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
        captions: CaptionSource = "template",
        caption_dropout: float = 0.0,
        crop: Literal["center", "random"] = "center",
        num_crops: int = 8,
        aspect_ratio_buckets: bool = False,
        bucket_step: int | None = None,
        mask_dir: str | None = None,
        mask_background_weight: float = 0.0,
    ) -> None:
        super().__init__()
        _check("resolution", resolution, minimum=8)
        if resolution % 8:
            raise UserError(f"data.resolution: {resolution} px is not a multiple of 8.")
        _check("batch_size", batch_size, minimum=1)
        _check("num_class_images", num_class_images, minimum=0)
        _check("num_workers", num_workers, minimum=0)
        _check("num_crops", num_crops, minimum=1)
        if num_crops > MAX_CROPS:
            raise UserError(f"data.num_crops: {num_crops} is too many; at most {MAX_CROPS}.")
        for key, share in (
            ("caption_dropout", caption_dropout),
            ("mask_background_weight", mask_background_weight),
        ):
            if not 0 <= share <= 1:
                raise UserError(f"data.{key}: {share} is not between 0 and 1.")
        if bucket_step is not None:
            _check("bucket_step", bucket_step, minimum=8)
            if bucket_step % 8 or resolution % bucket_step:
                raise UserError(
                    f"data.bucket_step: {bucket_step} px must be a multiple of 8 that divides "
                    f"data.resolution, {resolution}."
                )
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
        self._template = instance_prompt
        self.instance_prompt = fill(instance_prompt, identifier, class_noun)
        self.class_prompt = fill(class_prompt, None, class_noun)
        self.num_class_images = num_class_images
        self.class_dir = None if class_dir is None else Path(class_dir)
        self.resolution = resolution
        self.batch_size = batch_size
        self.horizontal_flip = horizontal_flip
        self.num_workers = num_workers
        self.seed = seed
        self.captions = captions
        self.caption_dropout = caption_dropout
        self._photo_views = PhotoViews(
            seed=seed,
            resolution=resolution,
            num_crops=num_crops if crop == "random" else None,
            bucket_step=(bucket_step or default_step(resolution)) if aspect_ratio_buckets else None,
            mask_dir=None if mask_dir is None else Path(mask_dir),
            mask_background_weight=mask_background_weight,
        )
        self._report: VettingReport | None = None
        self._views_of_photos: list[list[View]] = []
        self._class_images: tuple[Path, ...] = ()

    @property
    def report(self) -> VettingReport:
        """What `instance_dir` holds, captions and masks included; vetted at the first call.

        Raises UserError if nothing is usable, or a caption or mask is missing or broken.
        """
        if self._report is None:
            of_class: tuple[str, ...] = ()
            if self.class_dir is not None and self.num_class_images:
                folders = self.class_dir, self.instance_dir
                of_class = remarks_on_own_images(*folders, self.num_class_images)
            report = vet_folder(self.instance_dir, resolution=self.resolution)
            words = self.identifier, self.class_noun
            prompts = read_captions(self.captions, report.used, self._template, *words)
            self._views_of_photos = self._photo_views(report.used, prompts)
            self._report = replace(
                report,
                warned=(
                    *report.warned,
                    *warnings_about(self.captions, report, prompts, *words),
                ),
                remarks=(
                    *remarks_about(self.captions, report.used),
                    *self._photo_views.remarks(self._views_of_photos, self.horizontal_flip),
                    *of_class,
                ),
            )
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
        square = (self.resolution, self.resolution)
        assert self.report.used  # vetting makes the photos' views
        views = [view for photo in self._views_of_photos for view in photo]
        views += [
            View(path, "class", self.class_prompt, size=square) for path in self._class_images
        ]
        flips = (False, True) if self.horizontal_flip else (False,)
        return [replace(view, flip=flip) for view in views for flip in flips]

    def samples(self, length: int, block: int | None = None) -> Samples:
        """Return the first `length` samples of a run.

        With aspect-ratio buckets the photos of `block` consecutive samples (default: of a batch)
        have the same size.
        """
        assert self.report.used  # vetting makes the photos' views
        flips, photos = self.horizontal_flip, self._views_of_photos
        crops = [len(views) for views in photos]
        block = block or self.batch_size
        buckets: dict[tuple[int, int] | None, list[int]] = {}
        for number, views in enumerate(photos):
            buckets.setdefault(views[0].size, []).append(number)
        instances: SampleOrder | BucketSampleOrder
        if len(buckets) > 1 and block > 1:
            pictures = list(buckets.values())
            instances = BucketSampleOrder(self.seed, "instance", pictures, flips, crops, block)
        else:
            instances = SampleOrder(self.seed, "instance", len(photos), flips, crops)
        classes = None
        if self._class_images:
            classes = SampleOrder(self.seed, "class", len(self._class_images), flips)
        return Samples(length, instances, classes, self.seed, self.caption_dropout)

    def train_dataloader(self) -> RunLoader:
        """Return the loader of the whole run; iterating it starts at the trainer's step.

        Batches are dicts of int64 [B]: `sample_index`, `instance_view` and, with class images,
        `class_view`, with caption dropout `caption_dropped`.
        """
        trainer = self.trainer
        assert trainer is not None, "the trainer asks for this"
        if trainer.max_steps < 0:
            raise UserError(
                "trainer.max_steps: is not set; a run is counted in optimiser steps, such as 1300."
            )
        per_step = self.batch_size * trainer.accumulate_grad_batches * trainer.world_size
        samples = self.samples(trainer.max_steps * per_step, self.batch_size * trainer.world_size)
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
