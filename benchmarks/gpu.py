"""What training and generation cost on a GPU, beside plain loops and the arithmetic alone.

`python benchmarks/gpu.py` makes bases with random weights in the shapes of Stable Diffusion 1.5 and
XL, trains adapters on them through the ordinary trainer, one photo and one class image a step, and
then with loops as example scripts have them: one that encodes photos and prompts at each step, one
that looks them up. Rows `together N` train N subjects side by side; their step is that of all N. It
prints a table, and with `--json` writes all numbers. No network is needed.

Steps are timed in windows, at whose ends alone the GPU is waited for: a row has the windows' median
and their range. The floor is what a step's matrix products and attention, counted, would take at
the rate of a large matrix product, measured here. Rows with compiled blocks take minutes where
Python is slow, and are measured only when `--rows` names them; of two in one call, the second finds
the first one's code in PyTorch's cache.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dreambooth_pl  # noqa: F401  isort: skip  (mends the import of torchvision first)
import torch
from gpu_bases import SD15, SDXL, TINY_SD15, TINY_SDXL, Shape, write_base, write_photos
from gpu_loops import TARGETS, Measured, Stopwatch, train_plainly
from gpu_together import train_together
from lightning.pytorch import Callback, Trainer
from timed_trainer import timed_trainer
from torch.utils.flop_counter import FlopCounterMode

from dreambooth_pl.adapters import AdapterSettings
from dreambooth_pl.bases.base import Base
from dreambooth_pl.commands.common import quiet_libraries
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.module import DreamBooth

RUN_STEPS = 1300
OURS: dict[str, dict[str, bool]] = {
    "ours": {},
    "ours, recorded": {"cuda_graph": True},
    "ours, compiled": {"compile": True},
    "ours, compiled and recorded": {"compile": True, "cuda_graph": True},
}
TOGETHER: dict[str, tuple[int, dict[str, bool]]] = {
    "together 8": (8, {}),
    "together 8, recorded": (8, {"cuda_graph": True}),
}
"""Rows of several subjects that train side by side: how many, and options."""
PLAIN, CACHED = "plain loop", "cached loop"
ROWS = (*OURS, *TOGETHER, PLAIN, CACHED)
DEFAULT_ROWS = ("ours", "ours, recorded", "together 8, recorded", PLAIN, CACHED)
PROFILED = 2  # steps


@dataclass(frozen=True)
class Plan:
    """How much is measured of a base.

    Attributes:
        shape: of the base.
        warm_up, size, count: see `Stopwatch`.
        images: generated at once.
        steps: denoising steps per image.
        class_images: pictures of the class.
    """

    shape: Shape
    warm_up: int
    size: int
    count: int
    images: int
    steps: int = 25
    class_images: int = 12


FULL = (Plan(SD15, 10, 20, 5, images=8), Plan(SDXL, 6, 6, 5, images=4, class_images=8))
QUICK = (Plan(SD15, 8, 10, 5, images=8), Plan(SDXL, 5, 4, 5, images=4, class_images=4))
TINY = tuple(
    Plan(shape, 2, 1, 2, images=2, steps=2, class_images=3) for shape in (TINY_SD15, TINY_SDXL)
)


@dataclass
class Row:
    """One line of the table."""

    base: str
    name: str
    measured: Measured
    images_per_s: float | None
    subjects: int = 1
    step_ms: float = field(init=False)
    """Of all subjects together."""

    def __post_init__(self) -> None:
        self.step_ms = statistics.median(self.measured.window_ms)

    @property
    def run_s(self) -> float:
        """Seconds of a whole run: beginning and all its steps."""
        return self.measured.begin_s + RUN_STEPS * self.step_ms / 1e3


class Clock(Callback):
    """Times a run of ours; afterwards profiles a few steps more if that is asked for."""

    def __init__(self, watch: Stopwatch, profile: Path | None) -> None:
        self.watch = watch
        self.profile = profile
        self.measured: Measured | None = None
        self._profiler: torch.profiler.profile | None = None

    def on_train_start(self, *_: Any) -> None:
        """Begin."""
        self.watch.begin()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Note the time, or profile."""
        step = trainer.global_step
        self.watch.after(step)
        if step == self.watch.steps:
            self.measured = self.watch.result()
            if self.profile is not None:
                self._profiler = torch.profiler.profile()
                self._profiler.start()
                self._began = time.perf_counter()
        if step == self.watch.steps + PROFILED and self._profiler is not None:
            _synchronize(self.watch.device)
            wall = time.perf_counter() - self._began
            self._profiler.stop()
            self.profile.write_text(_profile_text(self._profiler, wall), encoding="utf-8")


