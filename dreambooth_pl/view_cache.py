"""Photos and prompts of a run, encoded once: what the training loop looks up by view index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dreambooth_pl.errors import UserError
from dreambooth_pl.models import Base, Conditioning


class EncodableView(Protocol):
    """What the cache needs of a view: one picture with its prompt."""

    prompt: str

    def pixels(self, resolution: int) -> Tensor:
        """Return [3, H, W] in [-1, 1]."""


class ViewCache:
    """Latent moments per view and token ids (or embeddings) per distinct prompt.

    The moments are kept rather than one latent, so that every step draws from the VAE's posterior
    as uncached training would, without running the VAE.

    Args:
        base: encodes; its UNet's device is where the cache lives.
        views: the distinct views; batches refer to them by position.
        resolution: side in pixels at which the views are encoded.

    Raises:
        UserError: the VAE cannot encode this resolution.
    """

    def __init__(self, base: Base, views: Sequence[EncodableView], resolution: int) -> None:
        assert views, "nothing to train on"
        if resolution % base.vae_scale_factor:
            raise UserError(
                f"data.resolution: {resolution} px is no multiple of {base.vae_scale_factor}, the "
                f"pixels per latent cell of {base.name!r}"
            )
        self._base = base
        # One at a time: a view's latent does not depend on what else is in the run.
        moments = [base.encode_images(view.pixels(resolution)[None]) for view in views]
        self._mean = torch.cat([mean for mean, _ in moments]).to(base.device)
        self._std = torch.cat([std for _, std in moments]).to(base.device)
        prompts = list(dict.fromkeys(view.prompt for view in views))
        self._prompt_of_view = torch.tensor([prompts.index(view.prompt) for view in views])
        self._tokens = base.tokenize(prompts)
        self._conditioning: Conditioning | None = None

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape [C, h, w] of one latent."""
        return tuple(self._mean.shape[1:])

    def latents(self, views: Tensor, noise: Tensor) -> Tensor:
        """Return mean + std * noise, [N, C, h, w], of the views at indices `views` [N]."""
        return self._mean[views] + self._std[views] * noise

    @torch.no_grad()
    def encode_prompts(self) -> None:
        """Encode every distinct prompt now and for good: for a text encoder that does not train."""
        self._conditioning = self._base.encode_tokens(self._tokens, self._base.device)

    def conditioning(self, views: Tensor) -> Conditioning:
        """Return the prompts' encoding, one row per index in `views` [N].

        Looked up after `encode_prompts`; otherwise the distinct prompts among them are encoded
        now, with gradients.
        """
        prompts = self._prompt_of_view[views]
        if self._conditioning is not None:
            return self._conditioning.select(prompts)
        distinct, rows = prompts.unique(return_inverse=True)
        tokens = [{name: ids[distinct] for name, ids in part.items()} for part in self._tokens]
        return self._base.encode_tokens(tokens).select(rows)
