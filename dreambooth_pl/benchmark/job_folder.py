"""The folder of a job: its recorded config, its log, and how far its training has come."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreambooth_pl.benchmark.executors import attempt
from dreambooth_pl.benchmark.jobs import Job
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import write_json
from dreambooth_pl.files.leftovers import remove_leftovers
from dreambooth_pl.runs.finished import final_weights
from dreambooth_pl.runs.folder import CONFIG, LOGS

RECORD = "job.json"
LOG = "log.txt"


def complete_run(job: Job) -> Path | None:
    """Return the folder of the job's newest finished run; None if there is none."""
    for folder in _versions(job):
        if final_weights(folder).is_file() and (folder / CONFIG).is_file():
            return folder
    return None


def begun_run(job: Job) -> Path | None:
    """Return the folder of the job's newest run that has begun, to resume; None if none has."""
    return attempt.begun_run(job.folder)


def check_unchanged(job: Job) -> None:
    """Check that the job's config is the one it was started with. Writes nothing.

    Raises:
        UserError: the config has changed, or the recorded config cannot be read.
    """
    path = job.folder / RECORD
    if not path.is_file():
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(before, dict)
    except (OSError, ValueError, AssertionError) as error:
        raise UserError(
            f"{path} is not as benchmark.py writes it. Move {job.folder} elsewhere to have the job "
            "repeated."
        ) from error
    now = _plain(job)
    changed = [
        f"{key} is {now.get(key, 'not set')!r}, was {before.get(key, 'not set')!r}"
        for key in sorted(before.keys() | now.keys())
        if now.get(key) != before.get(key) or (key in now) != (key in before)
    ]
    if changed:
        raise UserError(
            f"The job {job.name} began with another config: {'; '.join(changed)}. Set this back, "
            f"choose another folder with --out, or move {job.folder} elsewhere to have the job "
            "repeated."
        )


def begin(job: Job) -> None:
    """Create the job's folder and record the config there, unless it is recorded already.

    Raises:
        UserError: the folder cannot be written to.
    """
    path = job.folder / RECORD
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(job.folder)
        if not path.is_file():
            write_json(path, _plain(job), indent=1)
    except OSError as error:
        raise UserError(f"Cannot write to {job.folder}: {error.strerror or error}.") from error


def last_lines(job: Job, count: int) -> list[str]:
    """Return up to `count` last lines of the job's log, without empty ones."""
    path = job.folder / LOG
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.strip()][-count:]


def _versions(job: Job) -> Sequence[Path]:
    """Return the folders of the job's runs, newest first."""
    numbered = []
    for folder in (job.folder / LOGS).glob("*/version_*"):
        if re.fullmatch(r"version_\d+", folder.name):
            numbered.append((int(folder.name.removeprefix("version_")), folder))
    return [folder for _, folder in sorted(numbered, reverse=True)]


def _plain(job: Job) -> dict[str, Any]:
    """Return the job's config as it reads back from JSON."""
    return json.loads(json.dumps(job.config(), default=str))
