"""Stage `vae`: an `AutoencoderKL` on drawn pictures and crops of natural photos."""

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
PHOTO_CROPS = 4_000
"""How many crops of natural photos are made beforehand."""
KL_WEIGHT = 1e-4
LATENT_NOISE = 0.2
"""Most noise that the decoder sees on the latents, in parts of their deviation: it learns to draw
from what a UNet has not quite finished, and the encoder to put what matters where noise spares it
(as in 2507.15856)."""
EDGE_WEIGHT = 0.5
CROP, CROP_SHARE = 64, 1 / 2
"""Side in pixels of the pieces of pictures that an autoencoder begins with, and for what part of
its steps. Such a step takes a third of the time, and what it teaches holds for whole pictures:
held-out ones came to 20.4 dB after 264 seconds on two cores, where steps on whole pictures had led
to 19.2 after 205."""
MUON_LEARNING_RATE = 0.006
"""From nothing, 0.01 in batches of 8 came to 24.0 dB in 9,000 steps, and diverged in a plan of
14,000; 0.006 in batches of 16 to 25.9 in 7,000."""
AGAIN_SHARE, AGAIN_PACE = 1 / 8, 0.3
"""An autoencoder from nothing trains once more for the last part of its steps, from this part of
the learning rates down: 7,000 steps came to 25.94 dB, the last 500 of them having brought nothing,
and 1,000 of these to 26.05."""
SUBJECT_WEIGHT = 3.0
"""Of an error on the subject, in relation to one on the scenery: a face has few pixels."""


def build() -> AutoencoderKL:
    """3 x 128 x 128 -> 4 x 16 x 16, with Stable Diffusion's block types at quarter width."""
    model = AutoencoderKL(
        block_out_channels=(32, 64, 96, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=128,
    )
    # Latents without noise of their own to begin with: as much of it as a prior has, an untrained
    # encoder's signal drowns in.
    nn.init.constant_(model.quant_conv.bias[4:], -6.0)
    return model


def load_photos(folders: Sequence[Path], longest: int = 640) -> list[np.ndarray]:
    """Natural photos below the folders, upright, RGB, [H, W, 3] uint8, shrunk to `longest`."""
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
    """A 128 px view of a random photo: random scale, place and mirroring."""
    photo = photos[rng.integers(len(photos))]
    height, width = photo.shape[:2]
    side = int(rng.integers(128, min(height, width) + 1))
    y, x = rng.integers(height - side + 1), rng.integers(width - side + 1)
    crop = Image.fromarray(photo[y : y + side, x : x + side])
    crop = crop.resize((128, 128), Image.Resampling.LANCZOS)
    return np.asarray(ImageOps.mirror(crop) if rng.random() < 0.5 else crop)


def photo_crops(photos: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """`PHOTO_CROPS` views of the photos, [N, 128, 128, 3] uint8; none where there are no photos."""
    rng = np.random.default_rng(stable_hash(seed, "vae", "crops"))
    count = PHOTO_CROPS if photos else 0
    crops = np.empty((count, 128, 128, 3), np.uint8)
    for crop in crops:
        crop[:] = photo_crop(photos, rng)
    return crops


def pixel_weights(masks: Tensor) -> Tensor:
    """Weights [B, 1, 128, 128] of mean 1 in each picture, from masks [B, 32, 32] of subjects."""
    share = masks.float()[:, None] / 255
    weights = F.interpolate(1 + (SUBJECT_WEIGHT - 1) * share, scale_factor=4, mode="nearest")
    return weights / weights.mean((1, 2, 3), keepdim=True)


def random_crop(
    pixels: Tensor, weights: Tensor, side: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The same random square of each picture [B, 3, H, W] and its weights [B, 1, H, W].

    Squares begin at multiples of 8 pixels, where latents do.
    """
    places = rng.integers((pixels.shape[-1] - side) // 8 + 1, size=(len(pixels), 2)) * 8
    squares = [(..., slice(y, y + side), slice(x, x + side)) for y, x in places.tolist()]
    cut = [
        torch.stack([one[square] for one, square in zip(tensor, squares, strict=True)])
        for tensor in (pixels, weights)
    ]
    return cut[0], cut[1]


def edges(images: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbouring pixels, horizontally and vertically."""
    return images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]


def trimmed(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of the pixels that `edges` takes differences from."""
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
    """Train the autoencoder: L1 + L2 + edges + a faint KL, as in latent diffusion (2112.10752).

    From nothing it begins on pieces of pictures and trains its last steps once more.

    Args:
        start: an autoencoder to go on from; None for an untrained one.
        lock_encoder: train the decoder alone: a UNet that was trained on the latents stays valid.

    Returns:
        The averaged model when the steps are done, None when the time was up before.
    """

    @functools.cache
    def data() -> tuple[Tensor, Tensor, Tensor]:  # not where no step is left to do
        arrays = (pictures.images, pictures.masks, photo_crops(photos, seed))
        return tuple(limits.near(array) for array in arrays)

    course = functools.partial(_course, data, seed=seed, report=report)
    if start is not None:
        return course("vae", start.train(), steps, 0, limits, lock_encoder=lock_encoder)
    torch.manual_seed(stable_hash(seed, "vae", "init"))
    if not (limits.folder / "vae.pt").exists():
        for state in limits.folder.glob("vae-after-*.pt"):  # of an autoencoder before this one
            state.unlink()
    again, began = int(AGAIN_SHARE * steps), time.monotonic()
    before = steps - again
    first = course("vae", build(), before, int(CROP_SHARE * before), limits)
    if first is None or not again:
        return first
    minutes = limits.minutes - (time.monotonic() - began) / 60
    slower = replace(limits, minutes=minutes, pace=AGAIN_PACE * limits.pace)
    return course(f"vae-after-{before}", first, again, 0, slower)


def _course(
    data: Callable[[], tuple[Tensor, Tensor, Tensor]],
    name: str,
    model: nn.Module,
    steps: int,
    in_pieces: int,
    limits: Limits,
    *,
    seed: int,
    report: Callable[[str], None],
    lock_encoder: bool = False,
) -> AutoencoderKL | None:
    """Train for `steps`, the first `in_pieces` of them on pieces of pictures.

    Args:
        data: gives pictures [N, 128, 128, 3], their subjects' masks [N, 32, 32] and crops of photos
            [M, 128, 128, 3], all uint8.
        name: of the state in the folder of `limits`.
    """
    if lock_encoder:
        for part in (model.encoder, model.quant_conv):
            part.requires_grad_(False)
    encoder, decoder = model.encoder, model.decoder
    if limits.compile and limits.device.type != "cpu":  # on two cores twice as slow
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
        if step < in_pieces:
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
    """Latent means of all pictures, unscaled, [N, 4, 16, 16] float16."""
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
