"""Photos and prompts of a run, encoded once: what the training loop looks up by view index."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.checks.resolution import check_resolution
from dreambooth_pl.bases.conditioning import Conditioning, MicroConditioning
from dreambooth_pl.bases.transfer import upload
from dreambooth_pl.data.views import View
from dreambooth_pl.errors import UserError
from dreambooth_pl.training.encoder import Encoder


class ViewCache:
    """Latent moments per view and token ids (or embeddings) per distinct prompt.

    The moments are kept rather than one latent, so that every step samples from the VAE's posterior
    as uncached training would, without running the VAE.

    Args:
        base: encodes; its denoiser's device is where the cache lives.
        views: the distinct views; batches refer to them by position.
        resolution: side in pixels at which views without a size of their own are encoded.
        empty_prompt: whether prompts are dropped, so that the empty one is encoded as well.
        encoder: looks up what is kept on the disk, and tells of its progress; None for neither.

    Raises:
        UserError: the VAE cannot encode this resolution.
    """

    def __init__(
        self,
        base: Base,
        views: Sequence[View],
        resolution: int,
        empty_prompt: bool = False,
        encoder: Encoder | None = None,
    ) -> None:
        if not views:
            raise ValueError("there are no views to train on")
        check_resolution(base, resolution, "data.resolution")
        if resolution % base.pixel_multiple:
            raise UserError(
                f"data.resolution: {resolution} px is no multiple of {base.pixel_multiple}, the "
                f"pixels per latent cell of {base.name!r}"
            )
        self._base = base
        self._encoder = encoder or Encoder(base)
        self._moments = self._encoder.latent_moments(views, resolution)
        square = (resolution, resolution)
        pictures = [
            MicroConditioning(
                view.original_size, view.crop_top_left(resolution), view.size or square
            )
            for view in views
        ]
        self._micro_conditioning = base.micro_conditioning(pictures)
        self._weights = _latent_weights(base, views, resolution, [m for m, _ in self._moments])
        prompts = list(dict.fromkeys(view.prompt for view in views))
        if empty_prompt and "" not in prompts:
            prompts.append("")
        self._empty_prompt = prompts.index("") if empty_prompt else None
        self._prompt_of_view = torch.tensor([prompts.index(view.prompt) for view in views])
        self._prompts = prompts
        self._tokens = base.tokenize(prompts)
        self._conditioning: Conditioning | None = None

    def latent_shape(self, view: int | Tensor) -> tuple[int, ...]:
        """Return the shape [C, h, w] of a view's latent."""
        return tuple(self._moments[int(view)][0].shape)

    def rows_by_size(self, views: Tensor) -> list[list[int]]:
        """Return the positions among `views` [N] of the views of each latent size."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for row, view in enumerate(views.tolist()):
            groups.setdefault(self.latent_shape(view), []).append(row)
        return list(groups.values())

    def latents(self, views: Tensor, normal: Tensor) -> Tensor:
        """Return mean + std * normal, [n, C, h, w], of `views` [n], which have one latent size."""
        moments = [self._moments[view] for view in views.tolist()]
        mean, std = (torch.stack(parts) for parts in zip(*moments, strict=True))
        return mean + std * normal

    def loss_weights(self, views: Tensor) -> Tensor | None:
        """Return the weight of each latent cell in the loss, [n, 1, h, w] in [0, 1].

        None where no view of the run has weights. Cells hold the mean of their pixels' weights.
        """
        if self._weights is None:
            return None
        return torch.stack([self._weights[view] for view in views.tolist()])

    @torch.no_grad()
    def encode_prompts(self) -> None:
        """Encode every distinct prompt now and for good: for a text encoder that does not train."""
        self._conditioning = self._encoder.conditioning(self._prompts)

    def conditioning(self, views: Tensor, dropped: Tensor | None = None) -> Conditioning:
        """Return the prompts' encoding, one row per index in `views` [N].

        Where `dropped` [N] is not 0, the empty prompt stands in for the view's own. The
        micro-conditioning is added for the families that have it.

        Looked up after `encode_prompts`; otherwise the distinct prompts among them are encoded
        now, with gradients.
        """
        prompts = self.prompts(views, dropped)
        if self._conditioning is not None:
            return self.complete(self._conditioning.select(prompts), views, dropped)
        distinct, rows = prompts.unique(return_inverse=True)
        encoded = self._base.encode_tokens(self.tokens(distinct)).select(rows)
        return self.complete(encoded, views, dropped)

    def prompts(self, views: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Return the positions of the views' prompts, [N]; see `conditioning`."""
        prompts = self._prompt_of_view[views]
        if dropped is None:
            return prompts
        if self._empty_prompt is None:
            raise ValueError("the cache was made without the empty prompt")
        return prompts.masked_fill(dropped != 0, self._empty_prompt)

    def tokens(self, prompts: Tensor) -> list[dict[str, Tensor]]:
        """Return the tokens of the prompts at these positions [n]; see `Base.tokenize`."""
        return [{name: ids[prompts] for name, ids in part.items()} for part in self._tokens]

    def complete(
        self, prompts: Conditioning, views: Tensor, dropped: Tensor | None = None
    ) -> Conditioning:
        """Return encoded prompts, N rows, with all else that conditions on `views` [N]."""
        if dropped is not None and self._base.zeros_for_empty_prompt:
            prompts = prompts.zeroed(dropped)
        rows = upload(views, self._base.device)
        added = {name: value[rows] for name, value in self._micro_conditioning.items()}
        return prompts.with_added(added)


def _latent_weights(
    base: Base, views: Sequence[View], resolution: int, latents: Sequence[Tensor]
) -> list[Tensor] | None:
    """Return each view's loss weights at latent size, [1, h, w], 1 where a view has none."""
    weights = [view.loss_weights(resolution) for view in views]
    if all(of_view is None for of_view in weights):
        return None
    return [
        torch.ones_like(latent[:1])
        if pixels is None
        else avg_pool2d(pixels, base.vae_scale_factor).to(latent.device)
        for pixels, latent in zip(weights, latents, strict=True)
    ]
