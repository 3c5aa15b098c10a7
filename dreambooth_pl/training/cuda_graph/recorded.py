"""The denoiser's forward and backward pass as a CUDA graph: recorded once, then replayed.

At batch 1 + 1 a GPU finishes most of a denoiser's few thousand operations sooner than Python can
launch the next. A recording launches all of them at once. What it then costs is the GPU's own work,
so recordings leave out conversions of types and layouts that are not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.conditioning import Conditioning
from dreambooth_pl.training.cuda_graph.lean_autocast import lean_autocast

_MOST = 4  # shapes that are recorded; each holds its activations for good
_WARM_UP = 3  # passes before recording, in which libraries choose their kernels


class RecordedDenoiser:
    """Predicts with recordings of a base's denoiser, one for each shape of input.

    Frozen convolutions' weights are kept in the order that a GPU computes in (channels last).

    The denoiser is called directly without gradients, and from the fifth shape on. The values of
    weights may change between calls. Their addresses, which of them train, modes, and strengths of
    adapters must not change. A shape must not be called again before its gradients are used.

    Args:
        base: on a GPU, without gradient checkpointing and dropout.
    """

    def __init__(self, base: Base) -> None:
        self._base = base
        self._recordings: dict[tuple, Callable[..., Tensor]] = {}
        for weight in base.denoiser.parameters():
            if weight.ndim == 4 and not weight.requires_grad:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def __call__(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the prediction [n, C, h, w]; see `Base.predict`. All inputs are on the GPU."""
        inputs = (noisy, timesteps, conditioning.hidden_states, *conditioning.added.values())
        key = tuple((tensor.shape, tensor.dtype, tensor.requires_grad) for tensor in inputs)
        recording = self._recordings.get(key)
        if recording is None:
            if not torch.is_grad_enabled() or len(self._recordings) == _MOST:
                return self._base.predict(noisy, timesteps, conditioning)
            recording = _record(_Flat(self._base, list(conditioning.added)), inputs)
            self._recordings[key] = recording
        return recording(*inputs)


class _Flat(nn.Module):
    """A denoiser that takes tensors only; its parameters are those that train."""

    def __init__(self, base: Base, added: list[str]) -> None:
        super().__init__()
        self.denoiser = base.denoiser
        self._base = base
        self._added = added

    def forward(
        self, noisy: Tensor, timesteps: Tensor, hidden_states: Tensor, *added: Tensor
    ) -> Tensor:
        conditioning = Conditioning(hidden_states, dict(zip(self._added, added, strict=True)))
        return self._base.predict(noisy, timesteps, conditioning)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Yield what gradients are recorded for."""
        return (p for p in super().parameters(recurse) if p.requires_grad)


def _record(network: _Flat, inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    samples = tuple(
        tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs
    )
    kind = inputs[0].device.type
    # Weights that autocast has cast and kept would be gone when the recording is replayed.
    autocast = torch.autocast(
        kind,
        torch.get_autocast_dtype(kind),
        enabled=torch.is_autocast_enabled(kind),
        cache_enabled=False,
    )
    with autocast, lean_autocast(network.denoiser):
        return torch.cuda.make_graphed_callables(
            network, samples, num_warmup_iters=_WARM_UP, allow_unused_input=True
        )
