"""Kills tiny runs at many points, resumes each, and compares its end with an uninterrupted run's.

A script, so that the imports are paid once: `kill_points.py BASE PHOTOS FOLDER [COUNT]`. Each run
is a forked child. An uninterrupted one first counts the events at which a process can be killed:
files that appear, images that are generated, steps that are taken. Without COUNT one point of each
phase in `PHASES` is tried; with it that many, spread evenly over all events. One line of JSON tells
about each point.
"""

from __future__ import annotations

import csv
import functools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreambooth_pl.commands import train
from dreambooth_pl.files import atomic
from dreambooth_pl.runs import folder as run_folder
from dreambooth_pl.runs import logs as run_logs
from dreambooth_pl.runs.folder import newest_run_folder
from dreambooth_pl.sampling import generation
from dreambooth_pl.training.callbacks.checkpoints import Checkpoints
from dreambooth_pl.training.callbacks.class_images import ClassImages
from dreambooth_pl.training.callbacks.export_lora import ExportLora
from dreambooth_pl.training.callbacks.probes import Probes
from dreambooth_pl.training.callbacks.validation import Validation
from dreambooth_pl.training.module import DreamBooth

CONTEXTS: list[tuple[Any, str, str]] = [
    (ClassImages, "on_fit_start", "class images"),
    (Checkpoints, "_save", "checkpoint"),
    (Probes, "round", "probes"),
    (Validation, "round", "validation"),
    (ExportLora, "on_train_end", "export"),
]
EVENTS: list[tuple[Any, str]] = [
    (run_folder, "make_run_folder"),
    (generation, "_generate_batch"),
    (atomic, "_create"),
    (atomic, "_settle"),
    (atomic, "_sync_folder"),
    (os, "replace"),
    (run_logs.RunCSVLogger, "save"),
    (DreamBooth, "training_step"),
    (DreamBooth, "on_before_optimizer_step"),
    (Checkpoints, "on_train_batch_end"),
]
PHASES = (
    "class images: _settle",
    "training: training_step",
    "training: on_train_batch_end",
    "checkpoint: replace",
    "probes: _settle",
    "export: _create",
)
MIDDLE = {"training: on_train_batch_end", "checkpoint: replace"}
"""Phases of which not the first event is taken but the one in the middle."""


class Events:
    """Counts events, and kills the process at one of them."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.labels: list[str] = []
        self.kill_at = kill_at
        self._context = ["training"]

    def watch(self) -> None:
        """Wrap what makes events. For the life of the process, which is a fork."""
        for owner, name, context in CONTEXTS:
            setattr(owner, name, self._within(getattr(owner, name), context))
        for owner, name in EVENTS:
            setattr(owner, name, self._counted(getattr(owner, name), name))

    def _within(self, function: Callable, context: str) -> Callable:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._context.append(context)
            try:
                return function(*args, **kwargs)
            finally:
                self._context.pop()

        return wrapped

    def _counted(self, function: Callable, name: str) -> Callable:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if len(self.labels) == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.labels.append(f"{self._context[-1]}: {name}")
            return function(*args, **kwargs)

        return wrapped


def forked(work: Callable[[], int], cwd: Path, log: Path) -> int:
    """Run `work` in a child of this process; return its exit status, negative if killed."""
    cwd.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            with log.open("ab") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            os.chdir(cwd)
            sys.argv = ["train.py"]
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def arguments(base: Path, photos: Path) -> list[str]:
    """Return the command line of a run that takes a few seconds."""
    settings = {
        "model.base": base,
        "data.instance_dir": photos,
        "data.resolution": 32,
        "data.num_class_images": 2,
        "sampling.num_inference_steps": 1,
        "probe.every_n_steps": 2,
        "checkpoint.every_n_steps": 1,
        "fidelity.clip": f"local-dir:{base / 'clip'}",
        "fidelity.dino": f"local-dir:{base / 'dino'}",
        "trainer.max_steps": 4,
        "trainer.log_every_n_steps": 1,
        "trainer.accelerator": "cpu",
    }
    return ["fit", *(f"--{key}={value}" for key, value in settings.items())]


def outcome(cwd: Path) -> dict[str, Any]:
    """Return all that a finished run has come to, in values that compare."""
    (run,) = (cwd / "lightning_logs/default").iterdir()
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    with (run / "metrics.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    export = load_file(run / "lora/pytorch_lora_weights.safetensors")
    return {
        "folder": run.name,
        "step": checkpoint["global_step"],
        "adapters": [tensor.tolist() for tensor in checkpoint["state_dict"].values()],
        "moments": [
            {name: value.tolist() for name, value in state.items()}
            for state in checkpoint["optimizer_states"][0]["state"].values()
        ],
        "best": torch.load(run / "checkpoints/best.ckpt", weights_only=True)["global_step"],
        "export": {name: tensor.tolist() for name, tensor in export.items()},
        "metrics": sorted(json.dumps(row, sort_keys=True) for row in rows),
        "scalars": {t: [(e.step, e.value) for e in events.Scalars(t)] for t in tags["scalars"]},
        "images": {t: [e.step for e in events.Images(t)] for t in tags["images"]},
        "pictures": {str(p.relative_to(run)): p.stat().st_size for p in run.rglob("*.png")},
        "leftovers": [path.name for path in run.rglob(".dreambooth_pl-*")],
    }


def chosen(labels: list[str], count: int | None) -> list[int]:
    """Return the events to kill at."""
    if count is not None:
        return sorted({round(i * (len(labels) - 1) / max(count - 1, 1)) for i in range(count)})
    points = []
    for phase in PHASES:
        found = [index for index, label in enumerate(labels) if label == phase]
        points.append(found[len(found) // 2 if phase in MIDDLE else 0])
    return points


def resume(command: list[str]) -> int:
    """Go on with the newest run; one that had not begun begins."""
    if newest_run_folder(Path()) is None:
        return train.main(command)
    return train.main(["fit", "--resume", "last"])


def main(base: Path, photos: Path, folder: Path, count: int | None) -> int:
    """Try the points; return how many ended differently."""
    command, log = arguments(base, photos), folder / "log.txt"
    folder.mkdir(parents=True, exist_ok=True)
    listing = folder / "events.json"

    def whole() -> int:
        events = Events()
        events.watch()
        status = train.main(command)
        listing.write_text(json.dumps(events.labels))
        return status

    assert forked(whole, folder / "whole", log) == 0, log.read_text()
    labels = json.loads(listing.read_text())
    expected, different = outcome(folder / "whole"), 0

    for point in chosen(labels, count):

        def killed(point: int = point) -> int:
            Events(kill_at=point).watch()
            return train.main(command)

        cwd = folder / f"point_{point}"
        status = forked(killed, cwd, log)
        resumed = forked(lambda: resume(command), cwd, log)
        found = {}
        if resumed == 0:
            with suppress(OSError):  # a file is missing
                found = outcome(cwd)
        unlike = [key for key, value in expected.items() if found.get(key) != value]
        different += bool(unlike)
        line = {"at": labels[point], "status": status, "resumed": resumed, "unlike": unlike}
        print(json.dumps(line | {"point": point, "of": len(labels)}), flush=True)
    return different


if __name__ == "__main__":
    paths = [Path(word).resolve() for word in sys.argv[1:4]]
    sys.exit(main(*paths, int(sys.argv[4]) if len(sys.argv) > 4 else None))
