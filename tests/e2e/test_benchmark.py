"""A small benchmark from its file to its table: whole, with a failure, killed and started again."""

from __future__ import annotations

import contextlib
import html
import json
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from interruption import PowerCut
from PIL import Image

from dreambooth_pl.benchmark.executors.call import ScriptCall, Watch
from dreambooth_pl.benchmark.sheet import final_probes
from dreambooth_pl.commands import evaluate as cli_evaluate
from dreambooth_pl.commands import train as cli
from dreambooth_pl.commands.benchmark import main
from dreambooth_pl.runs.finished import read_run

FILE = Path("small.yaml")
CUT = "--trainer.callbacks={class_path: interruption.CutPowerAt, init_args: {step: 3}}"
WHOLE = "--trainer.callbacks=null"


class InProcess:
    """Runs trainings in this process, for a new one takes long to start; can lose power."""

    def __init__(self, cut: str = "", slots: int = 1) -> None:
        self.cut = cut  # name of the job that loses power at step 3
        self.slots = slots
        self.ended = 0  # when the last task had ended, in nanoseconds
        self.ran: list[ScriptCall] = []
        self.words: list[list[str]] = []

    def __call__(
        self, tasks: Sequence[ScriptCall], watch: Watch
    ) -> Iterator[tuple[ScriptCall, int]]:
        for task in tasks:
            watch.started(task)
            self.ran.append(task)
            self.words.append(task.words())
            with (
                task.log.open("a") as log,
                contextlib.redirect_stdout(log),
                contextlib.redirect_stderr(log),
            ):
                if task.script == "evaluate.py":
                    status = cli_evaluate.main(task.arguments)
                else:
                    status = cli.main([*self.words[-1], CUT if task.name == self.cut else WHOLE])
            self.ended = time.time_ns()
            yield task, status

    @property
    def names(self) -> list[str]:
        return [task.name for task in self.ran]


@pytest.fixture()
def small(fit) -> None:
    """A benchmark file: two variants that work, and one that fails when it starts to train."""
    arguments = fit.arguments(trainer__max_steps=3, probe__every_n_steps=2)[1:]
    words = [argument.removeprefix("--").split("=", maxsplit=1) for argument in arguments]
    own = {key: yaml.safe_load(value) for key, value in words}
    photos = own.pop("data.instance_dir")
    own |= {"data.identifier": "sks", "validation.prompts": None, "sampling.lora_scale_unet": 1.0}
    own |= {"model.learning_rate": 0.05, "model.text_encoder_learning_rate": 0.05}
    own["data.num_class_images"] = own["sampling.num_inference_steps"] = 1
    Path("empty.yaml").write_text("seed_everything: 1\n")
    content = {
        "configs": ["empty.yaml"],
        "set": own,
        "seeds": [7],
        "subjects": [{"name": "rex", "photos": photos, "class_noun": "dog"}],
        "variants": [
            {"name": "plain"},
            {"name": "broken", "set": {"model.lora.target_modules": ["to_z"]}},
            {"name": "text", "set": {"model.train_text_encoder": True}},
        ],
    }
    FILE.write_text(yaml.safe_dump(content))


def benchmark(executor: InProcess, *more: str) -> int:
    return main(["--config", str(FILE), *more], executor)


