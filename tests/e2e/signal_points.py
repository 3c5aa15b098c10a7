"""Sends signals to commands at work, from outside, and looks at what they say and leave.

A script, so that the imports are paid once: `signal_points.py BASE PHOTOS FOLDER`. Each command is
a forked child, which gets its signal when it writes a certain line. One line of JSON tells about
each.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dreambooth_pl import progress
from dreambooth_pl.commands import benchmark, evaluate, export, generate, identifiers, train
from dreambooth_pl.export import write as export_write
from dreambooth_pl.sampling import batch_size
from dreambooth_pl.training.callbacks import export_lora
from dreambooth_pl.training.module import DreamBooth

RUN = "lightning_logs/default/version_0"
HELD = "held here"
SECONDS = 30.0
INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@dataclass(frozen=True)
class Case:
    """A command, and the signal that it gets."""

    name: str
    main: Callable[[list[str]], int]
    words: list[str]
    at: str
    """Pattern of the line that the signal follows."""
    signum: int
    says: str
    """Pattern of what the command says in the end."""
    hold: tuple[Any, str] | None = None
    """A function, by owner and name, that says `HELD` and takes long, for the line `at`."""
    twice: bool = False
    """Whether a second signal follows."""
    kept: Callable[[Path], bool] = lambda cwd: True
    """Tells whether the working directory is as it should be afterwards."""
    again: int | None = None
    """The exit status of the same command, started again; None to leave it."""


def hold(owner: Any, name: str) -> None:
    """Have a function say that it is reached, and take long. For the life of the fork."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def held(*args: Any, **kwargs: Any) -> Any:
        os.write(2, f"{HELD}\n".encode())
        time.sleep(SECONDS)
        return function(*args, **kwargs)

    setattr(owner, name, held)


