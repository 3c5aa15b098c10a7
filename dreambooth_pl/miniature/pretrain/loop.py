"""The training loop of all stages: resumable, with a time limit and an average of the weights."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dreambooth_pl.files.atomic import atomic_path
from dreambooth_pl.files.torch_file import save_torch_file
from dreambooth_pl.miniature.pretrain.muon import ConvolutionMuon, hidden

SAVE_EVERY_SECONDS = 120.0


@dataclass(frozen=True)
class TrainingSchedule:
    """Length and learning rates of a stage's training."""

    steps: int
    learning_rate: float
    """Peak learning rate of AdamW."""
    muon_learning_rate: float | None = None
    """Peak learning rate of Muon. It trains the hidden layers' matrices instead of AdamW."""
    warmup: int = 200
    """Steps of linear warm-up."""
    weight_decay: float = 0.01
    ema_decay: float | None = None
    """Decay of the average of the weights. By default it looks back over 3 % of the steps: a window
    much longer than the last, slow part of the learning rate's curve averages untrained weights."""
    share: Callable[[nn.Parameter], float] = lambda _: 1.0
    """Returns the factor of the learning rate for a parameter."""
    log_every: int = 100
    """Steps between two reports."""

    @property
    def decay(self) -> float:
        """Decay of the average of the weights per step."""
        if self.ema_decay is not None:
            return self.ema_decay
        return max(0.0, 1 - 1 / (0.03 * self.steps)) if self.steps else 0.0


@dataclass(frozen=True)
class Limits:
    """State folder, device, time limit and pace of a stage."""

    folder: Path
    """Folder of the stage's state."""
    device: torch.device
    """Device to train on."""
    minutes: float = math.inf
    """Minutes after which the stage pauses. The next call resumes it."""
    compile: bool = False
    """Whether to compile the UNet, and on a GPU, where it is faster, the autoencoder."""
    pace: float = 1.0
    """Factor of all learning rates."""

    def batch(self, cpu: int, gpu: int) -> int:
        """Return the batch size for the device. A GPU needs large batches to be busy."""
        return cpu if self.device.type == "cpu" else gpu

    def near(self, array: np.ndarray) -> Tensor:
        """Copy an array to the device if it takes less than half of the device's free memory.

        Gathering batches in the host's memory takes several times as long as a GPU's step.
        """
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if array.nbytes > free // 2:
                return tensor
        return tensor.to(self.device)


@functools.cache
def fast_dtype(device_type: str) -> torch.dtype:
    """Return bfloat16, or float32 if a measurement finds the processor slower in bfloat16.

    Processors without bfloat16 instructions emulate it, hundreds of times slower.
    """
    if device_type != "cpu":
        return torch.bfloat16
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(256, 256, dtype=dtype)
        a @ a  # the first product prepares kernels
        began = time.perf_counter()
        a @ a
        seconds[dtype] = time.perf_counter() - began
    return min(seconds, key=seconds.__getitem__)


def autocast(device: torch.device) -> torch.autocast:
    """Return a context for mixed precision in bfloat16, disabled if float32 is faster."""
    dtype = fast_dtype(device.type)
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def learning_rate_factor(plan: TrainingSchedule, step: int) -> float:
    """Return a step's factor of the peak learning rate: linear warm-up, then a cosine to 2 %."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    share = (step - plan.warmup) / max(plan.steps - plan.warmup, 1)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def _optimizers(model: nn.Module, plan: TrainingSchedule) -> list[torch.optim.Optimizer]:
    """Build AdamW and, if planned, Muon. Their groups store their learning rate as `peak`."""
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    matrices = [p for n, p in trained if plan.muon_learning_rate is not None and hidden(n, p)]
    taken = {id(p) for p in matrices}
    by_peak: dict[float, list[nn.Parameter]] = {}
    for _, parameter in trained:
        if id(parameter) not in taken:
            peak = plan.share(parameter) * plan.learning_rate
            by_peak.setdefault(peak, []).append(parameter)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [{"params": group, "peak": peak} for peak, group in by_peak.items()],
            lr=plan.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=plan.weight_decay,
            fused=True,
        )
    ]
    if matrices:
        optimizers.append(ConvolutionMuon(matrices, lr=plan.muon_learning_rate))
        optimizers[-1].param_groups[0]["peak"] = plan.muon_learning_rate
    return optimizers


def train(
    name: str,
    model: nn.Module,
    loss: Callable[[int], tuple[Tensor, dict[str, Tensor]]],
    plan: TrainingSchedule,
    limits: Limits,
    report: Callable[[str], None],
) -> nn.Module | None:
    """Minimise a loss over the model's trainable parameters, resuming from a saved state.

    Args:
        name: name of the stage. Its state is `<name>.pt` in the folder of `limits`.
        model: the model to train.
        loss: returns the loss of a step and figures to report. Its randomness must depend only on
            the step.
        plan: length and learning rates.
        limits: device, state folder and time limit.
        report: called with each line of progress.

    Returns:
        The averaged model; `None` if the time was up before the last step.

    Raises:
        SystemExit: a weight is no longer finite. The last saved state stays.
    """
    device = limits.device
    model.to(device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizers = _optimizers(model, plan)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(plan.decay), use_buffers=False)
    path = limits.folder / f"{name}.pt"
    start = 0
    if path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimizer, saved_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved_state)
        start = state["step"]
        report(f"{name}: resumes at step {start}")
    began = saved = time.monotonic()
    for step in range(start, plan.steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = limits.pace * group["peak"] * learning_rate_factor(plan, step)
        value, figures = loss(step)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        if step >= plan.warmup:
            average.update_parameters(model)
        done, now = step + 1, time.monotonic()
        if done % plan.log_every == 0 or done == plan.steps:
            pace = (now - began) / (done - start)
            shown = "  ".join(f"{k} {float(v):.4f}" for k, v in figures.items())
            report(
                f"{name}: {done}/{plan.steps}  loss {value.item():.4f}  {shown}  "
                f"{pace:.3f} s/step  {(plan.steps - done) * pace / 60:.0f} min left"
            )
        timed_out = (now - began) / 60 > limits.minutes
        if now - saved > SAVE_EVERY_SECONDS or timed_out or done == plan.steps:
            _refuse_diverged(name, parameters, done, path)
            _save(path, model, average, optimizers, done)
            saved = now
        if timed_out and done < plan.steps:
            report(f"{name}: paused at step {done}")
            return None
    return average.module


def _refuse_diverged(name: str, parameters: Sequence[nn.Parameter], done: int, path: Path) -> None:
    if all(bool(p.isfinite().all()) for p in parameters):
        return
    start = f", which resumes from the last good state, {path}" if path.exists() else ""
    raise SystemExit(
        f"{name}: by step {done} a weight was no longer a finite number. Lower learning rates may "
        f"get through: the same command with --pace 0.5{start}"
    )


def _save(
    path: Path,
    model: nn.Module,
    average: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    step: int,
) -> None:
    state = {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "step": step,
    }
    with atomic_path(path) as temporary:
        save_torch_file(state, temporary)
