import csv
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreambooth_pl.runs.logs import LogPoint, cut_logs, flush, own_loggers


def log(folder: Path, first: int, last: int) -> None:
    """Log training curves with the index of the step, and rounds every two steps, as a run does."""
    loggers = own_loggers(folder)
    for step in range(first, last + 1):
        for logger in loggers:
            if step % 2 == 0:
                logger.log_metrics({"validation/score": step / 10}, step)
                logger.log_metrics({"fidelity/dino": step / 20}, step)
            if step < last:
                logger.log_metrics({"train/loss": step / 4, "epoch": 0}, step)
                logger.save()
    flush(loggers)
    for logger in loggers:
        logger.finalize("failed")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def steps(folder: Path, tag: str) -> list[int]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.step for event in events.Scalars(tag)]


def test_a_run_that_goes_on_logs_like_one_that_did_not_stop(tmp_path: Path) -> None:
    whole, cut = (tmp_path / name / "run" / "version_0" for name in ("whole", "cut"))
    log(whole, 0, 6)
    log(cut, 0, 5)
    cut_logs(cut, LogPoint(4, 3, frozenset({"validation"})))
    assert max(int(row["step"]) for row in rows(cut) if "train/loss" in row) == 2
    assert steps(cut, "train/loss") == [0, 1, 2]
    assert steps(cut, "validation/score") == [0, 2, 4]
    assert steps(cut, "fidelity/dino") == [0, 2], "interrupted: made up for when the run goes on"
    for logger in own_loggers(cut):
        logger.log_metrics({"fidelity/dino": 4 / 20}, 4)
        logger.log_metrics({"train/loss": 3 / 4, "epoch": 0}, 3)
        logger.log_metrics({"train/loss": 4 / 4, "epoch": 0}, 4)
        logger.finalize("failed")
    log(cut, 5, 6)
    assert sorted(rows(cut), key=str) == sorted(rows(whole), key=str)
    for tag in ("train/loss", "validation/score", "fidelity/dino"):
        assert steps(cut, tag) == steps(whole, tag)


def test_a_new_column_keeps_what_was_logged(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "version_0"
    log(folder, 0, 3)
    before = rows(folder)
    (logger, _) = own_loggers(folder)
    logger.log_metrics({"train/another": 1.0}, 9)
    logger.save()
    assert rows(folder) == [*before, {"train/another": "1.0", "step": "9"}]


def test_half_a_row_and_half_an_event_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "version_0"
    log(folder, 0, 4)
    before, point = rows(folder), LogPoint(9, 9)
    with (folder / "metrics.csv").open("a") as file:
        file.write("0,,5")
    (events,) = folder.glob("events*")
    with events.open("ab") as file:
        file.write(b"\x18\x00\x00\x00half")
    cut_logs(folder, point)
    assert rows(folder) == before
    assert steps(folder, "train/loss") == [0, 1, 2, 3]


def test_nothing_is_left_of_a_run_that_begins_again(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "version_0"
    log(folder, 0, 3)
    cut_logs(folder, LogPoint())
    assert [path.name for path in folder.iterdir()] == ["hparams.yaml"], "a list of nothing"