def start(case: Case, cwd: Path, held: bool) -> tuple[int, int]:
    """Fork a child that runs the command; return its process id and where it writes."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    status = 70
    try:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.chdir(cwd)
        signal.alarm(round(2 * SECONDS))
        sys.argv = ["train.py"]
        if case.hold and held:
            hold(*case.hold)
        status = case.main(case.words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def run(case: Case, cwd: Path, signals: bool = True) -> tuple[int, str, float]:
    """Run a case; return its exit status, what it has written, and its seconds after the signal."""
    pid, reading = start(case, cwd, held=signals)
    said, sent = "", 0.0
    waiting = [case.at, *(["after this step"] if case.twice else [])] if signals else []
    with os.fdopen(reading, errors="replace") as output:
        for line in output:
            said += line
            if waiting and re.search(waiting[0], line):
                waiting.pop(0)
                os.kill(pid, case.signum)
                sent = time.monotonic()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, said, time.monotonic() - sent


def problems(case: Case, cwd: Path) -> list[str]:
    """Run a case; return what is not as it should be."""
    status, said, seconds = run(case, cwd)
    stopped = [line for line in said.splitlines() if line.startswith("Stopped by")]
    wrong = {
        f"exit status {status}": status != 128 + case.signum,
        f"{seconds:.0f} s": seconds > SECONDS / 2,
        "a traceback": "Traceback" in said,
        "no one line": len(stopped) != (0 if case.twice else 1),
        "another line": not re.search(case.says, said),
        "not kept": not case.kept(cwd),
        "leftovers": any(cwd.rglob(".dreambooth_pl-*")),
    }
    found = [problem for problem, is_so in wrong.items() if is_so]
    if case.again is not None:
        status, again, _ = run(case, cwd, signals=False)
        said += again
        found += ["not again"] if status != case.again or "Traceback" in again else []
    return [*found, said] if found else []


def cases(base: Path, photos: Path) -> list[Case]:
    """Return all cases."""
    keys = {
        "model.base": base,
        "data.instance_dir": photos,
        "data.resolution": 32,
        "data.num_class_images": 2,
        "sampling.num_inference_steps": 1,
        "sampling.batch_size": 1,
        "probe.every_n_steps": 100,
        "validation.prompts": "null",
        "fidelity.clip": f"local-dir:{base / 'clip'}",
        "fidelity.dino": f"local-dir:{base / 'dino'}",
        "trainer.max_steps": 2,
        "trainer.accelerator": "cpu",
    }
    fit = ["fit", *(f"--{key}={value}" for key, value in keys.items())]
    many = [*fit, "--data.num_class_images=500"]
    long = [*fit, "--trainer.max_steps=5000"]
    draw = [
        RUN,
        "--prompt",
        "a {identifier} {class}",
        "--num-images=500",
        "--batch-size=1",
        "--out=here",
    ]
    begun, not_begun = r"at step \d+\. To go on: python train.py fit --resume", "had not begun"
    made, nothing = r"[1-9]\d* of 500 images are kept in here\.$", r"Nothing was changed\.$"
    goes_on = r"Images made so far are kept; the same command goes on from there\.$"
    score = [RUN, "--protocol=many.yaml"]
    words = ["--class=dog", f"--base={base}", "--draw=words", "--images=500", "--batch-size=1"]
    merged = [RUN, "--format=merged", "--out=out"]
    bench = ["--config=bench.yaml"]

    def no_folder(name: str) -> Callable[[Path], bool]:
        return lambda cwd: not (cwd / name).exists()

    return [
        *(
            Case(f"generate {s.name}", generate.main, draw, r"^images [2-9]", s, made)
            for s in (INT, TERM, HUP)
        ),
        Case("evaluate", evaluate.main, score, r"^many of .* [2-9]\d*/", TERM, goes_on),
        Case(
            "evaluate, scoring",
            evaluate.main,
            [RUN],
            HELD,
            HUP,
            goes_on,
            (evaluate, "render"),
            again=0,
        ),
        Case(
            "test",
            train.main,
            ["test", "--config", f"{RUN}/config.yaml", "--test.protocol=many.yaml"],
            r"^many of .* [2-9]\d*/",
            TERM,
            goes_on,
        ),
        Case(
            "identifiers",
            identifiers.main,
            words,
            "^images [2-9]",
            HUP,
            nothing,
            kept=no_folder("words"),
        ),
        *(
            Case(
                f"export {s.name}",
                export.main,
                merged,
                HELD,
                s,
                r"Nothing was exported\.$",
                (export_write, "write_card"),
                kept=no_folder("out"),
            )
            for s in (INT, TERM)
        ),
        Case(
            "benchmark",
            benchmark.main,
            bench,
            "job 1 of 1.* starts",
            TERM,
            r"Runs and images so far are kept; the same command",
        ),
        Case(
            "fit, loading",
            train.main,
            fit,
            HELD,
            HUP,
            not_begun,
            (train, "check_with_base"),
            kept=no_folder("lightning_logs/default/version_1"),
        ),
        Case("fit, class images", train.main, many, r"class images .* [2-9]\d*/", INT, begun),
        Case("fit, training", train.main, long, r"^training \d", TERM, begun),
        Case("fit, probes", train.main, fit, r"(?i)probe.* \d+/", HUP, begun),
        Case("fit, export", train.main, fit, HELD, TERM, begun, (export_lora, "save_adapters")),
        Case(
            "fit, twice",
            train.main,
            fit,
            HELD,
            INT,
            "Stopping after this step",
            (DreamBooth, "training_step"),
            twice=True,
        ),
    ]


def prepare(base: Path, photos: Path, cwd: Path, fit: Sequence[str]) -> None:
    """Make a finished run, and the files that cases name."""
    cwd.mkdir(parents=True)
    (cwd / "many.yaml").write_text(
        yaml.safe_dump(
            {"name": "many", "images_per_prompt": 500, "prompts": {"a": ["a {identifier} {class}"]}}
        )
    )
    settings = dict(word.removeprefix("--").split("=", 1) for word in fit[1:])
    photos_key = settings.pop("data.instance_dir")
    (cwd / "empty.yaml").write_text("seed_everything: 1\n")
    (cwd / "bench.yaml").write_text(
        yaml.safe_dump(
            {
                "configs": ["empty.yaml"],
                "set": {k: yaml.safe_load(v) for k, v in settings.items()}
                | {"data.identifier": "sks"},
                "subjects": [{"name": "rex", "photos": photos_key, "class_noun": "dog"}],
                "variants": [{"name": "plain"}],
            }
        )
    )
    whole = Case("whole", train.main, list(fit), "never", TERM, "")
    status, said, _ = run(whole, cwd, signals=False)
    assert status == 0, said


def main(base: Path, photos: Path, folder: Path) -> None:
    """Try all cases."""
    progress.LINE_SECONDS = 0.0
    batch_size.measure_rates = lambda *_: {1: 1.0}
    tried = cases(base, photos)
    cwd = folder / "work"
    prepare(base, photos, cwd, next(case.words for case in tried if case.name == "fit, probes"))
    for case in tried:
        began = time.monotonic()
        line = {"case": case.name, "problems": problems(case, cwd)}
        print(json.dumps(line | {"seconds": round(time.monotonic() - began, 1)}), flush=True)


if __name__ == "__main__":
    main(*(Path(word).resolve() for word in sys.argv[1:4]))
