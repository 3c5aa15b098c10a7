"""Photos and prompts of a run, encoded once: what the training loop looks up by view index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.conditioning import Conditioning, MicroConditioning
from dreambooth_pl.errors import UserError


class EncodableView(Protocol):
    """What the cache needs of a view: one picture with its prompt.

    It may also have `loss_weights(resolution)`: weights of its pixels in the loss, [1, H, W] in
    [0, 1], or None; and `original_size` (height, width) with `crop_top_left(resolution)` (y, x):
    what it was cut out of. Without these it is taken for a whole picture of its own size.
    """

    prompt: str

    def pixels(self, resolution: int) -> Tensor:
        """Return [3, H, W] in [-1, 1]."""


Stacked = Tensor | list[Tensor]
"""Tensors of one shape along a new first dimension; a list of them where shapes differ."""


def stack(tensors: Sequence[Tensor]) -> Stacked:
    """Stack tensors, or return them as a list where their shapes differ."""
    same = all(tensor.shape == tensors[0].shape for tensor in tensors)
    return torch.stack(list(tensors)) if same else list(tensors)


def rows_by_shape(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the positions of the tensors of each shape, int64, in the order they come."""
    groups: dict[torch.Size, list[int]] = {}
    for row, tensor in enumerate(tensors):
        groups.setdefault(tensor.shape, []).append(row)
    return [torch.tensor(rows) for rows in groups.values()]


class ViewCache:
    """Latent moments per view and token ids (or embeddings) per distinct prompt.

    The moments are kept rather than one latent, so that every step draws from the VAE's posterior
    as uncached training would, without running the VAE.

    Args:
        base: encodes; its UNet's device is where the cache lives.
        views: the distinct views; batches refer to them by position.
        resolution: side in pixels at which views without a size of their own are encoded.
        empty_prompt: whether prompts are dropped, so that the empty one is encoded as well.

    Raises:
        UserError: the VAE cannot encode this resolution.
    """

    def __init__(
        self,
        base: Base,
        views: Sequence[EncodableView],
        resolution: int,
        empty_prompt: bool = False,
    ) -> None:
        assert views, "nothing to train on"
        if resolution % base.vae_scale_factor:
            raise UserError(
                f"data.resolution: {resolution} px is no multiple of {base.vae_scale_factor}, the "
                f"pixels per latent cell of {base.name!r}"
            )
        self._base = base
        # One at a time: a view's latent does not depend on what else is in the run.
        moments, pictures = [], []
        for view in views:
            pixels = view.pixels(resolution)
            moments.append(_encode(base, pixels))
            pictures.append(_micro_conditioning(view, resolution, pixels))
        self._micro_conditioning = base.micro_conditioning(pictures)
        self._mean = stack([mean for mean, _ in moments])
        self._std = stack([std for _, std in moments])
        self._weights = _latent_weights(base, views, resolution, [mean for mean, _ in moments])
        prompts = list(dict.fromkeys(view.prompt for view in views))
        if empty_prompt and "" not in prompts:
            prompts.append("")
        self._empty_prompt = prompts.index("") if empty_prompt else None
        self._prompt_of_view = torch.tensor([prompts.index(view.prompt) for view in views])
        self._tokens = base.tokenize(prompts)
        self._conditioning: Conditioning | None = None

    def latent_shapes(self, views: Tensor) -> list[tuple[int, ...]]:
        """Return the shape [C, h, w] of the latent of each of the views at indices `views` [N]."""
        return [tuple(self._mean[view].shape) for view in views.tolist()]

    def latents(self, views: Tensor, noise: Stacked) -> Stacked:
        """Return mean + std * noise, [N, C, h, w], of the views at indices `views` [N].

        Where these differ in size, noise and result are lists of N tensors [C, h, w].
        """
        if isinstance(self._mean, Tensor):
            return self._mean[views] + self._std[views] * noise
        pairs = zip(views.tolist(), noise, strict=True)
        return stack([self._mean[view] + self._std[view] * normal for view, normal in pairs])

    def loss_weights(self, views: Tensor) -> Stacked | None:
        """Return the weight of each latent cell in the loss, [N, 1, h, w] in [0, 1].

        A list of N tensors [1, h, w] where the views differ in size; None where no view has
        weights. Cells hold the mean of their pixels' weights.
        """
        if self._weights is None:
            return None
        return stack([self._weights[view] for view in views.tolist()])

    @torch.no_grad()
    def encode_prompts(self) -> None:
        """Encode every distinct prompt now and for good: for a text encoder that does not train."""
        self._conditioning = self._base.encode_tokens(self._tokens, self._base.device)

    def conditioning(self, views: Tensor, dropped: Tensor | None = None) -> Conditioning:
        """Return the prompts' encoding, one row per index in `views` [N].

        Where `dropped` [N] is not 0, the empty prompt stands in for the view's own. How the views
        are framed is added for the families that are told.

        Looked up after `encode_prompts`; otherwise the distinct prompts among them are encoded
        now, with gradients.
        """
        prompts = self._prompt_of_view[views]
        if dropped is not None:
            assert self._empty_prompt is not None, "made without the empty prompt"
            prompts = prompts.masked_fill(dropped != 0, self._empty_prompt)
        conditioning = self._of_prompts(prompts)
        if dropped is not None and self._base.zeros_for_empty_prompt:
            conditioning = conditioning.zeroed(dropped)
        micro_conditioning = {
            name: value[views] for name, value in self._micro_conditioning.items()
        }
        return conditioning.with_added(micro_conditioning)

    def _of_prompts(self, prompts: Tensor) -> Conditioning:
        """Return the encoding of the prompts at these positions [N]."""
        if self._conditioning is not None:
            return self._conditioning.select(prompts)
        distinct, rows = prompts.unique(return_inverse=True)
        tokens = [{name: ids[distinct] for name, ids in part.items()} for part in self._tokens]
        return self._base.encode_tokens(tokens).select(rows)


def _encode(base: Base, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the latent moments of one picture [3, H, W], each [C, h, w], on the base's device."""
    factor = base.vae_scale_factor
    height, width = pixels.shape[-2:]
    if height % factor or width % factor:
        raise UserError(
            f"data.bucket_step: views of {width} x {height} px are no multiples of {factor}, the "
            f"pixels per latent cell of {base.name!r}"
        )
    mean, std = base.encode_images(pixels[None])
    return mean[0].to(base.device), std[0].to(base.device)


def _micro_conditioning(view: EncodableView, resolution: int, pixels: Tensor) -> MicroConditioning:
    """Return how a view was cut out of its photo."""
    height, width = pixels.shape[-2:]
    if not hasattr(view, "crop_top_left"):
        return MicroConditioning.whole((height, width))
    return MicroConditioning(view.original_size, view.crop_top_left(resolution), (height, width))


def _latent_weights(
    base: Base, views: Sequence[EncodableView], resolution: int, latents: Sequence[Tensor]
) -> list[Tensor] | None:
    """Return each view's loss weights at latent size, [1, h, w], 1 where a view has none."""
    weights = []
    for view in views:
        of_view = getattr(view, "loss_weights", None)
        weights.append(None if of_view is None else of_view(resolution))
    if all(of_view is None for of_view in weights):
        return None
    return [
        torch.ones_like(latent[:1])
        if pixels is None
        else avg_pool2d(pixels, base.vae_scale_factor).to(latent.device)
        for pixels, latent in zip(weights, latents, strict=True)
    ]
