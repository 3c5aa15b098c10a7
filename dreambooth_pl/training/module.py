"""DreamBooth as a LightningModule: steps, optimiser groups, checkpoint contract."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from dreambooth_pl.adapters import (
    AdapterKind,
    AdapterSettings,
    add_adapters,
    assert_trainable_set,
    trainable_parameters,
)
from dreambooth_pl.bases.base import load_base
from dreambooth_pl.bases.conditioning import Conditioning
from dreambooth_pl.bases.objectives import add_noise, snr, training_target
from dreambooth_pl.bases.spec import BaseSpec, FrozenDtype
from dreambooth_pl.randomness import generator, keyed_global_random_state, stable_hash
from dreambooth_pl.training.checkpoint import check_contract, write_contract
from dreambooth_pl.training.losses import (
    DreamBoothLoss,
    combine_losses,
    min_snr_weights,
    per_sample_mse,
)
from dreambooth_pl.training.optimizers import OptimizerFactory, describe_optimizer, make_optimizer
from dreambooth_pl.training.view_cache import Stacked, ViewCache, rows_by_shape, stack


class DreamBooth(LightningModule):
    """Fine-tunes adapters on a frozen base, or the base itself, with the loss of arXiv 2208.12242.

    Args:
        base: the model to start from (Stable Diffusion 1.x, 2.x or XL, recognised by itself): a
            diffusers pipeline folder, its hub id, or one .safetensors checkpoint file.
        lora: size and place of the adapters.
        train_text_encoder: also adapt the text encoder, not only the UNet.
        prior_loss_weight: weight of the prior-preservation loss on class images; 0 turns it off.
        learning_rate: step size for the UNet's adapters.
        text_encoder_learning_rate: step size for the text encoders' adapters.
        weight_decay: AdamW's decoupled weight decay on all adapters.
        adam_betas: AdamW's decay rates of the gradient's first and second moment.
        min_snr_gamma: weight the loss of each timestep by min-SNR with this gamma (5 is usual);
            null weights all timesteps alike.
        noise_offset: shift each channel of a sample's noise, all over, by this many standard
            deviations times a random number (0.05 to 0.1 is usual): what colour the subject has is
            then learnt with its words and not read off the noise. 0 keeps the published noise.
        seed: keys adapters' start, noise and timesteps; follows seed_everything.
        revision: branch, tag or commit of a base on the hub.
        variant: suffix of the base's weight files, such as fp16, where they have one.
        frozen_dtype: what the frozen weights of UNet and text encoders are held in; half precision
            halves their memory. Adapters, optimiser and VAE are float32 whatever it is. Goes well
            with trainer.precision bf16-mixed (bfloat16) or 16-mixed (float16); images are drawn
            with the same weights.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping
            them: a third slower, and much less memory. Results are the same.
        optimizer: another optimiser than AdamW, as class_path and init_args, such as
            bitsandbytes.optim.AdamW8bit or prodigyopt.Prodigy; weight_decay and adam_betas are then
            its own init_args, the two learning rates hold.
        adapter: lora (with lora.use_dora: DoRA); lokr, loha or oft; or full, to train the UNet
            itself (and the text encoders) as the paper does. What trains is float32 and is what
            checkpoints hold. lora.dropout and lora's sizes and places are not for full.
        allow_changed_settings: go on from a checkpoint although settings of the model differ from
            those it was trained with; those of the config then hold.
    """

    def __init__(
        self,
        base: str = "data/miniature",
        lora: AdapterSettings = AdapterSettings(),  # noqa: B008 (frozen)
        train_text_encoder: bool = False,
        prior_loss_weight: float = 1.0,
        learning_rate: float = 3e-4,
        text_encoder_learning_rate: float = 1e-4,
        weight_decay: float = 1e-2,
        adam_betas: tuple[float, float] = (0.9, 0.999),
        min_snr_gamma: float | None = None,
        noise_offset: float = 0.0,
        seed: int = 42,
        revision: str | None = None,
        variant: str | None = None,
        allow_changed_settings: bool = False,
        frozen_dtype: FrozenDtype = "float32",
        gradient_checkpointing: bool = False,
        optimizer: OptimizerFactory | None = None,
        adapter: AdapterKind = "lora",
    ) -> None:
        super().__init__()
        self.lora = lora
        self.adapter = adapter
        self.train_text_encoder = train_text_encoder
        self.prior_loss_weight = prior_loss_weight
        self.learning_rates = {"unet": learning_rate, "text_encoder": text_encoder_learning_rate}
        self.weight_decay = weight_decay
        self.adam_betas = adam_betas
        self.min_snr_gamma = min_snr_gamma
        self.noise_offset = noise_offset
        self.seed = seed
        self.allow_changed_settings = allow_changed_settings
        self.revision = revision
        self.variant = variant
        self.frozen_dtype = frozen_dtype
        self.optimizer = optimizer
        self._optimizer_settings = describe_optimizer(optimizer)  # also: an early error

        self.base_spec = BaseSpec(base, revision, variant, frozen_dtype)
        self.base_model = load_base(self.base_spec)
        if gradient_checkpointing:
            self.base_model.enable_gradient_checkpointing()
        add_adapters(self.base_model, lora, train_text_encoder, seed, adapter)
        for name, component in self.base_model.modules.items():
            self.add_module(name, component)  # registered only so that Lightning moves them
        self.strict_loading = False  # checkpoints hold adapters alone; on_load_checkpoint is strict
        self.views: ViewCache | None = None

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing is left to do per batch: callbacks draw and score when a test starts."""

    # ---------------------------------------------------------------- training

    def on_fit_start(self) -> None:
        """Check what trains and encode photos and prompts once (after the callbacks' turn)."""
        count = assert_trainable_set(
            self.base_model, self.lora, self.train_text_encoder, self.adapter
        )
        rank_zero_info(f"training {count:,} parameters ({self.adapter})")
        for name in trainable_parameters(self.base_model):
            getattr(self, name).train()  # dropout of adapters; the rest stays in eval mode
        data = self.trainer.datamodule
        drops_prompts = getattr(data, "caption_dropout", 0.0) > 0
        self.views = ViewCache(self.base_model, data.views, data.resolution, drops_prompts)
        if not self.train_text_encoder:
            self.views.encode_prompts()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        """Keep the batch on the CPU: it is a handful of indices into what is on the device."""
        return batch

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of arXiv 2208.12242, eq. 2, on one batch of view indices.

        Args:
            batch: `instance_view` [B], `sample_index` [B] and, with prior preservation,
                `class_view` [B]; with caption dropout `caption_dropped` [B]; all int64.
        """
        latents, noise, timesteps, conditioning = self.draw(batch)
        masks = self.views.loss_weights(_views(batch))
        losses = self._sample_losses(
            latents, noise, timesteps, conditioning, masks, batch["sample_index"]
        )
        weights = None
        if self.min_snr_gamma is not None:
            ratio = snr(timesteps, self.base_model.alphas_cumprod)
            kind = self.base_model.prediction_type
            weights = min_snr_weights(ratio, self.min_snr_gamma, kind).to(losses.device)
        loss = combine_losses(losses, len(batch["instance_view"]), self.prior_loss_weight, weights)
        self._log_loss(loss)
        return loss.total

    def _sample_losses(
        self,
        latents: Stacked,
        noise: Stacked,
        timesteps: Tensor,
        conditioning: Conditioning,
        masks: Stacked | None,
        sample_index: Tensor,
    ) -> Tensor:
        """Return the loss of each sample, [N]. Samples of one size go through the UNet together."""
        if not isinstance(latents, Tensor):
            groups = rows_by_shape(latents)
            losses = [
                self._sample_losses(
                    torch.stack([latents[row] for row in rows]),
                    torch.stack([noise[row] for row in rows]),
                    timesteps[rows],
                    conditioning.select(rows),
                    None if masks is None else torch.stack([masks[row] for row in rows]),
                    sample_index,
                )
                for rows in groups
            ]
            return torch.cat(losses)[torch.cat(groups).argsort()]
        alphas = self.base_model.alphas_cumprod
        noisy = add_noise(latents, noise, timesteps, alphas)
        prediction = self.predict(noisy, timesteps, conditioning, sample_index)
        kind = self.base_model.prediction_type
        target = training_target(kind, latents, noise, timesteps, alphas)
        return per_sample_mse(prediction, target, masks)

    def draw(self, batch: dict[str, Tensor]) -> tuple[Stacked, Stacked, Tensor, Conditioning]:
        """Return latents, noise [N, C, h, w], timesteps [N] and conditioning of a batch.

        Where views differ in size, latents and noise are lists of N tensors [C, h, w]. Instance
        samples come first, then class samples. All draws of a sample depend on the seed and its
        sample index alone.
        """
        assert self.views is not None, "photos are encoded when fit starts"
        indices = batch["sample_index"].tolist()
        keys = [("instance", index) for index in indices]
        dropped = batch.get("caption_dropped")
        if batch.get("class_view") is not None:
            keys += [("class", index) for index in indices]
            if dropped is not None:  # class images keep their prompt
                dropped = torch.cat([dropped, torch.zeros_like(dropped)])

        views = _views(batch)
        draws = []
        for (kind, index), shape in zip(keys, self.views.latent_shapes(views), strict=True):
            rng = generator(self.seed, "sample", kind, index)
            timestep = torch.randint(len(self.base_model.alphas_cumprod), (1,), generator=rng)
            normal = torch.randn((2, *shape), generator=rng)
            if self.noise_offset:
                normal[0] += self.noise_offset * torch.randn((shape[0], 1, 1), generator=rng)
            draws.append((timestep, normal.to(self.device)))
        timesteps = torch.cat([timestep for timestep, _ in draws])
        noise = stack([normal[0] for _, normal in draws])
        latents = self.views.latents(views, stack([normal[1] for _, normal in draws]))
        with self._keyed_dropout("text_encoder", indices):
            conditioning = self.views.conditioning(views, dropped)
        return latents, noise, timesteps, conditioning

    def predict(
        self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning, sample_index: Tensor
    ) -> Tensor:
        """Return the UNet's prediction [N, C, h, w] for all samples in one call."""
        dtype = self.base_model.dtype
        with self._keyed_dropout("unet", sample_index.tolist()):
            return self.unet(
                noisy.to(dtype),
                timesteps.to(self.device),
                encoder_hidden_states=conditioning.hidden_states.to(dtype),
                added_cond_kwargs=conditioning.added or None,
            ).sample

    def _keyed_dropout(self, component: str, indices: list[int]) -> AbstractContextManager[None]:
        """Key the adapters' dropout, the one thing that draws from the global random state."""
        if self.lora.dropout == 0:
            return nullcontext()
        key = stable_hash(self.seed, "dropout", component, *indices)
        return keyed_global_random_state(key, self.device)

    def _log_loss(self, loss: DreamBoothLoss) -> None:
        self.log("train/loss", loss.total.detach(), prog_bar=True)
        self.log("train/loss_instance", loss.instance.detach())
        if loss.prior is not None:
            self.log("train/loss_prior", loss.prior.detach())

    # --------------------------------------------------------------- optimiser

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser with a named group per adapted component, each with its learning rate."""
        groups = [
            {"name": name, "params": list(parameters.values()), "lr": self._learning_rate(name)}
            for name, parameters in trainable_parameters(self.base_model).items()
        ]
        adamw = {"betas": self.adam_betas, "weight_decay": self.weight_decay}
        return make_optimizer(self.optimizer, groups, **adamw)

    def _learning_rate(self, component: str) -> float:
        return self.learning_rates["unet" if component == "unet" else "text_encoder"]

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

    # -------------------------------------------------------------- checkpoint

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be continued."""
        return {
            "adapter": self.adapter,
            "lora.rank": self.lora.rank,
            "lora.alpha": self.lora.alpha,
            "lora.dropout": self.lora.dropout,
            "lora.use_rslora": self.lora.use_rslora,
            "lora.use_dora": self.lora.use_dora,
            "train_text_encoder": self.train_text_encoder,
            "prior_loss_weight": self.prior_loss_weight,
            "learning_rate": self.learning_rates["unet"],
            "text_encoder_learning_rate": self.learning_rates["text_encoder"],
            "weight_decay": self.weight_decay,
            "adam_betas": list(self.adam_betas),
            "min_snr_gamma": self.min_snr_gamma,
            "noise_offset": self.noise_offset,
            "frozen_dtype": self.frozen_dtype,
            "optimizer": self._optimizer_settings,
            "seed": self.seed,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained, the settings and the fingerprint of the base they belong to."""
        write_contract(checkpoint, self.base_model, self.settings)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another base, other adapters or, unless allowed, other settings.

        Raises:
            UserError: naming what differs and what to do.
        """
        check_contract(checkpoint, self.base_model, self.settings, self.allow_changed_settings)

    def on_train_start(self) -> None:
        """Let the config's learning rates hold, not those that a checkpoint's optimiser brings."""
        for group in self.optimizers().param_groups:
            group["lr"] = self._learning_rate(group["name"])
            if self.optimizer is None:  # what others keep here may be state
                group["weight_decay"], group["betas"] = self.weight_decay, self.adam_betas


def _views(batch: dict[str, Tensor]) -> Tensor:
    """Return the indices of a batch's views, int64 [N]: instance samples first, then class ones."""
    if batch.get("class_view") is None:
        return batch["instance_view"]
    return torch.cat([batch["instance_view"], batch["class_view"]])
