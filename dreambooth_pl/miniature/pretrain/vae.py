"""Stage `vae`: an `AutoencoderKL` on rendered pictures and crops of natural photos."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image, ImageOps
from torch import Tensor, nn

from dreambooth_pl.miniature.pretrain.loop import Limits, TrainingSchedule, autocast, train
from dreambooth_pl.miniature.pretrain.pictures import Pictures
from dreambooth_pl.randomness import stable_hash

BATCH, GPU_BATCH = 16, 64
PHOTO_SHARE = 0.2
"""Share of a batch that is crops of photos."""
PHOTO_CROPS = 4_000
"""Number of crops of natural photos, made before training."""
KL_WEIGHT = 1e-4
LATENT_NOISE = 0.2
"""Largest noise on the latents in training, as a share of their standard deviation. The decoder
learns to decode latents that a UNet has not fully denoised, and the encoder to make important
information robust to noise (as in 2507.15856)."""
EDGE_WEIGHT = 0.5
CROP, CROP_SHARE = 64, 1 / 2
"""Side in pixels of the crops that an autoencoder is first trained on, and the share of its steps
that use them. Such a step takes a third of the time and also improves whole pictures: held-out ones
reached 20.4 dB after 264 seconds on two cores, and 19.2 dB after 205 seconds of steps on whole
pictures."""
MUON_LEARNING_RATE = 0.006
"""From random weights, 0.01 in batches of 8 reached 24.0 dB in 9,000 steps and diverged in a
plan of 14,000. 0.006 in batches of 16 reached 25.9 dB in 7,000."""
AGAIN_SHARE, AGAIN_PACE = 1 / 8, 0.3
"""The last part of a new autoencoder's steps is a second training. These are its share of the steps
and its factor of the learning rates. The first 7,000 steps reached 25.94 dB, without gain in the
last 500. 1,000 steps of the second training reached 26.05 dB."""
SUBJECT_WEIGHT = 3.0
"""Weight of an error on the subject relative to one on the scenery. A face has few pixels."""


def build() -> AutoencoderKL:
    """Build an untrained autoencoder with Stable Diffusion's block types at a quarter of its width.

    It maps 3 x 128 x 128 pixels to latents 4 x 16 x 16.
    """
    model = AutoencoderKL(
        block_out_channels=(32, 64, 96, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=128,
    )
    # The latents start almost without noise of their own. Noise of the prior's strength would hide
    # an untrained encoder's signal.
    nn.init.constant_(model.quant_conv.bias[4:], -6.0)
    return model


def load_photos(folders: Sequence[Path], longest: int = 640) -> list[np.ndarray]:
    """Load natural photos of at least 128 px below the folders.

    Args:
        folders: folders of JPEG and PNG files.
        longest: limit of the longer side in pixels. Larger photos are shrunk.

    Returns:
        The photos, upright, RGB, [H, W, 3] uint8.
    """
    photos = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in {".jpg", ".jpeg", ".png"}:
                image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
                image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
                if min(image.size) >= 128:
                    photos.append(np.asarray(image))
    return photos


def photo_crop(photos: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Crop a random photo to 128 px with random scale, place and mirroring."""
    photo = photos[rng.integers(len(photos))]
    height, width = photo.shape[:2]
    side = int(rng.integers(128, min(height, width) + 1))
    y, x = rng.integers(height - side + 1), rng.integers(width - side + 1)
    crop = Image.fromarray(photo[y : y + side, x : x + side])
    crop = crop.resize((128, 128), Image.Resampling.LANCZOS)
    return np.asarray(ImageOps.mirror(crop) if rng.random() < 0.5 else crop)


