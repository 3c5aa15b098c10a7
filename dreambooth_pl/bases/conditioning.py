"""The denoiser's conditioning: encoded prompts and micro-conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dreambooth_pl.bases.transfer import upload


@dataclass(frozen=True)
class Conditioning:
    """Inputs of the denoiser besides latents and timesteps, one row per prompt."""

    hidden_states: Tensor
    """Text encoder states, [B, L, D]."""
    added: dict[str, Tensor] = field(default_factory=dict)
    """Further inputs by name, each [B, ...]. Empty for Stable Diffusion 1.x and 2.x."""

    def select(self, rows: Sequence[int] | Tensor) -> Conditioning:
        """Return the rows at the indices `rows` [N], in their order."""
        rows = upload(torch.as_tensor(rows), self.hidden_states.device)
        return Conditioning(
            self.hidden_states[rows], {name: value[rows] for name, value in self.added.items()}
        )

    def to(self, device: torch.device | str) -> Conditioning:
        """Return the conditioning on another device."""
        added = {name: value.to(device) for name, value in self.added.items()}
        return Conditioning(self.hidden_states.to(device), added)

    def joined(self, *others: Conditioning) -> Conditioning:
        """Return the rows of this and the other conditionings, in this order."""
        parts = (self, *others)
        return Conditioning(
            torch.cat([part.hidden_states for part in parts]),
            {name: torch.cat([part.added[name] for part in parts]) for name in self.added},
        )

    def zeroed(self, rows: Tensor) -> Conditioning:
        """Return the conditioning with zeros in the rows where `rows` [B] is not 0."""

        def zero(value: Tensor) -> Tensor:
            mask = upload(rows != 0, value.device).reshape(-1, *[1] * (value.ndim - 1))
            return value.masked_fill(mask, 0.0)

        added = {name: zero(value) for name, value in self.added.items()}
        return Conditioning(zero(self.hidden_states), added)

    def with_added(self, more: dict[str, Tensor]) -> Conditioning:
        """Return the conditioning with further inputs."""
        return Conditioning(self.hidden_states, {**self.added, **more})


@dataclass(frozen=True)
class MicroConditioning:
    """Original size, crop and target size of a picture, in pixels (arXiv 2307.01952, section 2.2).

    The original is scaled first and then cropped to the picture.
    """

    original_size: tuple[int, int]
    """Height and width of the original, before scaling."""
    crop_top_left: tuple[int, int]
    """(y, x) of the picture's top left corner in the scaled original."""
    target_size: tuple[int, int]
    """Height and width of the picture."""

    @staticmethod
    def whole(size: tuple[int, int]) -> MicroConditioning:
        """Return the micro-conditioning of a picture that was neither scaled nor cropped.

        Args:
            size: its height and width.
        """
        return MicroConditioning(size, (0, 0), size)
