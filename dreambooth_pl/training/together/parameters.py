"""The adapters of several runs in one matrix, a row for each run.

Every run keeps its parameters, gradients and moments of AdamW, which become views of its row; so
its checkpoints, images and files need not know of the other runs. The layers of `layers` see the
same memory as stacks over the runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dreambooth_pl.adapters import ADAPTER_NAME, trainable_parameters
from dreambooth_pl.bases.base import Base
from dreambooth_pl.training.optimizers import make_optimizer

_ALIGNED = 16  # values at whose multiples parameters begin, as vector instructions like it
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Place:
    """Where a parameter is in each row."""

    start: int
    shape: torch.Size

    def of(self, matrix: Tensor) -> Tensor:
        """Return the parameter of all rows, [N, *shape], a view."""
        flat = matrix[:, self.start : self.start + self.shape.numel()]
        return flat.unflatten(1, self.shape)


class StackedParameters:
    """Adapters, gradients and AdamW of several runs on one base.

    Args:
        bases: of the runs, whose adapters have the same names and shapes.
        optimizers: AdamW of each run, over these adapters, a group for each component.
    """

    def __init__(self, bases: Sequence[Base], optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.bases, self.optimizers = list(bases), list(optimizers)
        self.places: dict[str, dict[str, Place]] = {}
        self.segments: dict[str, slice] = {}
        end = 0
        for component, parameters in trainable_parameters(bases[0]).items():
            begin, places = end, {}
            for name, parameter in parameters.items():
                places[name] = Place(end, parameter.shape)
                end += -(-parameter.numel() // _ALIGNED) * _ALIGNED
            self.places[component] = places
            self.segments[component] = slice(begin, end)
        device = next(iter(next(iter(trainable_parameters(bases[0]).values())).values())).device
        self.values, self.gradients, *moments = torch.zeros(4, len(bases), end, device=device)
        self.moments = dict(zip(_MOMENTS, moments, strict=True))
        self._hooks: dict[int, RemovableHandle] = {}
        self._adopt()
        self.optimizer = self._optimizer()

    def factors(self, component: str, layer: str, rows: slice) -> tuple[Tensor, Tensor]:
        """Return A and B of a layer's adapters for some of the runs, leaves with gradients."""
        found = []
        for part in ("lora_A", "lora_B"):
            place = self.places[component][f"{layer}.{part}.{ADAPTER_NAME}.weight"]
            leaf = _leaf(place.of(self.values)[rows], place.of(self.gradients)[rows])
            found.append(leaf)
        return found[0], found[1]

    def scaling(self, component: str, layer: str) -> Tensor:
        """Return the strength of a layer's adapters in each run, [N]."""
        layers = [base.adaptable[component].get_submodule(layer) for base in self.bases]
        return torch.tensor(
            [own.scaling[ADAPTER_NAME] for own in layers], device=self.values.device
        )

    def norms(self, component: str | None = None) -> Tensor:
        """Return the norm of each run's gradient, [N], or of a component's part of it."""
        segment = slice(None) if component is None else self.segments[component]
        return torch.linalg.vector_norm(self.gradients[:, segment], dim=1)

    def clip(self, norms: Tensor, largest: Tensor) -> None:
        """Shorten the gradients of norm [N] to `largest` [N], each run by its own norm."""
        shares = (largest / (norms + 1e-6)).clamp(max=1.0)
        if shares.device.type != "cpu":
            self.gradients.mul_(shares[:, None])
            return
        for row in (shares != 1).nonzero().flatten().tolist():  # NaN included
            self.gradients[row].mul_(shares[row])

    def step(self) -> None:
        """Take an optimiser step with every run's gradient, and set the gradients to zero."""
        self.optimizer.step()
        self.gradients.zero_()

    def release(self) -> None:
        """Give every run memory of its own, as before."""
        for row in range(len(self.bases)):
            self.release_run(row)

    def release_run(self, row: int) -> None:
        """Give a run memory of its own; what happens to its row no longer concerns it."""
        hook = self._hooks.pop(row, None)
        if hook is None:
            return
        optimizer = self.optimizers[row]
        optimizer.load_state_dict(optimizer.state_dict())
        hook.remove()
        for parameters in trainable_parameters(self.bases[row]).values():
            for parameter in parameters.values():
                parameter.data, parameter.grad = parameter.data.clone(), None

    @torch.no_grad()
    def _adopt(self) -> None:
        """Move what the runs have into the matrix, and let them have views of it."""
        for row, (base, optimizer) in enumerate(zip(self.bases, self.optimizers, strict=True)):
            for component, parameters in trainable_parameters(base).items():
                for name, parameter in parameters.items():
                    place, state = self.places[component][name], optimizer.state[parameter]
                    own = place.of(self.values)[row].copy_(parameter)
                    parameter.data = own
                    parameter.grad = place.of(self.gradients)[row]
                    for moment in _MOMENTS:
                        view = place.of(self.moments[moment])[row]
                        state[moment] = view.copy_(state[moment]) if moment in state else view
                    state.setdefault("step", torch.zeros((), device=_count_device(parameter)))

    def _optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW over the rows: one tensor of a run and component instead of many."""
        groups: dict[tuple, list[nn.Parameter]] = {}
        states = {}
        for row, optimizer in enumerate(self.optimizers):
            counts = []
            for group in optimizer.param_groups:
                segment = self.segments[group["name"]]
                whole = _leaf(self.values[row, segment], self.gradients[row, segment])
                settings = group["lr"], tuple(group["betas"]), group["weight_decay"], group["eps"]
                groups.setdefault(settings, []).append(whole)
                count = optimizer.state[group["params"][0]]["step"].clone()
                states[whole] = {"step": count}
                states[whole] |= {name: m[row, segment] for name, m in self.moments.items()}
                counts.append((group["params"], count))
            self._hooks[row] = _complete_when_saved(optimizer, counts)
        names = ("lr", "betas", "weight_decay", "eps")
        merged = make_optimizer(
            None,
            [dict(zip(names, key, strict=True)) | {"params": own} for key, own in groups.items()],
        )
        merged.state.update(states)
        return merged


def _leaf(values: Tensor, gradients: Tensor) -> nn.Parameter:
    """Return a parameter over this memory that autograd does not know to be a view."""
    leaf = nn.Parameter(values.data)
    leaf.grad = gradients.data
    return leaf


def _count_device(parameter: Tensor) -> torch.device:
    """Return where AdamW counts the steps of a parameter: its fused form does so on a GPU."""
    return parameter.device if parameter.is_cuda else torch.device("cpu")


def _complete_when_saved(
    optimizer: torch.optim.Optimizer, counts: Sequence[tuple[list[nn.Parameter], Tensor]]
) -> RemovableHandle:
    """Have a run's optimiser save what is its own, with the steps that the shared one has taken."""

    def complete(_: torch.optim.Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
        for group, (_, steps) in zip(saved["param_groups"], counts, strict=True):
            for number in group["params"]:
                state = saved["state"][number]
                moments = {name: state[name].clone() for name in _MOMENTS}
                saved["state"][number] = state | moments | {"step": steps.clone()}
        return saved

    return optimizer.register_state_dict_post_hook(complete)
