"""Curves of subject fidelity and prompt fidelity of the probe images.

A score alone says little. So each one is logged with its floor (the untuned base on the same
prompts and seeds) and its ceiling (the real photos compared with each other).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from dreambooth_pl.data.photos import read_photo
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
    """Scores the images of `Probes`, and logs DINO, CLIP-I and CLIP-T under `fidelity/`.

    The encoders belong to this callback, not to the Lightning module, so that they are not part of
    its parameters or checkpoints.

    Args:
        encoders: CLIP and DINO.
    """

    def __init__(self, encoders: Encoders) -> None:
        self.encoders = encoders
        self.floor: Means | None = None
        """Scores of the untuned base; None until `set_floor` is called."""
        self.ceiling: Means | None = None
        """Scores of the real photos compared with each other; None for a single photo."""
        self._real: RealPhotos | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the real photos once, and score them."""
        self.encoders.to(pl_module.device)
        photos = [read_photo(path) for path in trainer.datamodule.instance_photos]
        self._real = encode_real_photos(self.encoders, photos)
        scores = score_real_photos(self._real)
        self.ceiling = _means(scores) if scores else None

    def set_floor(
        self, images: Sequence[Image.Image], class_texts: Sequence[str], prompts: Sequence[str]
    ) -> None:
        """Set the floor to the scores of the untuned base's images; see `record`."""
        self.floor = self.score(images, class_texts, prompts)

    def record(
        self,
        trainer: Trainer,
        images: Sequence[Image.Image],
        class_texts: Sequence[str],
        prompts: Sequence[str],
    ) -> None:
        """Score images and log the means, floor and ceiling at the current step.

        Args:
            trainer: its loggers receive the scores.
            images: N generated images.
            class_texts: N texts without the identifier, for CLIP-T.
            prompts: N prompts that the images were generated from.
        """
        assert self.floor is not None, "the floor comes first"
        scores = self.score(images, class_texts, prompts)
        log(trainer, curves("fidelity", scores, self.floor, self.ceiling))

    def score(
        self, images: Sequence[Image.Image], class_texts: Sequence[str], prompts: Sequence[str]
    ) -> Means:
        """Return the mean scores of images against the photos and their texts; see `record`."""
        assert self._real is not None, "photos are encoded when fit starts"
        return _means(score_images(self.encoders, images, self._real, class_texts, prompts))

    def state_dict(self) -> dict[str, Any]:
        """Return the floor, so that a resumed run need not generate it again."""
        return {"floor": asdict(self.floor) if self.floor else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the floor."""
        self.floor = Means(**state_dict["floor"]) if state_dict["floor"] else None


def curves(group: str, scores: Means, floor: Means, ceiling: Means | None) -> dict[str, float]:
    """Return scores, floor and ceiling under their names in the log.

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
    """Log values at the current step to all loggers."""
    for logger in trainer.loggers:
        logger.log_metrics(values, step=trainer.global_step)


def _means(scores: ImageScores) -> Means:
    def mean(values: torch.Tensor | None) -> float | None:
        return None if values is None else values.mean().item()

    return Means(mean(scores.dino), mean(scores.clip_i), mean(scores.clip_t))
