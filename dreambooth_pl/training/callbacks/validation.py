"""Curves of fidelity and drift during training, on prompts that no evaluation uses.

An evaluation uses the probe prompts or DreamBench's. If these also chose the best checkpoint, the
evaluation's scores would look better than they are. So the curves, and with them the best
checkpoint, use a separate set of prompts. Overfitting shows when DINO keeps rising while CLIP-T
falls and drift grows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor

from dreambooth_pl.bounds import Bounds, Filled, check_values
from dreambooth_pl.errors import UserError
from dreambooth_pl.metrics.functional import drift_scores
from dreambooth_pl.metrics.scores import curve_scores
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.prompts import PROMPT_SETS, PromptSet, fill, prompt_set
from dreambooth_pl.sampling.batch_size import settle_batch_size
from dreambooth_pl.sampling.requests import ImageRequest, image_seed
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.sampling.shared import generate_together as generate
from dreambooth_pl.training.best_checkpoint import RULES, BestBy, Means
from dreambooth_pl.training.callbacks.fidelity import Fidelity, curves, log
from dreambooth_pl.training.callbacks.rounds import Rounds, show_sheet

OWN_SET = "validation"  # of prompts
_CLASS_TEMPLATE = "a {class}"
_Prompts = Annotated[
    str, Filled("the name of a set of prompts or the path of a YAML file, or null")
]


@dataclass(frozen=True)
class ValidationSettings:
    """Curves of fidelity and drift during training, and how they choose the best checkpoint."""

    prompts: _Prompts | None = OWN_SET
    """Prompts of the curves: `validation` (six places that no evaluation names) or the path of a
    YAML file of your own prompts, none of which an evaluation may use. null: no curves and no best
    checkpoint."""
    class_images: Annotated[int, Bounds(0, 1000, too_high="too many")] = 2
    """Images of the class, without the identifier, per round. Drift is their distance from the
    untuned base's images with the same seeds. With the six prompts, two class images fill a batch
    of 8. 0: no drift."""
    best_by: BestBy = "balance"
    """How the best checkpoint is chosen. balance: how far DINO has moved from the untuned base to
    the real photos, times the share of the base's CLIP-T that is left. dino, clip_i: similarity to
    the subject alone. last: the newest."""

    def __post_init__(self) -> None:
        check_values(type(self), self, "validation")


def curve_names() -> list[str]:
    """Return what is logged under `validation/` at each round, beside floors and ceilings."""
    return ["score", *(score.name for score in curve_scores()), "drift"]


def validation_prompts(settings: ValidationSettings) -> PromptSet | None:
    """Return the set of prompts that the settings name; None for no validation.

    Raises:
        UserError: the set or file does not exist, or an evaluation uses one of its prompts.
    """
    if settings.prompts is None:
        return None
    try:
        own = prompt_set(settings.prompts)
    except UserError as error:
        raise UserError(f"validation.prompts: {error}") from error
    judged = {
        _plain(prompt)
        for name in PROMPT_SETS
        if name != OWN_SET
        for prompt in prompt_set(name).prompts
    }
    for prompt in own.prompts:
        if _plain(prompt) in judged:
            raise UserError(
                f"validation.prompts: {settings.prompts} holds {prompt!r}, which is one of the "
                "evaluation's prompts. Choosing the best checkpoint on it would make the "
                "evaluation's numbers look better than they are; use another prompt."
            )
    return own


class Validation(Rounds):
    """Generates the validation prompts and a few class images, scores them, logs `validation/...`.

    It keeps the rhythm of the probes. The first round is the untuned base's: it is the floor, and
    drift is measured from its class images in all later rounds. Like the probes it changes nothing
    about the training.

    Args:
        settings: how many class images, and the rule for the best checkpoint.
        prompts: the prompts.
        every_n_steps: optimiser steps between two rounds.
        sampling: how; the run's own sampler settings.
        folder: where the contact sheets go; made when the first is saved.
        reporter: shows how many are generated.
        fidelity: scores the images against the subject's photos.
    """

    def __init__(
        self,
        settings: ValidationSettings,
        prompts: PromptSet,
        every_n_steps: int,
        sampling: SamplingSettings,
        folder: Path,
        reporter: ProgressReporter,
        fidelity: Fidelity,
    ) -> None:
        super().__init__(every_n_steps)
        self.settings = settings
        self.prompts = prompts
        self.sampling = sampling
        self.folder = folder
        self.reporter = reporter
        self.fidelity = fidelity
        self.latest: tuple[int, float] | None = None
        """Step and score (by the rule `best_by`) of the last round."""
        self.floor: Means | None = None
        """Scores of the untuned base."""
        self._untuned: Tensor | None = None  # DINO features [C, d] of its class images

    def resume(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generate with the untuned base if the checkpoint did not bring its scores."""
        if self.floor is None:
            untuned = replace(self.sampling, lora_scale_unet=0.0, lora_scale_text_encoder=0.0)
            images = self._generate(trainer, pl_module, untuned)
            self.floor, self._untuned = self._measure(trainer, images)

    def round(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generate, show and score."""
        images = self._generate(trainer, pl_module, self.sampling)
        count = self.settings.class_images
        labels = [*self.prompts.labels, *(f"class {i + 1}" for i in range(count))]
        show_sheet(trainer, "validation", images, labels, self.folder)
        scores, features = self._measure(trainer, images)
        if self.floor is None:  # new adapters change nothing: these images are the untuned base's
            self.floor, self._untuned = scores, features
        ceiling, step = self.fidelity.ceiling, trainer.global_step
        score = RULES[self.settings.best_by](scores, self.floor, ceiling, step)
        self.latest = (step, score)
        values = curves("validation", scores, self.floor, ceiling) | {"validation/score": score}
        if features is not None:
            drift = drift_scores(self._untuned.to(features.device), features)
            values["validation/drift"] = drift.mean().item()
        log(trainer, values)

    def state_dict(self) -> dict[str, Any]:
        """Return the floor and the class features, with the prompts and settings they belong to."""
        return super().state_dict() | {
            "of": self._basis(),
            "floor": dict(self.floor) if self.floor else None,
            "untuned": None if self._untuned is None else self._untuned.cpu(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the floor, unless the prompts, class images or sampler settings have changed."""
        super().load_state_dict(state_dict)
        if state_dict["floor"] and state_dict["of"] == self._basis():
            self.floor = state_dict["floor"]
            self._untuned = state_dict["untuned"]

    def _basis(self) -> dict[str, Any]:
        return {
            "prompts": list(self.prompts.prompts),
            "class_images": self.settings.class_images,
            "sampling": asdict(self.sampling),
        }

    def _measure(self, trainer: Trainer, images: list[Image.Image]) -> tuple[Means, Tensor | None]:
        """Return the prompt images' mean scores and the class images' DINO features [C, d]."""
        count = len(self.prompts.prompts)
        data = trainer.datamodule
        texts = [fill(prompt, None, data.class_noun) for prompt in self.prompts.prompts]
        prompts = [request.prompt for request in self._requests(trainer)[:count]]
        scores = self.fidelity.score(images[:count], texts, prompts)
        if not self.settings.class_images:
            return scores, None
        return scores, self.fidelity.encoders.dino.encode_images(images[count:])

    def _generate(
        self, trainer: Trainer, pl_module: LightningModule, sampling: SamplingSettings
    ) -> list[Image.Image]:
        base, requests = pl_module.base_model, self._requests(trainer)
        sampling = settle_batch_size(base, sampling)
        with self.reporter.task(
            f"validation at step {trainer.global_step}", total=len(requests)
        ) as task:
            return list(generate(base, requests, sampling, progress=task.update))

    def _requests(self, trainer: Trainer) -> list[ImageRequest]:
        """Return requests for the prompts, then for the class images, each with its own seed."""
        data = trainer.datamodule
        requests = [
            ImageRequest(
                fill(template, data.identifier, data.class_noun),
                image_seed(data.seed, "validation", template),
            )
            for template in self.prompts.prompts
        ]
        plain = fill(_CLASS_TEMPLATE, None, data.class_noun)
        return requests + [
            ImageRequest(plain, image_seed(data.seed, "validation", "class", index))
            for index in range(self.settings.class_images)
        ]


def _plain(prompt: str) -> str:
    """Return a prompt without differences of case, spaces and full stop."""
    return " ".join(prompt.lower().split()).rstrip(".")
