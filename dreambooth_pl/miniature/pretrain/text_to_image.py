"""Stage `text-to-image`: the UNet, conditioned on the frozen CLIP text encoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from dreambooth_pl.bases.objectives import EpsilonPrediction
from dreambooth_pl.miniature.captions import noun_in
from dreambooth_pl.miniature.pretrain.clip import MODEL, tokenizer
from dreambooth_pl.miniature.pretrain.loop import Limits, TrainingSchedule, autocast, train
from dreambooth_pl.miniature.pretrain.pictures import Pictures
from dreambooth_pl.randomness import stable_hash

BATCH, GPU_BATCH = 64, 512
CAPTION_DROPOUT = 0.1
MIN_SNR_GAMMA = 5.0
NOUN_WEIGHTS = {"dog": 2.0}
"""Relative frequency of a class in training; 1 for other classes. Users try dogs first."""
SUBJECT_WEIGHT = 3.0
"""Weight of an error on the subject relative to one on the scenery, which is easy to learn."""
TIMESTEP_CENTRE = 0.2
"""Timesteps are sampled as 1000 * sigmoid(normal(centre, 1)), as in 2403.03206, section 3.1. The
middle timesteps decide what the subject is. Near the ends, pictures are almost noise or clean."""
PAD = 49407
"""Stable Diffusion 1 pads prompts with CLIP's end-of-text token."""


def build() -> UNet2DConditionModel:
    """Build an untrained UNet for latents 4 x 16 x 16 with Stable Diffusion's blocks and depth.

    It attends to texts at 8 x 8 and, in the middle block, at 4 x 4. Attention at 16 x 16 would cost
    a third of the speed on a CPU. `attention_head_dim`, as diffusers calls it, is the number of
    heads here: four.
    """
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(128, 128, 128),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        time_embedding_dim=256,
        cross_attention_dim=MODEL["text_cfg"]["width"],
    )


def scheduler() -> DDPMScheduler:
    """Return Stable Diffusion's noise schedule: scaled linear betas, epsilon prediction."""
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="epsilon",
        steps_offset=1,
    )


def sampling_shares(nouns: Sequence[str]) -> np.ndarray:
    """Return the probability of sampling each picture, given its class noun: [N], sums to 1."""
    count = Counter(nouns)
    weights = np.array([NOUN_WEIGHTS.get(noun, 1.0) / count[noun] for noun in nouns])
    return weights / weights.sum()


def cell_weights(masks: np.ndarray) -> np.ndarray:
    """Convert subjects' masks [N, 32, 32] uint8 to weights [N, 16, 16] with mean 1 per picture."""
    share = masks.reshape(len(masks), 16, 2, 16, 2).mean((2, 4)) / 255
    weights = 1 + (SUBJECT_WEIGHT - 1) * share
    return (weights / weights.mean((1, 2), keepdims=True)).astype(np.float16)


def random_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Sample timesteps [count] in 0..999, most of them in the middle."""
    middle = torch.sigmoid(TIMESTEP_CENTRE + torch.randn(count, generator=generator))
    return (1000 * middle).long().clamp(max=999)


def fit(
    latents: np.ndarray,
    pictures: Pictures,
    text_encoder: CLIPTextModel,
    steps: int,
    seed: int,
    limits: Limits,
    report: Callable[[str], None],
    start: nn.Module | None = None,
) -> UNet2DConditionModel | None:
    """Train the UNet with min-SNR weights (2303.09556).

    Args:
        latents: scaled latents of the pictures, [N, 4, 16, 16].
        pictures: the pictures, for their captions and masks.
        text_encoder: encodes the captions; frozen.
        steps: length of the training.
        seed: seed of all randomness.
        limits: device, state folder and time limit.
        report: called with each line of progress.
        start: a UNet to continue from; `None` for an untrained one.

    Returns:
        The averaged model; `None` if the training paused.
    """
    torch.manual_seed(stable_hash(seed, "text-to-image", "init"))
    model = build() if start is None else start.train()
    network = torch.compile(model) if limits.compile else model
    text_encoder = text_encoder.to(limits.device).eval().requires_grad_(False)
    tokens = tokenizer()([c for texts in pictures.captions for c in texts] + [""])
    tokens = torch.where(tokens == 0, PAD, tokens).to(limits.device)
    unconditional, tokens = tokens[-1], tokens[:-1].view(len(pictures), -1, tokens.shape[-1])
    objective = EpsilonPrediction(scheduler().config)
    data, weights = limits.near(latents), limits.near(cell_weights(pictures.masks))
    up_to = np.cumsum(sampling_shares([noun_in(texts[0]) for texts in pictures.captions]))
    batch = limits.batch(BATCH, GPU_BATCH)

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        rng = np.random.default_rng(stable_hash(seed, "text-to-image", step))
        generator = torch.Generator().manual_seed(stable_hash(seed, "text-to-image", "noise", step))
        chosen = np.searchsorted(up_to, rng.random(batch)).clip(max=len(data) - 1)
        index = torch.from_numpy(chosen)
        clean = data[index].float().to(limits.device)
        which = torch.from_numpy(rng.integers(tokens.shape[1], size=batch))
        words = tokens[index.to(limits.device), which.to(limits.device)]
        dropped = torch.from_numpy(rng.random(batch) < CAPTION_DROPOUT).to(limits.device)
        words = torch.where(dropped[:, None], unconditional, words)
        noise = torch.randn(clean.shape, generator=generator).to(limits.device)
        timesteps = random_timesteps(batch, generator).to(limits.device)
        noisy = objective.add_noise(clean, noise, timesteps)
        with autocast(limits.device):
            with torch.no_grad():
                context = text_encoder(words).last_hidden_state
            predicted = network(noisy, timesteps, context).sample
        squared = (predicted.float() - noise).pow(2).mean(1)
        error = (squared * weights[index].to(limits.device)).mean((1, 2))
        weight = objective.min_snr_weight(timesteps, MIN_SNR_GAMMA)
        return (weight * error).mean(), {"mse": error.detach().mean()}

    plan = TrainingSchedule(steps, 1e-3, muon_learning_rate=8e-3, warmup=200)
    return train("text-to-image", model, loss, plan, limits, report)