def _profile_text(profiler: torch.profiler.profile, wall: float) -> str:
    """Return where the time of the profiled steps went."""
    averages = profiler.key_averages()
    kernels = [
        entry
        for entry in averages
        if str(entry.device_type).endswith("CUDA")
        and not getattr(entry, "is_user_annotation", False)
    ]
    busy = sum(entry.self_device_time_total for entry in kernels) / 1e6
    launched = sum(entry.count for entry in kernels)
    waits = {e.key: e.count for e in averages if "Synchronize" in e.key or "MemcpyAsync" in e.key}
    lines = [
        f"{PROFILED} steps: wall {1e3 * wall:.1f} ms, GPU busy {1e3 * busy:.1f} ms, "
        f"{launched} kernels and copies; calls: {waits}",
        averages.table(sort_by="self_device_time_total", row_limit=30, max_name_column_width=90),
        averages.table(sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=60),
    ]
    return "\n".join(lines) + "\n"


def train_ours(
    base: Path,
    photos: list[Path],
    others: list[Path],
    plan: Plan,
    device: torch.device,
    options: dict[str, bool],
    profile: Path | None,
) -> tuple[Measured, DreamBooth]:
    """Train through the trainer with its loggers, batch 1 + 1, rank 8, in bfloat16."""
    watch = Stopwatch(device, plan.warm_up, plan.size, plan.count)
    lora = AdapterSettings(8, 8.0, target_modules=TARGETS)
    module = DreamBooth(base=str(base), lora=lora, frozen_dtype="bfloat16", **options)
    data = DreamBoothDataModule(
        instance_dir=str(photos[0].parent),
        num_class_images=len(others),
        resolution=plan.shape.resolution,
    )
    data.set_class_images(others)
    clock = Clock(watch, profile)
    with tempfile.TemporaryDirectory() as folder:
        trainer = timed_trainer(
            folder,
            clock,
            max_steps=watch.steps + (PROFILED if profile else 0),
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed",
        )
        trainer.fit(module, data)
    assert clock.measured is not None
    return clock.measured, module


def generate_ours(base: Base, plan: Plan) -> float:
    """Return images per second, generated together, adapters at their trained strength."""
    settings = SamplingSettings(
        num_inference_steps=plan.steps,
        lora_scale_unet=1.0,
        batch_size=plan.images,
        autocast="bfloat16",
    )
    requests = [ImageRequest("a sks dog on the beach", seed) for seed in range(plan.images)]

    def work(steps: int) -> None:
        few = SamplingSettings(**{**asdict(settings), "num_inference_steps": steps})
        assert len(list(generate(base, requests, few))) == plan.images

    work(2)
    return plan.images / _seconds(lambda: work(plan.steps), base.device)


def generate_plainly(base: Base, plan: Plan) -> float:
    """Return images per second, each by one call of the pipeline."""
    settings = SamplingSettings(num_inference_steps=plan.steps)
    pipeline = base.pipeline(base.objective.sampler(settings.scheduler))
    base.denoiser.eval()

    def work(steps: int) -> None:
        with torch.autocast(base.device.type, torch.bfloat16):
            pipeline(
                "a sks dog on the beach",
                num_inference_steps=steps,
                guidance_scale=settings.guidance_scale,
                generator=torch.Generator().manual_seed(0),
            )

    work(2)
    return 1 / _seconds(lambda: work(plan.steps), base.device)


def count_operations(module: DreamBooth, shape: Shape) -> int:
    """Return the floating-point operations of a step: the UNet's forward and backward pass."""
    base, device = module.base_model, module.base_model.device
    side = shape.resolution // base.vae_scale_factor
    noisy = torch.randn(2, 4, side, side, device=device)
    with torch.no_grad():
        prompts = base.encode_prompts(["a sks dog", "a dog"])
    if shape.is_xl:
        prompts = prompts.with_added({"time_ids": torch.zeros(2, 6, device=device)})
    stance = torch.compiler.set_stance("force_eager") if base.compiled else nullcontext()
    autocast = torch.autocast(device.type, torch.bfloat16)
    with stance, FlopCounterMode(display=False) as counter, autocast:
        timesteps, index = torch.tensor([10, 500]), torch.tensor([0])
        module.predict(noisy, timesteps, prompts, index).float().square().mean().backward()
    module.zero_grad()
    return counter.get_total_flops()


