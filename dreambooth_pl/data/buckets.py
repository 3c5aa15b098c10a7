"""Aspect-ratio buckets: the sizes at which photos of different shapes are trained on. Pure."""

from __future__ import annotations

import math

MAX_ASPECT = 4.0
"""Sides of a bucket differ at most by this factor; longer photos are cropped to it."""


def default_step(resolution: int) -> int:
    """Return what bucket sides are multiples of: an eighth of the resolution, 8 to 64 pixels.

    >>> default_step(128), default_step(512), default_step(1024)
    (16, 64, 64)
    """
    return max(8, min(64, resolution // 64 * 8))


def bucket_sizes(resolution: int, step: int) -> list[tuple[int, int]]:
    """Return all buckets as (height, width), the square of the resolution among them.

    Each side is a multiple of `step`, the area as near to resolution^2 as the multiples allow.

    >>> bucket_sizes(64, 16)
    [(32, 128), (48, 80), (64, 64), (80, 48), (128, 32)]
    """
    area = resolution * resolution
    sizes = {(resolution, resolution)}
    for short in range(step, resolution, step):
        long = max(step, round(area / short / step) * step)
        if resolution < long <= MAX_ASPECT * short:
            sizes |= {(short, long), (long, short)}
    return sorted(sizes)


def nearest_bucket(
    size: tuple[int, int], buckets: list[tuple[int, int]], resolution: int
) -> tuple[int, int]:
    """Return the bucket whose shape is most like a photo's (height, width).

    Shapes are compared by the logarithm of their ratio, so that tall and wide count alike; between
    equals the area nearest to resolution^2 wins.
    """
    ratio = math.log(size[0] / size[1])

    def distance(bucket: tuple[int, int]) -> tuple[float, int, int]:
        height, width = bucket
        off = abs(math.log(height / width) - ratio)
        return round(off, 9), abs(height * width - resolution * resolution), height

    return min(buckets, key=distance)
