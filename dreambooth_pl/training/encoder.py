"""Encoding a run's pictures and prompts, with results that may be kept on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.conditioning import Conditioning
from dreambooth_pl.data.photos import MANY, read_ahead
from dreambooth_pl.data.views import View
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.tensor_cache import TensorCache
from dreambooth_pl.progress import ProgressReporter, Task

_STATES = "hidden_states"
Moments = tuple[Tensor, Tensor]
"""Mean and standard deviation of a picture's latent, each [C, h, w]."""


class Encoder:
    """Encodes with a base that does not train, or looks the result up.

    What was kept is found again under the same pictures or prompts, base, data types, kind of
    device and version of PyTorch, and is the same to the bit.

    Args:
        base: encodes; results are on its denoiser's device.
        folder: keeps results; None to keep none.
        reporter: shows progress where there are many pictures; None for no display.
    """

    def __init__(
        self, base: Base, folder: Path | None = None, reporter: ProgressReporter | None = None
    ) -> None:
        self._base = base
        self._cache = None if folder is None else TensorCache(folder)
        self._reporter = reporter

    def latent_moments(self, views: Sequence[View], resolution: int) -> list[Moments]:
        """Return the latent moments of each view.

        Each photo is read once for the views of it that lie together.

        Args:
            views: one way of looking at a picture each.
            resolution: side in pixels of views without a size of their own.

        Raises:
            UserError: a photo cannot be read, or the VAE cannot encode a view's size.
        """
        facts = [self._of_view(view, resolution) for view in views]
        found = [self._kept(of_view) for of_view in facts]
        wanted = [number for number, kept in enumerate(found) if kept is None]
        by_photo = [(path, list(of)) for path, of in groupby(wanted, lambda n: views[n].path)]
        done = 0
        photos = read_ahead([path for path, _ in by_photo])
        with self._task(len(wanted)) as task:
            for (_, numbers), photo in zip(by_photo, photos, strict=True):
                for number in numbers:
                    pixels = views[number].pixels(resolution, photo)
                    found[number] = self._encode(pixels)
                    self._keep(facts[number], found[number])
                    done += 1
                    if task is not None and (task.due() or done == len(wanted)):
                        task.update(done)
        device = self._base.device
        return [(of["mean"].to(device), of["std"].to(device)) for of in found if of is not None]

    @torch.no_grad()
    def conditioning(self, prompts: list[str]) -> Conditioning:
        """Return the prompts' encoding, a row each; see `Base.encode_prompts`."""
        base = self._base
        autocast = torch.is_autocast_enabled(base.device.type)
        dtypes = [str(next(network.parameters()).dtype) for network in base.text_encoders]
        facts = self._facts(prompts=prompts, text_encoders=dtypes, autocast=autocast)
        kept = self._kept(facts)
        if kept is None:
            encoded = base.encode_prompts(prompts)
            kept = {_STATES: encoded.hidden_states, **encoded.added}
            self._keep(facts, kept)
        states = kept.pop(_STATES)
        return Conditioning(states, kept).to(base.device)

    def _encode(self, pixels: Tensor) -> dict[str, Tensor]:
        """Encode one picture [3, H, W]: its latent does not depend on what else is in the run."""
        base = self._base
        height, width = pixels.shape[-2:]
        if height % base.pixel_multiple or width % base.pixel_multiple:
            raise UserError(
                f"data.bucket_step: views of {width} x {height} px are no multiples of "
                f"{base.pixel_multiple}, the pixels per latent cell of {base.name!r}"
            )
        mean, std = base.encode_images(pixels[None])
        return {"mean": mean[0], "std": std[0]}

    def _of_view(self, view: View, resolution: int) -> dict[str, Any]:
        """Return what a view's moments depend on; nothing where nothing is kept."""
        if self._cache is None:
            return {}
        return self._facts(
            picture=sha256(view.path.read_bytes()).hexdigest(),
            size=list(view.size or (resolution, resolution)),
            centering=list(view.centering),
            flip=view.flip,
        )

    def _facts(self, **own: Any) -> dict[str, Any]:
        base = self._base
        shared = {"base": base.fingerprint, "vae": str(base.vae.dtype), "torch": torch.__version__}
        return {**shared, "device": base.device.type, **own}

    def _kept(self, facts: dict[str, Any]) -> dict[str, Tensor] | None:
        return None if self._cache is None else self._cache.get(facts)

    def _keep(self, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        if self._cache is not None:
            self._cache.put(facts, tensors)

    @contextmanager
    def _task(self, count: int) -> Iterator[Task | None]:
        """Show progress while the block runs, where there is enough to wait for."""
        if self._reporter is None or count < MANY:
            yield None
            return
        with self._reporter.task("encoding pictures", count) as task:
            yield task
