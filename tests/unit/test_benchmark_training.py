"""Which jobs run, from where, and what becomes of those that do not come to their end."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dreambooth_pl.benchmark.executors.call import ScriptCall, Watch
from dreambooth_pl.benchmark.jobs import Job
from dreambooth_pl.benchmark.spec import Variant
from dreambooth_pl.benchmark.training import train
from dreambooth_pl.errors import UserError
from dreambooth_pl.progress import ProgressReporter


class Pretend:
    """Leaves behind what trainings leave; counts how often each task was run.

    Args:
        first: what the first run of every task does: "end", "stop" (once it has begun) or "fail"
            (before that).
    """

    slots = 1

    def __init__(self, first: str) -> None:
        self.first = first
        self.ran: list[ScriptCall] = []
        self.words: list[list[str]] = []

    def __call__(
        self, tasks: Sequence[ScriptCall], watch: Watch
    ) -> Iterator[tuple[ScriptCall, int]]:
        for task in reversed(tasks):  # an executor may choose the order
            watch.started(task)
            seen = sum(task.name == other.name for other in self.ran)
            self.ran.append(task)
            self.words.append(task.words())
            does = self.first if seen == 0 else "end"
            run = task.log.parent / f"lightning_logs/name/version_{seen}"
            words = task.words()
            if words[1] == "--resume":
                run = Path(words[2])
            run.mkdir(parents=True, exist_ok=True)
            if does in ("end", "stop"):
                (run / "config.yaml").touch()
            if does == "end":
                (run / "lora").mkdir()
                (run / "lora/pytorch_lora_weights.safetensors").touch()
            if does == "fail":
                task.log.write_text("\n".join(f"line {n}" for n in range(30)) + "\n\n")
            yield task, 1 if does == "fail" else 0


def make_jobs(folder: Path) -> list[Job]:
    config = folder / "name.yaml"
    config.write_text("seed_everything: 1\n")
    variants = [Variant(name, (config,), {}) for name in ("a", "b")]
    return [Job(v.name, None, v, 1, folder / "out" / v.name, {}) for v in variants]


def test_complete_jobs_are_not_repeated(tmp_path) -> None:
    jobs, executor, said = make_jobs(tmp_path), Pretend("end"), io.StringIO()
    runs, failures = train(jobs, executor, ProgressReporter(said))
    assert runs == {
        name: tmp_path / f"out/{name}/lightning_logs/name/version_0" for name in ("a", "b")
    }
    assert not failures and len(executor.ran) == 2
    assert train(jobs, executor, ProgressReporter(said)) == (runs, [])
    assert len(executor.ran) == 2
    assert "2 of 2 jobs are complete already" in said.getvalue()


def test_a_run_that_has_begun_goes_on_in_its_own_folder(tmp_path) -> None:
    jobs, executor, said = make_jobs(tmp_path), Pretend("stop"), io.StringIO()
    runs, failures = train(jobs, executor, ProgressReporter(said))
    assert runs == {}
    assert {failure.job.name for failure in failures} == {"a", "b"}
    assert "goes on" not in said.getvalue()
    executor.ran.clear()
    executor.words.clear()
    executor.first = "end"
    runs, failures = train(jobs, executor, ProgressReporter(said))
    begun = {name: tmp_path / f"out/{name}/lightning_logs/name/version_0" for name in ("a", "b")}
    assert (runs, failures) == (begun, [])
    assert executor.words == [["fit", "--resume", str(begun[name])] for name in ("b", "a")]
    assert f"job 1 of 2: a goes on in {begun['a']}; its log is" in said.getvalue()


def test_a_failed_job_is_reported_by_the_end_of_its_log_and_tried_again(tmp_path) -> None:
    jobs, executor, said = make_jobs(tmp_path), Pretend("fail"), io.StringIO()
    runs, failures = train(jobs, executor, ProgressReporter(said))
    assert runs == {}
    assert [(f.job.name, f.status) for f in failures] == [("b", 1), ("a", 1)]
    assert failures[0].last_lines == tuple(f"line {n}" for n in range(18, 30))
    text = said.getvalue()
    assert "job 2 of 2: b starts" in text
    assert "job b failed (exit status 1)" in text and "  | line 29" in text
    assert "line 17" not in text
    runs, failures = train(jobs, executor, ProgressReporter(said))
    assert sorted(runs) == ["a", "b"] and not failures


def test_a_changed_config_stops_all_before_anything_runs(tmp_path) -> None:
    jobs, executor = make_jobs(tmp_path), Pretend("end")
    train(jobs[1:], executor, ProgressReporter(io.StringIO()))
    (tmp_path / "name.yaml").write_text("seed_everything: 2\n")
    with pytest.raises(UserError, match="job b began with another config: seed_everything is 2"):
        train(jobs, executor, ProgressReporter(io.StringIO()))
    assert len(executor.ran) == 1
    assert not (tmp_path / "out/a").exists()
