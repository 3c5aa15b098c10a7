"""The loss and its gradients for several runs at once."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.conditioning import Conditioning
from dreambooth_pl.bases.transfer import upload
from dreambooth_pl.memory.exhausted import out_of_memory
from dreambooth_pl.training.cuda_graph.recorded import RecordedDenoiser
from dreambooth_pl.training.losses import DreamBoothLoss, combine_losses, per_sample_mse
from dreambooth_pl.training.module import Drawn, DreamBooth, Shown
from dreambooth_pl.training.together.base import together
from dreambooth_pl.training.together.parameters import StackedParameters

log = logging.getLogger(__name__)
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class _Part:
    """Runs whose samples the denoiser sees in one call."""

    rows: slice
    base: Base
    recorded: RecordedDenoiser | None


class JointGradients:
    """Computes the losses and gradients of several runs, as if each computed its own.

    Args:
        runs: with encoded photos, on one base; their batches have the same numbers of samples.
        parameters: of these runs; their gradients are added to.
        context: of a forward pass, such as autocast.
        at_once: how many runs the denoiser may see in one call. Where memory ends, it is halved.
    """

    def __init__(
        self,
        runs: Sequence[DreamBooth],
        parameters: StackedParameters,
        context: Callable[[], AbstractContextManager[None]],
        at_once: int | None = None,
    ) -> None:
        self.runs = list(runs)
        self.parameters = parameters
        self.context = context
        self.at_once = min(at_once or len(self.runs), len(self.runs))
        weights = [run.settings.prior_loss_weight for run in self.runs]
        self._prior_weights = torch.tensor(weights, device=parameters.values.device)
        self._parts = self._split()

    def __call__(self, batches: Sequence[Sequence[Batch]]) -> DreamBoothLoss:
        """Add the gradients of the runs' mean losses; return the losses, each [N].

        Args:
            batches: for each micro-batch, the batch of each run; see `DreamBooth.training_step`.
        """
        while True:
            try:
                return self._compute(batches)
            except Exception as error:
                if self.at_once == 1 or out_of_memory(error) is None:
                    raise
            self.at_once = -(-self.at_once // 2)
            log.warning("memory has ended: %d runs at once from here on", self.at_once)
            self.parameters.gradients.zero_()
            self._parts = []
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._parts = self._split()

    def _split(self) -> list[_Part]:
        parts = []
        for start in range(0, len(self.runs), self.at_once):
            rows = slice(start, min(start + self.at_once, len(self.runs)))
            base = together([run.base_model for run in self.runs], self.parameters, rows)
            recorded = RecordedDenoiser(base) if self.runs[0].is_recorded else None
            parts.append(_Part(rows, base, recorded))
        return parts

    def _compute(self, batches: Sequence[Sequence[Batch]]) -> DreamBoothLoss:
        losses = []
        for batch in batches:
            of_parts = []
            for part in self._parts:
                with self.context():
                    loss = self._loss(part, batch[part.rows])
                (loss.total.sum() / len(batches)).backward()
                of_parts.append(loss)
            losses.append(_joined(of_parts, torch.cat))
        return _joined(losses, lambda values: torch.stack(values).mean(0))

    def _loss(self, part: _Part, batches: Sequence[Batch]) -> DreamBoothLoss:
        """Return the losses of the runs of a part, each [n]."""
        runs, objective = self.runs[part.rows], part.base.objective
        shown = [run.shown(batch) for run, batch in zip(runs, batches, strict=True)]
        drawn = [
            run.draw(of_run, list(range(len(of_run.keys))))
            for run, of_run in zip(runs, shown, strict=True)
        ]
        conditioning = _conditioning(part.base, runs, shown)
        latents = torch.cat([own.latents for own in drawn])
        noise = torch.cat([own.noise for own in drawn])
        timesteps = torch.cat([own.timesteps for own in drawn])
        noisy = objective.add_noise(latents, noise, timesteps)
        if part.recorded is None:
            prediction = part.base.predict(noisy, timesteps, conditioning)
        else:
            prediction = part.recorded(noisy, upload(timesteps, part.base.device), conditioning)
        target = objective.target(latents, noise, timesteps)
        losses = per_sample_mse(prediction, target, _masks(drawn))
        weights = _snr_weights(runs, drawn)
        if weights is not None:
            losses = losses * upload(weights, losses.device)
        count = len(batches[0]["instance_view"])
        return combine_losses(losses.view(len(runs), -1), count, self._prior_weights[part.rows])


def _joined(losses: Sequence[DreamBoothLoss], join: Callable[[list[Tensor]], Tensor]):
    parts = zip(*losses, strict=True)
    return DreamBoothLoss(
        *(None if values[0] is None else join([v.detach() for v in values]) for values in parts)
    )


def _conditioning(base: Base, runs: Sequence[DreamBooth], shown: Sequence[Shown]) -> Conditioning:
    """Return the conditioning of all runs' samples, run by run."""
    if not runs[0].settings.train_text_encoder:
        first, *rest = (
            run.views.conditioning(own.views, own.dropped)
            for run, own in zip(runs, shown, strict=True)
        )
        return first.joined(*rest)
    distinct, rows = zip(
        *(
            run.views.prompts(own.views, own.dropped).unique(return_inverse=True)
            for run, own in zip(runs, shown, strict=True)
        ),
        strict=True,
    )
    count = max(len(prompts) for prompts in distinct)  # the layers want equally many of each run
    filled = [torch.cat([own, own[:1].expand(count - len(own))]) for own in distinct]
    tokens = [run.views.tokens(own) for run, own in zip(runs, filled, strict=True)]
    together_tokens = [
        {name: torch.cat([of_run[name] for of_run in encoder]) for name in encoder[0]}
        for encoder in zip(*tokens, strict=True)
    ]
    encoded = base.encode_tokens(together_tokens)
    first, *rest = (
        run.views.complete(encoded.select(own_rows + number * count), own.views, own.dropped)
        for number, (run, own_rows, own) in enumerate(zip(runs, rows, shown, strict=True))
    )
    return first.joined(*rest)


def _masks(drawn: Sequence[Drawn]) -> Tensor | None:
    """Return the weights of latent cells, 1 for runs without any; None if no run has any."""
    if all(own.mask is None for own in drawn):
        return None
    return torch.cat(
        [torch.ones_like(own.latents[:, :1]) if own.mask is None else own.mask for own in drawn]
    )


def _snr_weights(runs: Sequence[DreamBooth], drawn: Sequence[Drawn]) -> Tensor | None:
    """Return the weight of each sample's loss; None if no run has `min_snr_gamma`."""
    gammas = [run.settings.min_snr_gamma for run in runs]
    if all(gamma is None for gamma in gammas):
        return None
    objective = runs[0].base_model.objective
    return torch.cat(
        [
            torch.ones(len(own.timesteps))
            if gamma is None
            else objective.min_snr_weight(own.timesteps, gamma)
            for gamma, own in zip(gammas, drawn, strict=True)
        ]
    )