def matrix_rate(device: torch.device, side: int) -> float:
    """Return the operations per second of a bfloat16 product of two random square matrices."""
    a, b = torch.randn(2, side, side, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ b
    rates = []
    for _ in range(5):
        took = _seconds(lambda: [a @ b for _ in range(10)], device)
        rates.append(10 * 2 * side**3 / took)
    return statistics.median(rates)


def measure_base(
    plan: Plan, rows: list[str], device: torch.device, profiles: Path | None
) -> Iterator[tuple[Row, int]]:
    """Measure the named rows on a base; yield each with the operations of a step.

    A row that fails, for want of memory above all, is left out with a line that says so.
    """
    operations = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")
        base = write_base(plan.shape, folder / "base", device)
        side = plan.shape.resolution * 5 // 4
        pictures = (
            write_photos(folder / "photos", 4, side),
            write_photos(folder / "others", plan.class_images, side),
        )
        log.info("%s: made", plan.shape.name)
        for row in rows:
            _free()
            begun = time.perf_counter()
            try:
                if row in OURS:
                    profile = profiles / _file_name(plan.shape.name, row) if profiles else None
                    measured, rate, counted = _our_row(
                        row, base, pictures, plan, device, profile, not operations
                    )
                    operations = operations or counted
                elif row in TOGETHER:
                    count, options = TOGETHER[row]
                    watch = Stopwatch(device, plan.warm_up, plan.size, plan.count)
                    resolution = plan.shape.resolution
                    measured = train_together(base, *pictures, resolution, watch, count, **options)
                    rate = None
                else:
                    measured, rate = _their_row(row, base, pictures, plan, device)
            except Exception:
                log.exception("%s, %s: failed", plan.shape.name, row)
                continue
            seconds = time.perf_counter() - begun
            log.info("%s, %s: measured in %.0f s", plan.shape.name, row, seconds)
            subjects = TOGETHER[row][0] if row in TOGETHER else 1
            yield Row(plan.shape.name, row, measured, rate, subjects), operations


_Pictures = tuple[list[Path], list[Path]]


def _our_row(
    row: str,
    base: Path,
    pictures: _Pictures,
    plan: Plan,
    device: torch.device,
    profile: Path | None,
    count: bool,
) -> tuple[Measured, float | None, int]:
    """Return what a row took, images per second and operations; the last two where asked for."""
    measured, module = train_ours(base, *pictures, plan, device, OURS[row], profile)
    operations, rate = 0, None
    if count or row == "ours":
        module.to(device)  # the trainer has put it on the CPU
    if count:
        operations = count_operations(module, plan.shape)
    if row == "ours":
        rate = generate_ours(module.base_model, plan)
    return measured, rate, operations


def _their_row(
    row: str, base: Path, pictures: _Pictures, plan: Plan, device: torch.device
) -> tuple[Measured, float | None]:
    """Return what a row took and images per second where they are generated."""
    watch = Stopwatch(device, plan.warm_up, plan.size, plan.count)
    resolution = plan.shape.resolution
    measured, networks = train_plainly(base, *pictures, resolution, watch, row == CACHED)
    return measured, generate_plainly(networks, plan) if row == PLAIN else None


HEAD = (
    f"{'base':<20}{'row':<29}{'step ms':>8}{'range':>16}{'begin s':>9}{'1300 steps s':>14}"
    f"{'images/s':>10}{'peak GiB':>9}{'of rate':>9}{'floor ms':>10}"
)


def line(row: Row, operations: int, rate: float) -> str:
    """Return a row's line of the table."""
    windows = row.measured.window_ms
    spread = f"{min(windows):.1f} to {max(windows):.1f}"
    images = "" if row.images_per_s is None else f"{row.images_per_s:.2f}"
    floor = 1e3 * operations * row.subjects / rate
    return (
        f"{row.base:<20}{row.name:<29}{row.step_ms:>8.1f}{spread:>16}{row.measured.begin_s:>9.1f}"
        f"{row.run_s:>14.1f}{images:>10}{row.measured.peak_bytes / 2**30:>9.1f}"
        f"{floor / row.step_ms:>9.1%}{floor:>10.2f}"
    )


def machine(device: torch.device) -> dict[str, str]:
    """Return what the numbers were measured on."""
    facts = {"torch": torch.__version__}
    if device.type == "cuda":
        facts["card"] = torch.cuda.get_device_name()
        facts["cuda"] = str(torch.version.cuda)
        facts["cudnn"] = str(torch.backends.cudnn.version())
    return facts


def _file_name(*parts: str) -> str:
    return "_".join(parts).replace(",", "").replace(" ", "_") + ".txt"


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    _synchronize(device)
    start = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _free() -> None:
    """Let go of what the last row held, compiled code included."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


log = logging.getLogger("gpu")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument("--tiny", action="store_true", help="tiny bases, for a try on a CPU")
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="these rows only")
    parser.add_argument("--bases", nargs="+", choices=("sd15", "sdxl"), default=("sd15", "sdxl"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="also write all numbers into this file")
    parser.add_argument("--profile", type=Path, help="folder for profiles of a few steps of ours")
    args = parser.parse_args()
    quiet_libraries()
    warnings.filterwarnings("ignore")
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    device = torch.device(args.device)
    plans = TINY if args.tiny else QUICK if args.quick else FULL
    plans = [plan for key, plan in zip(("sd15", "sdxl"), plans, strict=True) if key in args.bases]
    # On a CPU there is nothing to record.
    on_cpu = ("ours", "together 8", PLAIN, CACHED)
    rows = args.rows or (DEFAULT_ROWS if device.type == "cuda" else on_cpu)
    if args.profile:
        args.profile.mkdir(parents=True, exist_ok=True)

    rate = matrix_rate(device, 256 if args.tiny else 8192)
    facts = machine(device)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(f"bfloat16 matrix product: {rate / 1e12:.4g} TFLOP/s\n{HEAD}", flush=True)
    results: list[dict[str, Any]] = []
    for plan in plans:
        for row, operations in measure_base(plan, list(rows), device, args.profile):
            print(line(row, operations, rate), flush=True)
            results.append({**asdict(row), "run_s": row.run_s, "operations": operations})
            if args.json:
                found = {"machine": facts, "matrix_rate": rate, "rows": results}
                args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
