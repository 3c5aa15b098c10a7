"""How like the subject and how true to the prompt the probe images are, as curves in the log.

Each score is logged beside its floor (the untuned base on the same prompts and seeds) and its
ceiling (the real photos against each other): a number alone says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from dreambooth_pl.data.photos import read_photo
from dreambooth_pl.encoders import Encoders
from dreambooth_pl.scoring import (
    ImageScores,
    RealPhotos,
    encode_real_photos,
    score_images,
    score_real_photos,
)


@dataclass(frozen=True)
class Means:
    """Scores averaged over images, in [-1, 1]. CLIP-T is None for real photos."""

    dino: float
    clip_i: float
    clip_t: float | None


def balance(scores: Means, floor: Means, ceiling: Means | None) -> float:
    """Weigh subject against prompt fidelity: the rule by which the best checkpoint is chosen.

    The share of the way from floor to ceiling that DINO has gone, in [0, 1], times the share of the
    floor's CLIP-T that is left, in [0, 1]: a model that knows the subject but no longer listens to
    prompts scores low, and so does the untuned base. A single photo has no ceiling; 1 then takes
    its place.

    >>> floor, ceiling = Means(0.4, 0.6, 0.30), Means(0.8, 0.9, None)
    >>> round(balance(Means(0.7, 0.8, 0.27), floor, ceiling), 3)
    0.675
    """
    assert scores.clip_t is not None and floor.clip_t is not None
    top = ceiling.dino if ceiling else 1.0
    gain = (scores.dino - floor.dino) / max(top - floor.dino, 1e-6)
    kept = scores.clip_t / max(floor.clip_t, 1e-6)
    return min(max(gain, 0.0), 1.0) * min(max(kept, 0.0), 1.0)


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
        self.latest: tuple[int, float] | None = None
        """Step and `balance` of the probe images scored last."""
        self._real: RealPhotos | None = None
        self._ceiling: Means | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the real photos, once."""
        self.encoders.to(pl_module.device)
        photos = [read_photo(path) for path in trainer.datamodule.instance_photos]
        self._real = encode_real_photos(self.encoders, photos)
        scores = score_real_photos(self._real)
        self._ceiling = _means(scores) if scores else None

    def set_floor(
        self, images: Sequence[Image.Image], class_texts: Sequence[str], prompts: Sequence[str]
    ) -> None:
        """Take the untuned base's images as the floor."""
        self.floor = self._score(images, class_texts, prompts)

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
        scores = self._score(images, class_texts, prompts)
        score = balance(scores, self.floor, self._ceiling)
        self.latest = (trainer.global_step, score)
        logged = {"fidelity/score": score}
        parts = {"": scores, "_floor": self.floor, "_ceiling": self._ceiling}
        for suffix, means in parts.items():
            for name, value in (asdict(means) if means else {}).items():
                if value is not None:
                    logged[f"fidelity/{name}{suffix}"] = value
        for logger in trainer.loggers:
            logger.log_metrics(logged, step=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the floor: a resumed run need not draw with the untuned base again."""
        return {"floor": asdict(self.floor) if self.floor else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the floor over."""
        self.floor = Means(**state_dict["floor"]) if state_dict["floor"] else None

    def _score(
        self, images: Sequence[Image.Image], class_texts: Sequence[str], prompts: Sequence[str]
    ) -> Means:
        assert self._real is not None, "photos are encoded when fit starts"
        return _means(score_images(self.encoders, images, self._real, class_texts, prompts))


def _means(scores: ImageScores) -> Means:
    def mean(values: torch.Tensor | None) -> float | None:
        return None if values is None else values.mean().item()

    return Means(mean(scores.dino), mean(scores.clip_i), mean(scores.clip_t))