def photo_crops(photos: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Return `PHOTO_CROPS` crops of photos, [N, 128, 128, 3] uint8; none if there is no photo."""
    rng = np.random.default_rng(stable_hash(seed, "vae", "crops"))
    count = PHOTO_CROPS if photos else 0
    crops = np.empty((count, 128, 128, 3), np.uint8)
    for crop in crops:
        crop[:] = photo_crop(photos, rng)
    return crops


def pixel_weights(masks: Tensor) -> Tensor:
    """Convert subjects' masks [B, 32, 32] to weights [B, 1, 128, 128] with mean 1 per picture."""
    share = masks.float()[:, None] / 255
    weights = F.interpolate(1 + (SUBJECT_WEIGHT - 1) * share, scale_factor=4, mode="nearest")
    return weights / weights.mean((1, 2, 3), keepdim=True)


def random_crop(
    pixels: Tensor, weights: Tensor, side: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Crop pictures [B, 3, H, W] and their weights [B, 1, H, W] to the same random squares.

    Each picture has its own square. Squares start at multiples of 8 pixels, as latents do.
    """
    places = rng.integers((pixels.shape[-1] - side) // 8 + 1, size=(len(pixels), 2)) * 8
    squares = [(..., slice(y, y + side), slice(x, x + side)) for y, x in places.tolist()]
    cut = [
        torch.stack([one[square] for one, square in zip(tensor, squares, strict=True)])
        for tensor in (pixels, weights)
    ]
    return cut[0], cut[1]


def edges(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the differences of neighbouring pixels, horizontally and vertically."""
    return images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]


def trimmed(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of the pixels whose differences `edges` returns."""
    return weights[..., :-1], weights[..., :-1, :]


def fit(
    pictures: Pictures,
    photos: Sequence[np.ndarray],
    steps: int,
    seed: int,
    limits: Limits,
    report: Callable[[str], None],
    start: nn.Module | None = None,
    lock_encoder: bool = False,
) -> AutoencoderKL | None:
    """Train the autoencoder: L1 + L2 + edges + a weak KL, as in latent diffusion (2112.10752).

    A new autoencoder starts on crops and ends with a second training; see `CROP_SHARE` and
    `AGAIN_SHARE`.

    Args:
        pictures: the rendered pictures.
        photos: natural photos, as from `load_photos`.
        steps: length of the training.
        seed: seed of all randomness.
        limits: device, state folder and time limit.
        report: called with each line of progress.
        start: an autoencoder to continue from; `None` for an untrained one.
        lock_encoder: train only the decoder. A UNet trained on the latents stays valid.

    Returns:
        The averaged model; `None` if the training paused.
    """

    @functools.cache
    def data() -> tuple[Tensor, Tensor, Tensor]:  # not called if no step is left
        arrays = (pictures.images, pictures.masks, photo_crops(photos, seed))
        return tuple(limits.near(array) for array in arrays)

    run = functools.partial(_train, data, seed=seed, report=report)
    if start is not None:
        return run("vae", start.train(), steps, 0, limits, lock_encoder=lock_encoder)
    torch.manual_seed(stable_hash(seed, "vae", "init"))
    if not (limits.folder / "vae.pt").exists():
        for state in limits.folder.glob("vae-after-*.pt"):  # of a previous autoencoder
            state.unlink()
    again, began = int(AGAIN_SHARE * steps), time.monotonic()
    before = steps - again
    first = run("vae", build(), before, int(CROP_SHARE * before), limits)
    if first is None or not again:
        return first
    minutes = limits.minutes - (time.monotonic() - began) / 60
    slower = replace(limits, minutes=minutes, pace=AGAIN_PACE * limits.pace)
    return run(f"vae-after-{before}", first, again, 0, slower)


def _train(
    data: Callable[[], tuple[Tensor, Tensor, Tensor]],
    name: str,
    model: nn.Module,
    steps: int,
    on_crops: int,
    limits: Limits,
    *,
    seed: int,
    report: Callable[[str], None],
    lock_encoder: bool = False,
) -> AutoencoderKL | None:
    """Train for `steps`, the first `on_crops` of them on crops of pictures.

    Args:
        data: returns pictures [N, 128, 128, 3], their subjects' masks [N, 32, 32] and crops of
            photos [M, 128, 128, 3], all uint8.
        name: name of the state in the folder of `limits`.
        model: the autoencoder.
        steps, on_crops, limits, seed, report, lock_encoder: as described above and in `fit`.

    Returns:
        The averaged model; `None` if the training paused.
    """
    if lock_encoder:
        for part in (model.encoder, model.quant_conv):
            part.requires_grad_(False)
    encoder, decoder = model.encoder, model.decoder
    if limits.compile and limits.device.type != "cpu":  # twice as slow on two cores
        encoder, decoder = torch.compile(encoder), torch.compile(decoder)
    batch = limits.batch(BATCH, GPU_BATCH)

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        rng = np.random.default_rng(stable_hash(seed, "vae", step))
        images, masks, crops = data()
        index = torch.from_numpy(np.sort(rng.integers(len(images), size=batch)))
        seen, subjects = images[index].to(limits.device), masks[index].to(limits.device)
        if len(crops):
            from_photos = int(batch * PHOTO_SHARE)
            which = torch.from_numpy(rng.integers(len(crops), size=from_photos))
            seen[:from_photos] = crops[which].to(limits.device)
            subjects[:from_photos] = 0
        weights = pixel_weights(subjects)
        pixels = (seen.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()
        if step < on_crops:
            pixels, weights = random_crop(pixels, weights, CROP, rng)
        generator = torch.Generator().manual_seed(stable_hash(seed, "vae", "noise", step))
        with autocast(limits.device):
            moments = model.quant_conv(encoder(pixels)).float()
            mean, log_variance = moments.chunk(2, dim=1)
            log_variance = log_variance.clamp(-30, 20)
            noise = torch.randn(2, *mean.shape, generator=generator).to(mean.device)
            level = LATENT_NOISE * torch.rand(batch, 1, 1, 1, generator=generator)
            level = level.to(mean.device) * mean.detach().std()
            latents = mean + (log_variance / 2).exp() * noise[0] + level * noise[1]
            decoded = decoder(model.post_quant_conv(latents))
        decoded = decoded.float()
        difference = decoded - pixels
        mse = difference.pow(2).mean()
        error = (weights * (difference.abs() + difference.pow(2))).mean()
        edge = sum(
            (w * change.abs()).mean()
            for w, change in zip(trimmed(weights), edges(difference), strict=True)
        )
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        total = error + EDGE_WEIGHT * edge + KL_WEIGHT * kl
        return total, {"psnr": 10 * torch.log10(4 / mse.detach())}

    warmup = min(200, steps // 5)
    plan = TrainingSchedule(steps, 1e-3, MUON_LEARNING_RATE, warmup=warmup, weight_decay=0.0)
    return train(name, model, loss, plan, limits, report)


@torch.no_grad()
def encode(
    model: AutoencoderKL, pictures: Pictures, limits: Limits, report: Callable[[str], None]
) -> np.ndarray:
    """Encode all pictures. Return their latent means, unscaled, [N, 4, 16, 16] float16."""
    batch = limits.batch(64, 500)
    latents = np.empty((len(pictures), 4, 16, 16), np.float16)
    for start in range(0, len(pictures), batch):
        pixels = torch.from_numpy(np.ascontiguousarray(pictures.images[start : start + batch]))
        pixels = pixels.permute(0, 3, 1, 2).to(limits.device).float() / 127.5 - 1
        with autocast(limits.device):
            mean = model.encode(pixels).latent_dist.mean
        latents[start : start + batch] = mean.float().cpu().numpy()
        if start // batch % 100 == 0:
            report(f"latents: {start}/{len(pictures)}")
    return latents
