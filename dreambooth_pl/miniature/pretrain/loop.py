"""The training loop that all stages share: resumable, timed, with an average of the weights."""

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
    """How long and how fast a stage trains."""

    steps: int
    learning_rate: float
    """Of AdamW."""
    muon_learning_rate: float | None = None
    """Of Muon, which then trains the matrices of the hidden layers in place of AdamW."""
    warmup: int = 200
    weight_decay: float = 0.01
    ema_decay: float | None = None
    """Of the average of the weights; by default it looks back over 3 % of the steps: what is much
    longer than the last, slow part of the learning rate's curve averages over unlearned weights."""
    share: Callable[[nn.Parameter], float] = lambda _: 1.0
    """What part of the learning rate a parameter trains with."""
    log_every: int = 100

    @property
    def decay(self) -> float:
        """Decay of the average per step."""
        if self.ema_decay is not None:
            return self.ema_decay
        return max(0.0, 1 - 1 / (0.03 * self.steps)) if self.steps else 0.0


@dataclass(frozen=True)
class Limits:
    """Where a stage keeps its state, how fast it learns and when it pauses."""

    folder: Path
    device: torch.device
    minutes: float = math.inf
    """Pause after so long; the next call goes on."""
    compile: bool = False
    """Compile the UNet, and on a GPU, where it pays, the autoencoder too."""
    pace: float = 1.0
    """Part of the stages' learning rates to train with."""

    def batch(self, cpu: int, gpu: int) -> int:
        """How many pictures a step sees: a GPU is busy only with many at once."""
        return cpu if self.device.type == "cpu" else gpu

    def near(self, array: np.ndarray) -> Tensor:
        """The array in the device's memory, where it takes less than half of what is free there.

        Gathering batches in the host's memory instead takes several times a GPU's step.
        """
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if array.nbytes > free // 2:
                return tensor
        return tensor.to(self.device)


@functools.cache
def fast_dtype(device_type: str) -> torch.dtype:
    """bfloat16, or float32 where the processor is slower in bfloat16: measured, not asked for.

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
    """Mixed precision in the fastest type of the device; none where that is float32."""
    dtype = fast_dtype(device.type)
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def course(plan: TrainingSchedule, step: int) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine down to 2 %."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    share = (step - plan.warmup) / max(plan.steps - plan.warmup, 1)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def _optimizers(model: nn.Module, plan: TrainingSchedule) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon where the plan has it; their groups keep their `peak` learning rate."""
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
    """Minimise `loss(step)` over the model's trainable parameters; resumes where it was left.

    Args:
        name: of the stage; its state is `folder/<name>.pt`.
        loss: the step's loss and figures to report; it must draw all randomness from `step`.

    Returns:
        The averaged model when the plan is fulfilled, None when the time was up before.

    Raises:
        SystemExit: a weight is no longer a finite number; the state saved last stays.
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
        report(f"{name}: goes on at step {start}")
    began = saved = time.monotonic()
    for step in range(start, plan.steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = limits.pace * group["peak"] * course(plan, step)
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
    start = f", which goes on from the last good state, {path}" if path.exists() else ""
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
