"""Generation of a benchmark's images in parallel, one process per subject, before scoring."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dreambooth_pl.benchmark.executors import Executor, ScriptCall
from dreambooth_pl.evaluation.record import SCORES_FILE
from dreambooth_pl.evaluation.run_images import folder_of
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.runs.finished import read_run

LOGS = "drawing"  # folder of the processes' logs


def generate_in_parallel(
    folders: Mapping[str, Path],
    protocol: str,
    out: Path,
    device: str,
    executor: Executor,
    reporter: ProgressReporter,
) -> None:
    """Evaluate the runs that have no scores yet, with one process per subject.

    Only the images matter. They stay in the runs' folders, where the evaluation of all runs finds
    them. So a failed process is not an error: that evaluation generates the missing images, or
    reports why it cannot. With fewer than two subjects, nothing is done here.

    Args:
        folders: folders of the complete runs, by the job's name.
        protocol: protocol of the evaluation.
        out: the benchmark's folder.
        device: device of the evaluation, as `evaluate.py --device` takes it.
        executor: runs the processes.
        reporter: shows how many subjects are done.
    """
    by_photos: dict[Path, list[Path]] = {}
    for folder in folders.values():
        run = read_run(folder)
        if not (folder_of(run, protocol).parent / SCORES_FILE).exists():
            by_photos.setdefault(run.instance_dir, []).append(folder)
    if len(by_photos) < 2:
        return
    logs = out / LOGS
    logs.mkdir(exist_ok=True)
    tasks = [
        ScriptCall(
            str(photos),
            (*map(str, runs), f"--protocol={protocol}", f"--device={device}"),
            logs / f"{number:02d}_{photos.name}.txt",
            "evaluate.py",
        )
        for number, (photos, runs) in enumerate(by_photos.items())
    ]

    def started(task: ScriptCall) -> None:
        reporter.line(f"generating images of {task.name}; the log is {task.log}")

    with reporter.task("images of subjects", total=len(tasks)) as progress:
        for done, (task, status) in enumerate(executor(tasks, started), start=1):
            progress.update(done, note=f"{task.name} {'failed' if status else 'done'}")
