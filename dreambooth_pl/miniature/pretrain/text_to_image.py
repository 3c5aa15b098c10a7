"""Stage `text-to-image`: the UNet, conditioned on the frozen CLIP text encoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from dreambooth_pl import diffusion
from dreambooth_pl.miniature.captions import noun_in
from dreambooth_pl.miniature.pretrain.clip import MODEL, tokenizer
from dreambooth_pl.miniature.pretrain.loop import Limits, Plan, autocast, train
from dreambooth_pl.miniature.pretrain.pictures import Pictures
from dreambooth_pl.miniature.pretrain.widen import widen
from dreambooth_pl.randomness import stable_hash

BATCH = 64
CAPTION_DROPOUT = 0.1
MIN_SNR_GAMMA = 5.0
MAX_WEIGHT = 10.0
"""Of an error in the noise at the noisiest timesteps, see `timestep_weights`."""
NOUN_WEIGHTS = {"dog": 2.0}
"""How often a class is trained on, in relation to the others: dogs are what people try first."""
SUBJECT_WEIGHT = 3.0
"""Of an error on the subject, in relation to one on the scenery, which is easy to learn."""
PAD = 49407
"""Stable Diffusion 1 pads prompts with CLIP's end-of-text token."""


def build() -> UNet2DConditionModel:
    """4 x 16 x 16 latents, Stable Diffusion's block types; few, wide heads are fast on a CPU."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(128, 128, 160),
        layers_per_block=1,
        time_embedding_dim=256,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=1,
        cross_attention_dim=MODEL["text_cfg"]["width"],
    )


def scheduler() -> DDPMScheduler:
    """Stable Diffusion's noise schedule: scaled linear betas, epsilon prediction."""
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="epsilon",
        steps_offset=1,
    )


def sampling_shares(nouns: Sequence[str]) -> np.ndarray:
    """How often each picture is drawn, given its class noun: [N], sums to 1."""
    count = Counter(nouns)
    weights = np.array([NOUN_WEIGHTS.get(noun, 1.0) / count[noun] for noun in nouns])
    return weights / weights.sum()


def cell_weights(masks: np.ndarray) -> np.ndarray:
    """Weights [N, 16, 16] of mean 1 in each picture, from masks [N, 32, 32] uint8 of subjects."""
    share = masks.reshape(len(masks), 16, 2, 16, 2).mean((2, 4)) / 255
    weights = 1 + (SUBJECT_WEIGHT - 1) * share
    return (weights / weights.mean((1, 2), keepdims=True)).astype(np.float16)


def timestep_weights(snr: Tensor) -> Tensor:
    """Weights of the squared error in the noise, given the pictures' signal-to-noise ratio.

    Times (1 + 1/snr), an error in the noise is one in the velocity (2202.00512), which counts the
    same at all timesteps but the nearly clean ones (min-SNR, 2303.09556) and the noisiest.
    Unweighted, the latter would hardly be learnt from, and there it is decided what a thing is.
    """
    return ((snr.clamp(max=MIN_SNR_GAMMA) + 1) / snr).clamp(max=MAX_WEIGHT)


def _grown(
    start: UNet2DConditionModel, model: UNet2DConditionModel, seed: int
) -> UNet2DConditionModel:
    """What to go on from: the start itself, or `model` with its weights where it is narrower."""
    if start.config.block_out_channels == model.config.block_out_channels:
        return start
    widen(start, model, seed)
    return model


def fit(
    latents: np.ndarray,
    pictures: Pictures,
    text_encoder: CLIPTextModel,
    steps: int,
    seed: int,
    limits: Limits,
    report: Callable[[str], None],
    start: UNet2DConditionModel | None = None,
) -> UNet2DConditionModel | None:
    """Train on scaled latents [N, 4, 16, 16]; a narrower `start` is widened."""
    torch.manual_seed(stable_hash(seed, "text-to-image", "init"))
    model = build()
    if start is not None:
        model = _grown(start, model, seed).train()
    network = torch.compile(model) if limits.compile else model
    text_encoder = text_encoder.to(limits.device).eval().requires_grad_(False)
    tokens = tokenizer()([c for texts in pictures.captions for c in texts] + [""])
    tokens = torch.where(tokens == 0, PAD, tokens)
    unconditional, tokens = tokens[-1], tokens[:-1].view(len(pictures), -1, tokens.shape[-1])
    alphas = scheduler().alphas_cumprod.to(limits.device)
    data, weights = torch.from_numpy(latents), torch.from_numpy(cell_weights(pictures.masks))
    shares = sampling_shares([noun_in(texts[0]) for texts in pictures.captions])

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng(stable_hash(seed, "text-to-image", step))
        generator = torch.Generator().manual_seed(stable_hash(seed, "text-to-image", "noise", step))
        index = torch.from_numpy(rng.choice(len(data), size=BATCH, p=shares))
        clean = data[index].float().to(limits.device)
        which = torch.from_numpy(rng.integers(tokens.shape[1], size=BATCH))
        words = tokens[index, which]
        dropped = torch.from_numpy(rng.random(BATCH) < CAPTION_DROPOUT)
        words = torch.where(dropped[:, None], unconditional, words).to(limits.device)
        noise = torch.randn(clean.shape, generator=generator).to(limits.device)
        timesteps = torch.randint(0, 1000, (BATCH,), generator=generator).to(limits.device)
        noisy = diffusion.add_noise(clean, noise, timesteps, alphas)
        with autocast(limits.device):
            with torch.no_grad():
                context = text_encoder(words).last_hidden_state
            predicted = network(noisy, timesteps, context).sample
        squared = (predicted.float() - noise).pow(2).mean(1)
        error = (squared * weights[index].to(limits.device)).mean((1, 2))
        weight = timestep_weights(diffusion.snr(timesteps, alphas))
        return (weight * error).mean(), {"mse": float(error.detach().mean())}

    plan = Plan(steps, 1e-3, muon_learning_rate=8e-3, warmup=200)
    return train("text-to-image", model, loss, plan, limits, report)
