"""The batch size at which a machine generates images fastest.

Larger batches use the processor better until memory or caches are full. The best size differs
between machines, bases and resolutions. `batch_size: auto` stands for the size that this module
measures.

The bits of an image depend on the size of its batch (see `sampling.generation`). The size is
therefore recorded with every image. The measurements are kept on disk, so that the same machine
keeps using the same size.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from dreambooth_pl.bases.base import Base
from dreambooth_pl.files.atomic import WriteError, write_json
from dreambooth_pl.memory.available import available_memory, resident_memory
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings

log = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 32, 64)
FEW_STEPS, MORE_STEPS = 1, 4  # denoising steps of the two timings of a size
ROUNDS = 2  # runs of each timing; the fastest counts, because other work only slows a run down
SECONDS = 25.0  # no further size is started after this time
_WORSE = 0.85  # the search ends at a size whose rate is below this share of the best so far
_ABOUT_AS_GOOD = 0.97  # a smaller size is chosen if it reaches this share of the best rate
_MEMORY_SHARE = 0.7  # largest share of the free memory that the next size is expected to take

Rates = dict[int, float]
"""Images per second by batch size."""


def settle_batch_size(
    base: Base, settings: SamplingSettings, count: int | None = None
) -> SamplingSettings:
    """Return the settings with a numeric batch size. `auto` becomes `best_batch_size`.

    Args:
        base: generates the images, on its current device.
        settings: returned unchanged if the batch size is a number.
        count: number of images to generate. None: many.
    """
    if settings.batch_size != "auto":
        return settings
    return replace(settings, batch_size=best_batch_size(base, settings, count))


def best_batch_size(base: Base, settings: SamplingSettings, count: int | None = None) -> int:
    """Return the batch size at which this machine generates the most images per second.

    The first call measures the rates and writes them to `cache_file`. Later calls, also from other
    processes, read them from there.

    Args:
        base: generates the images, on its current device.
        settings: resolution, guidance, number of steps and autocast matter. The batch size does
            not.
        count: number of images to generate. The last batch is filled up, so a size that divides
            `count` well may beat a size with a higher rate. None: many.
    """
    rates = known_rates(base, settings)
    if rates is None:
        rates = measure_rates(base, settings)
        _write(cache_file(base, settings), rates)
    return choose(rates, count)


def known_rates(base: Base, settings: SamplingSettings) -> Rates | None:
    """Return what was measured on this machine; None if nothing was. Measures nothing."""
    return _read(cache_file(base, settings))


def choose(rates: Mapping[int, float], count: int | None = None) -> int:
    """Return the smallest batch size that is about as good as the best for `count` images.

    The candidates are the measured sizes and, for each of them, the size that distributes the
    images evenly over the same number of batches. The time of a batch of the latter is interpolated
    linearly between the measured sizes.

    Args:
        rates: images per second by batch size.
        count: number of images to generate. None: many, and only measured sizes are considered.

    >>> choose({1: 1.0, 4: 2.0, 8: 2.02})
    4
    >>> choose({1: 1.0, 4: 2.0, 8: 2.5}, count=4)  # a batch of 8 would waste four images
    4
    >>> choose({1: 1.0, 16: 3.0, 32: 4.0}, count=100)  # four batches of 32 would waste 28 images
    25
    """
    if count is None:
        seconds = {size: 1 / rate for size, rate in rates.items()}
    else:
        even = {math.ceil(count / math.ceil(count / size)) for size in rates}
        least = min(rates)
        sizes = sorted({*rates, *(size for size in even if size >= least)})
        measured = sorted(rates)
        batch_seconds = np.interp(sizes, measured, [size / rates[size] for size in measured])
        seconds = {
            size: math.ceil(count / size) * float(each)
            for size, each in zip(sizes, batch_seconds, strict=True)
        }
    best = min(seconds.values())
    return min(size for size in seconds if seconds[size] * _ABOUT_AS_GOOD <= best)


def measure_rates(
    base: Base, settings: SamplingSettings, sizes: tuple[int, ...] = SIZES, limit: float = SECONDS
) -> Rates:
    """Time a few denoising steps at growing batch sizes.

    Each size is timed with two numbers of steps. Their difference gives the cost of a step, and the
    remainder is the cost of decoding and setup. Together they give the time for
    `settings.num_inference_steps`.

    The search ends at a size that is clearly slower than an earlier one, when the next size is not
    expected to fit into memory, or when `limit` is reached. The first size is always measured.

    Args:
        base: generates the images.
        settings: sampling settings. The batch size is ignored.
        sizes: batch sizes to time, in growing order.
        limit: seconds after which no further size is started.

    Returns:
        Complete images per second by batch size.
    """
    requests = [ImageRequest("a photo", seed) for seed in range(max(sizes))]

    def timed(size: int, steps: int) -> float:
        few = replace(settings, num_inference_steps=steps, batch_size=size)
        _synchronize(base)
        start = time.perf_counter()
        for _ in generate(base, requests[:size], few):
            pass
        _synchronize(base)
        return time.perf_counter() - start

    began = time.perf_counter()
    steps = settings.num_inference_steps
    rates: Rates = {}
    took = 0.0
    for size in sizes:
        over = time.perf_counter() - began + 2 * took > limit
        if rates and (over or not _fits(base, size)):
            break
        started = time.perf_counter()
        try:
            timed(size, FEW_STEPS)  # warm-up: the first run prepares kernels for these shapes
            few = min(timed(size, FEW_STEPS) for _ in range(ROUNDS))
            more = min(timed(size, MORE_STEPS) for _ in range(ROUNDS))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if rates:
                break
            raise
        took = time.perf_counter() - started
        per_step = (more - few) / (MORE_STEPS - FEW_STEPS)
        if per_step <= 0:  # other work disturbed the timing with few steps
            per_step = more / MORE_STEPS
        whole = few + per_step * (steps - FEW_STEPS)
        rates[size] = size / whole
        if rates[size] < _WORSE * max(rates.values()):
            break
    log.info("images per second by batch size: %s", rates)
    return rates


def cache_file(base: Base, settings: SamplingSettings) -> Path:
    """Return the file of this machine's rates for this base and these settings."""
    device = base.device
    cuda = device.type == "cuda"
    facts = {
        "machine": platform.node(),
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "base": base.fingerprint,
        "dtype": str(base.dtype),
        "resolution": settings.resolution or base.resolution,
        "steps": settings.num_inference_steps,
        "guidance": settings.guidance_scale > 1,
        "autocast": settings.autocast,
    }
    key = sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "dreambooth_pl" / "throughput" / f"{key}.json"


def _processor() -> str:
    return f"{platform.machine()} {platform.processor()} x {os.cpu_count()}"


def _read(path: Path) -> Rates | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rates = {int(size): float(rate) for size, rate in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return rates if rates and all(rate > 0 for rate in rates.values()) else None


def _write(path: Path, rates: Rates) -> None:
    """Write the rates to the cache. A failure is only logged; the next call measures again."""
    try:
        write_json(path, rates)
    except WriteError as error:
        log.info("%s", error)


def _fits(base: Base, size: int) -> bool:
    """Return whether a batch of `size` is expected to fit into memory.

    It is expected to take twice the memory of the previous batch, which had half its size.
    """
    available, device = available_memory(base.device), base.device
    if available is None:
        return True
    if device.type == "cuda":
        took = torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)
    else:
        now, most = resident_memory() or (0, 0)
        took = most - now
    return 2 * max(took, 0) < _MEMORY_SHARE * available.size


def _synchronize(base: Base) -> None:
    if base.device.type == "cuda":
        torch.cuda.synchronize(base.device)
