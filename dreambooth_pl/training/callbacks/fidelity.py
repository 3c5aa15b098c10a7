"""How like the subject and how true to the prompt the probe images are, as curves in the log.

Each score is logged beside its floor (the untuned base on the same prompts and seeds) and its
ceiling (the real photos against each other): a number alone says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from dreambooth_pl.data.photos import Photos
from dreambooth_pl.evaluation.scoring import (
    ImageScores,
    RealPhotos,
    encode_real_photos,
    score_images,
    score_real_photos,
)
from dreambooth_pl.metrics.encoders import Encoders
from dreambooth_pl.training.callbacks.best import Means


class Fidelity(Callback):
    """Scores what `Probes` draws, and logs DINO, CLIP-I and CLIP-T under `fidelity/`.

    The encoders live here and never hang on the module: they are no part of its parameters or
    checkpoints.

    Args:
        encoders: CLIP and DINO.
    """

    def __init__(self, encoders: Encoders) -> None:
        self.encoders = encoders
        self.floor: Means | None = None
        """Scores of the untuned base; set by the first images that `set_floor` is given."""
        self.ceiling: Means | None = None
        """Scores of the real photos against each other; None for a single photo."""
        self._real: RealPhotos | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the real photos, once."""
        self.encoders.to(pl_module.device)
        photos = Photos(trainer.datamodule.instance_photos)  # one in memory at a time
        self._real = encode_real_photos(self.encoders, photos)
        scores = score_real_photos(self._real)
        self.ceiling = _means(scores) if scores else None

    def set_floor(
        self, images: Sequence[Image.Image], class_texts: Sequence[str], prompts: Sequence[str]
    ) -> None:
        """Take the untuned base's images as the floor."""
        self.floor = self.score(images, class_texts, prompts)

    def record(
        self,
        trainer: Trainer,
        images: Sequence[Image.Image],
        class_texts: Sequence[str],
        prompts: Sequence[str],
    ) -> None:
        """Score images and log the means beside floor and ceiling, at the current step.

        Args:
            trainer: its loggers take the numbers.
            images: N generated images.
            class_texts: N texts without the identifier, for CLIP-T.
            prompts: N texts that the images were drawn from.
        """
        assert self.floor is not None, "the floor comes first"
        scores = self.score(images, class_texts, prompts)
        log(trainer, curves("fidelity", scores, self.floor, self.ceiling))

    def score(
        self, images: Sequence[Image.Image], class_texts: Sequence[str], prompts: Sequence[str]
    ) -> Means:
        """Score images against the subject's photos and their own texts; see `record`."""
        assert self._real is not None, "photos are encoded when fit starts"
        return _means(score_images(self.encoders, images, self._real, class_texts, prompts))

    def state_dict(self) -> dict[str, Any]:
        """Return the floor: a resumed run need not draw with the untuned base again."""
        return {"floor": asdict(self.floor) if self.floor else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the floor over."""
        self.floor = Means(**state_dict["floor"]) if state_dict["floor"] else None


def curves(group: str, scores: Means, floor: Means, ceiling: Means | None) -> dict[str, float]:
    """Return means, floor and ceiling under their names in the log.

    >>> curves("fidelity", Means(0.5, 0.6, 0.3), Means(0.4, 0.5, 0.3), None)["fidelity/dino_floor"]
    0.4
    """
    parts = {"": scores, "_floor": floor, "_ceiling": ceiling}
    return {
        f"{group}/{name}{suffix}": value
        for suffix, means in parts.items()
        for name, value in (asdict(means) if means else {}).items()
        if value is not None
    }


def log(trainer: Trainer, values: dict[str, float]) -> None:
    """Give values of the current step to all loggers."""
    for logger in trainer.loggers:
        logger.log_metrics(values, step=trainer.global_step)


def _means(scores: ImageScores) -> Means:
    def mean(values: torch.Tensor | None) -> float | None:
        return None if values is None else values.mean().item()

    return Means(mean(scores.dino), mean(scores.clip_i), mean(scores.clip_t))
