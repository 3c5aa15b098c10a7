"""Generation of a benchmark's images in parallel, by subject and share, before scoring."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from dreambooth_pl.benchmark.executors.call import Executor, Resources, ScriptCall
from dreambooth_pl.benchmark.status import Board
from dreambooth_pl.evaluation.record import SCORES_FILE
from dreambooth_pl.evaluation.run_images import folder_of
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.runs.finished import EVALUATION, final_weights, read_run
from dreambooth_pl.runs.folder import CONFIG

LOGS = "drawing"  # folder of the processes' logs


def generate_in_parallel(
    folders: Mapping[str, Path],
    protocol: str,
    out: Path,
    device: str,
    executor: Executor,
    reporter: ProgressReporter,
    resources: Resources | None = None,
    status: Path | None = None,
    where: str = "",
) -> None:
    """Generate the images of runs that have no scores yet, as many calls at a time as fit.

    There is one call per subject. Where more calls fit beside each other than there are subjects,
    each call takes a share of a subject's images.

    The images stay in the runs' folders, where the evaluation of all runs finds them. So a failed
    call is not an error: that evaluation generates the missing images, or reports why it cannot. A
    single call would save no time, so nothing is done then.

    Args:
        folders: folders of the complete runs, by the job's name.
        protocol: protocol of the evaluation.
        out: the benchmark's folder.
        device: device of the evaluation, as `evaluate.py --device` takes it.
        executor: runs the calls.
        reporter: shows how many calls are done.
        resources: what each call needs.
        status: file that is kept up to date; None for no file.
        where: the executor, and where it can be watched.
    """
    calls = generation_calls(folders, protocol, out, device, executor.slots, resources)
    if len(calls) < 2:
        return
    (out / LOGS).mkdir(exist_ok=True)
    board = Board("generating images", calls, reporter, status, where, noun="generation")
    with board.shown():
        for call, exit_status in executor(calls, board):
            board.ended(call, failed=exit_status != 0)


def generation_calls(
    folders: Mapping[str, Path],
    protocol: str,
    out: Path,
    device: str,
    slots: int,
    resources: Resources | None = None,
) -> list[ScriptCall]:
    """Return the calls that generate the images of runs without scores.

    Args:
        folders, protocol, out, device, resources: as for `generate_in_parallel`.
        slots: how many calls run at a time.
    """
    by_photos: dict[Path, list[Path]] = {}
    for folder in folders.values():
        run = read_run(folder)
        if not (folder_of(run, protocol).parent / SCORES_FILE).exists():
            by_photos.setdefault(run.instance_dir, []).append(folder)
    shares = max(1, math.ceil(slots / max(1, len(by_photos))))
    calls = []
    for number, (photos, runs) in enumerate(by_photos.items()):
        options = (f"--protocol={protocol}", f"--device={device}")
        for share in range(1, shares + 1):
            part = f"{share}/{shares}"
            name = str(photos) if shares == 1 else f"{photos} {part}"
            file = f"{number:02d}_{photos.name}" + ("" if shares == 1 else f"_{share:03d}")
            calls.append(
                ScriptCall(
                    name,
                    (*map(str, runs), *options, f"--share={part}"),
                    out / LOGS / f"{file}.txt",
                    "evaluate.py",
                    inputs=tuple(
                        path for run in runs for path in (run / CONFIG, final_weights(run))
                    ),
                    outputs=tuple(run / EVALUATION for run in runs),
                    resources=resources or Resources(),
                )
            )
    return calls