def test_whole_failed_killed_and_resumed(small, capfd) -> None:
    whole = InProcess()
    assert benchmark(whole) == 1
    assert whole.names == ["rex-plain-seed7", "rex-broken-seed7", "rex-text-seed7"]
    captured = capfd.readouterr()
    assert "job 2 of 3: rex-broken-seed7 starts" in captured.err
    assert re.search(r"rex-broken-seed7 failed \(exit status 1\)", captured.err)
    assert re.search(r"\| error: .*to_z", captured.err)
    assert "1 of 3 jobs failed: rex-broken-seed7" in captured.err
    assert "plain" in captured.out and "real photos" in captured.out

    out = Path("benchmark_runs/small")
    table = json.loads((out / "table.json").read_text())
    names = ["real photos", "base", "plain", "text", "text - plain"]
    assert [row["run"] for row in table] == names
    assert [row["n_images"] for row in table] == [5, 8, 8, 8, 8]
    ceiling, floor, plain, text, difference = (row["dino"]["mean"] for row in table)
    assert len({ceiling, floor, plain, text}) == 4  # training shows, and the variant does
    assert difference == pytest.approx(text - plain, abs=1e-6)
    assert all(name in (out / "table.md").read_text() for name in names)
    # one run per variant: its row is what evaluate.py says of the run
    scores = json.loads(
        (out / "runs/rex-plain-seed7/lightning_logs/empty/version_0/evaluation/probes/scores.json")
        .read_text()
    )["images"]["tuned"]  # fmt: skip
    dino = [image["dino"] for image in scores]
    assert table[2]["dino"]["mean"] == pytest.approx(sum(dino) / len(dino))
    page = (out / "report.html").read_text()
    verdict = captured.out.splitlines()[-1]
    assert verdict.startswith("Best of 2: ") and html.escape(verdict, quote=False) in page
    images = {out / url for url in re.findall(r'<a href="([^#"]+)"', page)}
    assert len(images) == 2 * 8 * 2 and all(image.is_file() for image in images)
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 8 * 128 and sheet.height > 2 * 128
    last_round = final_probes(read_run(out / "runs/rex-text-seed7/lightning_logs/empty/version_0"))
    assert {path.parent.name for path in last_round} == {"step_000003"} and len(last_round) == 8
    # class images are drawn once for runs with the same noun, prompt and seed
    assert len(list(Path("data/class_images").iterdir())) == 1

    content = yaml.safe_load(FILE.read_text())
    content["variants"].pop(1)
    FILE.write_text(yaml.safe_dump(content))
    cut = InProcess(cut="rex-text-seed7")
    with pytest.raises(PowerCut):
        benchmark(cut, "--out", "other")
    assert not Path("other/table.json").exists()

    resumed = InProcess()
    assert benchmark(resumed, "--out", "other") == 0
    assert resumed.names == ["rex-text-seed7"]
    run = Path("other/runs/rex-text-seed7/lightning_logs/empty/version_0")
    assert resumed.words == [["fit", "--resume", str(run)]]
    assert (run / "lora").is_dir() and list(run.parent.iterdir()) == [run]
    for name in ("table.md", "table.json", "runs.json", "contact_sheet.png"):
        assert Path("other", name).read_bytes() == (out / name).read_bytes(), name


def test_subjects_are_drawn_beside_each_other_and_then_scored_together(small) -> None:
    content = yaml.safe_load(FILE.read_text())
    photos = Path(content["subjects"][0]["photos"])
    content["subjects"] += [{"name": "tom", "photos": "tom", "class_noun": "dog"}]
    content["variants"] = content["variants"][::2]
    content["set"] |= {"trainer.max_steps": 1, "probe.every_n_steps": 0}
    FILE.write_text(yaml.safe_dump(content))
    shutil.copytree(photos, "tom")

    executor = InProcess(slots=2)
    assert benchmark(executor) == 0
    jobs = [f"{s}-{v}-seed7" for v in ("plain", "text") for s in ("rex", "tom")]
    assert executor.names == [*jobs, str(photos), "tom"]
    out = Path("benchmark_runs/small")
    # the untuned base's of each subject's first run, which are copied to the other; all others
    own = [*out.glob("runs/*-plain-*/**/probes/*/*.png"), *out.glob("runs/**/probes/*tuned/*.png")]
    drawn = max(path.stat().st_mtime_ns for path in own if "evaluation" in path.parts)
    assert drawn < executor.ended, "drawn again to be scored"
    assert "probes of base 8/8" in (out / "drawing/00_photos.txt").read_text()
    rows = {row["run"]: row for row in json.loads((out / "table.json").read_text())}
    assert rows["plain"]["n_images"] == rows["base"]["n_images"] == 16

    again = InProcess(slots=2)
    assert benchmark(again) == 0
    assert again.names == []  # nothing is left to train or to draw


def test_mistakes_are_told_before_anything_runs(small, capsys) -> None:
    good = yaml.safe_load(FILE.read_text())
    cases = {
        "Unknown key model.lora.rnk": {"variants": [{"name": "a", "set": {"model.lora.rnk": 1}}]},
        "subject rex: photos": {
            "subjects": [{"name": "rex", "photos": "nowhere", "class_noun": "dog"}]
        },
    }
    for message, change in cases.items():
        FILE.write_text(yaml.safe_dump(good | change))
        executor = InProcess()
        assert benchmark(executor) == 1
        error = capsys.readouterr().err
        assert error.count("error: ") == 1 and message in error
        assert executor.ran == [] and not Path("benchmark_runs").exists()


def test_dry_run_shows_commands_and_runs_nothing(small, capsys) -> None:
    executor = InProcess()
    assert benchmark(executor, "--dry-run", "--out", "here") == 0
    shown = capsys.readouterr().out
    assert "job 3 of 3: rex-text-seed7 (to be run)" in shown
    assert re.search(
        r"  python train.py fit --config empty.yaml .*--model.train_text_encoder=true "
        r"--trainer.default_root_dir=here/runs/rex-text-seed7\n",
        shown,
    )
    assert executor.ran == [] and not Path("here").exists()
