"""Random changes of training pictures for the stages `clip` and `dino`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PLAIN_SHARE = 0.3
"""Share of pictures with a plain background, where only the subject is common to both views."""


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Augment pictures [B, 3, h, w] in [-1, 1]: shift by up to 8 px, brightness, mirroring."""
    padded = F.pad(images, (8, 8, 8, 8), mode="reflect")
    dy, dx = torch.randint(0, 17, (2,), generator=generator).tolist()
    height, width = images.shape[-2:]
    gain = 1 + 0.2 * (torch.rand(len(images), 1, 1, 1, generator=generator) - 0.5)
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = padded[..., dy : dy + height, dx : dx + width]
    images = torch.where(mirrored.to(images.device), images.flip(-1), images)
    return (images * gain.to(images.device)).clamp(-1, 1)


def soften(images: Tensor, generator: torch.Generator) -> Tensor:
    """Remove details below a random size from a random half of the pictures [B, 3, h, w].

    Generated images are softer than rendered pictures. A CLIP that has seen only sharp edges
    misclassifies them.
    """
    size = images.shape[-1]
    kept = int(torch.randint(size // 6, size * 3 // 4, (1,), generator=generator))
    small = F.interpolate(images, kept, mode="bilinear", antialias=True)
    soft = F.interpolate(small, size, mode="bicubic").clamp(-1, 1)
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(chosen.to(images.device), soft, images)


def crops(
    images: Tensor, size: int, scale: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Crop and resize images randomly, with mirroring and changes of light and colour.

    Args:
        images: [B, 3, H, W] in [-1, 1].
        size: side of the crops in pixels.
        scale: smallest and largest share of the picture's side that a crop shows.
        generator: source of randomness.

    Returns:
        One crop per image, [B, 3, size, size] in [-1, 1].
    """
    b = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(b, generator=generator)

    side = uniform(*scale)
    theta = torch.zeros(b, 2, 3)
    mirror = torch.where(torch.rand(b, generator=generator) < 0.5, -1.0, 1.0)
    theta[:, 0, 0], theta[:, 1, 1] = side * mirror, side
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-1, 1) * (1 - side), uniform(-1, 1) * (1 - side)
    grid = F.affine_grid(theta.to(images.device), [b, 3, size, size], align_corners=False)
    out = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    gain = uniform(0.75, 1.25).view(-1, 1, 1, 1)
    warmth = torch.stack([uniform(0.92, 1.08) for _ in range(3)], 1).view(-1, 3, 1, 1)
    return ((out + 1) * (gain * warmth).to(out.device) - 1).clamp(-1, 1)


def on_plain_ground(images: Tensor, masks: Tensor, generator: torch.Generator) -> Tensor:
    """Replace the scenery of some pictures with one random colour each.

    Args:
        images: [B, 3, H, W] in [-1, 1].
        masks: [B, h, w] uint8, 255 on the subject.
        generator: source of randomness.
    """
    b = len(images)
    chosen = torch.rand(b, 1, 1, 1, generator=generator) < PLAIN_SHARE
    colour = 2 * torch.rand(b, 3, 1, 1, generator=generator) - 1
    scenery = 1 - masks[:, None].float() / 255
    scenery = F.interpolate(scenery, images.shape[-2:], mode="bilinear") * chosen
    return torch.lerp(images, colour.to(images.device), scenery.to(images.device))
