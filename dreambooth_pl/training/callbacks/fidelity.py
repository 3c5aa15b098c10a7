"""Curves of subject fidelity and prompt fidelity of the probe images.

A score alone says little. So each one is logged with its floor (the untuned base on the same
prompts and seeds) and its ceiling (the real photos compared with each other).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from dreambooth_pl.data.photos import Photos
from dreambooth_pl.evaluation.subject import (
    encode_images,
    encode_texts,
    image_scores,
    photo_scores,
)
from dreambooth_pl.metrics.encoders import Encoders
from dreambooth_pl.metrics.scores import EncodedImages, curve_scores
from dreambooth_pl.training.best_checkpoint import Means


class Fidelity(Callback):
    """Scores what `Probes` generates, and logs the curves of `metrics.scores` under `fidelity/`.

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
        """Scores of the real photos against each other; None for a single photo."""
        self._photos: EncodedImages | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the real photos once, and score them."""
        self.encoders.to(pl_module.device)
        photos = Photos(trainer.datamodule.instance_photos)  # one in memory at a time
        self._photos = encode_images(self.encoders, photos)
        scores = photo_scores(self._photos, curve_scores())
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
            prompts: N texts that the images were generated from.
        """
        assert self.floor is not None, "the floor comes first"
        scores = self.score(images, class_texts, prompts)
        log(trainer, curves("fidelity", scores, self.floor, self.ceiling))

    def score(
        self, images: Sequence[Image.Image], class_texts: Sequence[str], prompts: Sequence[str]
    ) -> Means:
        """Score images against the subject's photos and their own texts; see `record`."""
        assert self._photos is not None, "photos are encoded when fit starts"
        encoded = encode_images(self.encoders, images)
        texts = encode_texts(self.encoders, class_texts, prompts)
        return _means(image_scores(encoded, self._photos, texts, curve_scores()))

    def state_dict(self) -> dict[str, Any]:
        """Return the floor: a resumed run need not generate with the untuned base again."""
        return {"floor": dict(self.floor) if self.floor else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the floor over."""
        self.floor = state_dict["floor"]


def curves(group: str, scores: Means, floor: Means, ceiling: Means | None) -> dict[str, float]:
    """Return scores, floor and ceiling under their names in the log.

    >>> curves("fidelity", {"dino": 0.5}, {"dino": 0.4}, None)
    {'fidelity/dino': 0.5, 'fidelity/dino_floor': 0.4}
    """
    parts = {"": scores, "_floor": floor, "_ceiling": ceiling or {}}
    return {
        f"{group}/{name}{suffix}": value
        for suffix, means in parts.items()
        for name, value in means.items()
    }


def log(trainer: Trainer, values: dict[str, float]) -> None:
    """Log values at the current step to all loggers."""
    for logger in trainer.loggers:
        logger.log_metrics(values, step=trainer.global_step)


def _means(scores: Mapping[str, Tensor]) -> Means:
    return {name: values.mean().item() for name, values in scores.items()}
