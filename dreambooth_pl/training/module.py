"""DreamBooth as a LightningModule: the training step, optimiser groups, what a checkpoint holds."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from dreambooth_pl.adapters import (
    add_adapters,
    check_trainable_set,
    parameters_without_gradient,
    trainable_parameters,
)
from dreambooth_pl.bases.conditioning import Conditioning
from dreambooth_pl.bases.families import is_text_encoder
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bases.transfer import upload
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.randomness import generator, keyed_global_random_state, stable_hash
from dreambooth_pl.training.checkpoint import PROCESSES_KEY, check_contract, write_contract
from dreambooth_pl.training.cuda_graph.recorded import RecordedDenoiser
from dreambooth_pl.training.encoder import Encoder
from dreambooth_pl.training.losses import StepLosses, combine_losses, per_sample_mse
from dreambooth_pl.training.noise import sample_noise
from dreambooth_pl.training.optimizers import make_optimizer
from dreambooth_pl.training.settings import ModelSettings
from dreambooth_pl.training.view_cache import ViewCache


class Shown(NamedTuple):
    """What a batch shows: instance samples first, then class samples."""

    keys: list[tuple[str, int]]
    """Kind and sample index of each sample, which key all that is random about it."""
    views: Tensor
    """View indices, [N]."""
    dropped: Tensor | None
    """Not 0 where the prompt is dropped, [N]; None without caption dropout."""


@dataclass(frozen=True)
class Drawn:
    """Training samples whose latents have one size."""

    rows: list[int]
    """Their positions in the batch."""
    latents: Tensor
    """x_0, [n, C, h, w]."""
    noise: Tensor
    """[n, C, h, w]."""
    timesteps: Tensor
    """[n], as the objective samples them."""
    mask: Tensor | None
    """Weight of each latent cell in the loss, [n, 1, h, w]; None for 1 everywhere."""


@dataclass(frozen=True)
class Samples(Drawn):
    """Training samples with their prompts; the denoiser sees them in one call."""

    conditioning: Conditioning
    """n rows."""


class DreamBooth(LightningModule):
    """Fine-tunes adapters on a frozen base, or the base itself, with the loss of arXiv 2208.12242.

    Args:
        settings: the fields of `ModelSettings`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = ModelSettings(**settings)
        self._contract = self.settings.contract()  # also: an early error of the optimizer
        own = self.settings
        self.base_model = load_base(own.base_spec)
        if own.gradient_checkpointing:
            self.base_model.enable_gradient_checkpointing()
        add_adapters(self.base_model, own.lora, own.train_text_encoder, own.seed, own.adapter)
        if own.compile:
            self.base_model.compile_blocks()
        for name, component in self.base_model.modules.items():
            self.add_module(name, component)  # registered only so that Lightning moves them
        self.strict_loading = False  # checkpoints hold adapters alone; on_load_checkpoint is strict
        self.views: ViewCache | None = None
        self._recorded: RecordedDenoiser | None = None
        self._step_losses = StepLosses()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing is left to do per batch: callbacks generate and score when a test starts."""

    # ---------------------------------------------------------------- training

    def setup(self, stage: str) -> None:
        """Keep DDP from waiting for gradients that never come; without one it ends in an error."""
        if stage == "fit" and self.trainer.world_size > 1:
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
                self, parameters_without_gradient(self.base_model)
            )

    def on_fit_start(self) -> None:
        """Check what trains and encode photos and prompts once (after the callbacks' turn)."""
        own = self.settings
        count = check_trainable_set(self.base_model, own.lora, own.train_text_encoder, own.adapter)
        rank_zero_info(f"training {count:,} parameters ({own.adapter})")
        for name in trainable_parameters(self.base_model):
            getattr(self, name).train()  # dropout of adapters; the rest stays in eval mode
        data = self.trainer.datamodule
        drops_prompts = getattr(data, "caption_dropout", 0.0) > 0
        reporter = ProgressReporter() if self.trainer.is_global_zero else None
        encoder = Encoder(self.base_model, data.cache_dir, reporter)
        self.views = ViewCache(self.base_model, data.views, data.resolution, drops_prompts, encoder)
        if not own.train_text_encoder:
            self.views.encode_prompts()
        self._recorded = RecordedDenoiser(self.base_model) if self._can_record() else None
        self._step_losses = StepLosses()

    def on_fit_end(self) -> None:
        """Free the memory that recordings hold."""
        self._recorded = None

    @property
    def is_recorded(self) -> bool:
        """Whether the denoiser's passes are recorded while this run trains."""
        return self._recorded is not None

    def _can_record(self) -> bool:
        """Whether the passes are to be recorded, and can be: see `ModelSettings.cuda_graph`."""
        own, trainer = self.settings, self.trainer
        # oft solves linear systems, and the CPU waits to hear whether they have a solution
        plain = not own.gradient_checkpointing and own.lora.dropout == 0 and own.adapter != "oft"
        alone = trainer.world_size == 1 and trainer.accumulate_grad_batches == 1
        return own.cuda_graph and self.device.type == "cuda" and plain and alone

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        """Keep the batch on the CPU: it is a handful of indices into what is on the device."""
        return batch

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of arXiv 2208.12242, eq. 2, on one batch of view indices.

        Args:
            batch: `instance_view` [B], `sample_index` [B] and, with prior preservation,
                `class_view` [B]; with caption dropout `caption_dropped` [B]; all int64.
        """
        objective, gamma = self.base_model.objective, self.settings.min_snr_gamma
        groups = self.sample(batch)
        losses = []
        for x in groups:
            noisy = objective.add_noise(x.latents, x.noise, x.timesteps)
            prediction = self.predict(noisy, x.timesteps, x.conditioning, batch["sample_index"])
            target = objective.target(x.latents, x.noise, x.timesteps)
            loss = per_sample_mse(prediction, target, x.mask)
            if gamma is not None:
                loss = loss * upload(objective.min_snr_weight(x.timesteps, gamma), loss.device)
            losses.append(loss)
        count = len(batch["instance_view"])
        per_sample = _in_batch_order(losses, groups)
        loss = combine_losses(per_sample, count, self.settings.prior_loss_weight)
        # Not for Lightning's progress bar, which would wait for the GPU at every step.
        for name, value in self._step_losses.add(self.trainer.global_step, loss).items():
            self.log(f"train/{name}", value)
        return loss.total

    def sample(self, batch: dict[str, Tensor]) -> list[Samples]:
        """Return the samples of a batch, those of one latent size together.

        All that is random about a sample depends on the seed, its sample index, and on whether it
        is an instance or a class sample.
        """
        if self.views is None:
            raise RuntimeError("photos are encoded when fit starts")
        shown = self.shown(batch)
        with self._keyed_dropout("text_encoder", batch["sample_index"].tolist()):
            conditioning = self.views.conditioning(shown.views, shown.dropped)
        return [
            Samples(**vars(self.draw(shown, rows)), conditioning=conditioning.select(rows))
            for rows in self.views.rows_by_size(shown.views)
        ]

    def shown(self, batch: dict[str, Tensor]) -> Shown:
        """Return what a batch shows; see `training_step`."""
        indices = batch["sample_index"].tolist()
        keys = [("instance", index) for index in indices]
        views, dropped = batch["instance_view"], batch.get("caption_dropped")
        if batch.get("class_view") is not None:
            keys += [("class", index) for index in indices]
            views = torch.cat([views, batch["class_view"]])
            if dropped is not None:  # class images keep their prompt
                dropped = torch.cat([dropped, torch.zeros_like(dropped)])
        return Shown(keys, views, dropped)

    def draw(self, shown: Shown, rows: list[int]) -> Drawn:
        """Sample timesteps and noise for those of the samples whose views have one size."""
        views = shown.views[rows]
        shape = self.views.latent_shape(views[0])
        timesteps, noise, posterior = [], [], []
        for kind, index in (shown.keys[row] for row in rows):
            rng = generator(self.settings.seed, "sample", kind, index)
            timesteps.append(self.base_model.objective.sample_timesteps(rng))
            of_sample, of_posterior = sample_noise(shape, self.settings.noise_offset, rng)
            noise.append(of_sample)
            posterior.append(of_posterior)
        return Drawn(
            rows,
            self.views.latents(views, upload(torch.stack(posterior), self.device)),
            upload(torch.stack(noise), self.device),
            torch.cat(timesteps),
            self.views.loss_weights(views),
        )

    def predict(
        self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning, sample_index: Tensor
    ) -> Tensor:
        """Return the denoiser's prediction [n, C, h, w]; the batch's samples key the dropout."""
        if self._recorded is not None:
            return self._recorded(noisy, upload(timesteps, self.device), conditioning)
        with self._keyed_dropout(self.base_model.rules.denoiser, sample_index.tolist()):
            return self.base_model.predict(noisy, timesteps, conditioning)

    def _keyed_dropout(self, component: str, indices: list[int]) -> AbstractContextManager[None]:
        """Key the adapters' dropout, the one thing that takes from the global random state."""
        if self.settings.lora.dropout == 0:
            return nullcontext()
        key = stable_hash(self.settings.seed, "dropout", component, *indices)
        return keyed_global_random_state(key, self.device)

    # --------------------------------------------------------------- optimiser

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser with a named group per adapted component, each with its learning rate."""
        groups = [
            {"name": name, "params": list(parameters.values()), "lr": self._learning_rate(name)}
            for name, parameters in trainable_parameters(self.base_model).items()
        ]
        adamw = {"betas": self.settings.adam_betas, "weight_decay": self.settings.weight_decay}
        return make_optimizer(self.settings.optimizer, groups, **adamw)

    def _learning_rate(self, component: str) -> float:
        if is_text_encoder(component):
            return self.settings.text_encoder_learning_rate
        return self.settings.learning_rate

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log learning rates and, before any clipping, the norm of each component's gradient."""
        if (self.trainer.global_step + 1) % self.trainer.log_every_n_steps:
            return
        for group in optimizer.param_groups:
            gradients = [p.grad for p in group["params"] if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
            self.log_dict(
                {f"train/lr_{group['name']}": group["lr"], f"train/grad_norm_{group['name']}": norm}
            )

    def on_train_start(self) -> None:
        """Let the config's learning rates hold, not those that a checkpoint's optimiser brings."""
        own = self.settings
        for group in self.optimizers().param_groups:
            group["lr"] = self._learning_rate(group["name"])
            if own.optimizer is None:  # what others keep here may be state
                group["weight_decay"], group["betas"] = own.weight_decay, own.adam_betas

    # -------------------------------------------------------------- checkpoint

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained, the settings and the fingerprint of the base they belong to."""
        write_contract(checkpoint, self.base_model, self._contract)
        checkpoint[PROCESSES_KEY] = self.trainer.world_size

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another base, other adapters or, unless allowed, other settings.

        Raises:
            UserError: naming what differs and what to do.
        """
        allowed = self.settings.allow_changed_settings
        check_contract(checkpoint, self.base_model, self._contract, allowed)


def _in_batch_order(losses: list[Tensor], groups: list[Samples]) -> Tensor:
    """Return the losses of all groups' samples, [N], in the order of the batch."""
    if len(groups) == 1:
        return losses[0]
    order = torch.tensor([row for group in groups for row in group.rows]).argsort()
    return torch.cat(losses)[upload(order, losses[0].device)]
