"""Which run and which adapters `train.py test` evaluates, and its output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dreambooth_pl.adapters import TUNED_NAME, WEIGHTS_NAME
from dreambooth_pl.commands.common import table_width
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.results import Result, distance_notes
from dreambooth_pl.reporting.tables import render
from dreambooth_pl.reporting.verdict import verdict
from dreambooth_pl.runs.finished import EVALUATION, Run, run_of_config
from dreambooth_pl.runs.folder import CHECKPOINTS, CONFIG, folder_of_config, resume_command

USAGE = (
    "python train.py test --config RUN/config.yaml [--ckpt_path RUN/checkpoints/last.ckpt] "
    "[--test.protocol PROTOCOL] [--KEY VALUE ...]"
)
DESCRIPTION = (
    "Evaluate the final adapters of a run, or those of a checkpoint, as evaluate.py does. With "
    "--trainer.devices N, N processes generate the images. The run's config.yaml sets all keys; "
    "later arguments on the command line win."
)


def tested_run(config_files: Sequence[Path], checkpoint: str | None, config: dict[str, Any]) -> Run:
    """Return the run to evaluate.

    Args:
        config_files: config files of the command line, one of them a run's own `config.yaml`.
        checkpoint: path of a checkpoint; None for the final adapters.
        config: the whole config in plain types.

    Returns:
        The run. With a checkpoint, its `adapter` is the file to save the checkpoint's adapters to.

    Raises:
        UserError: no run is named, or it has no final adapters and no checkpoint is given.
    """
    folders = [folder for path in config_files if (folder := folder_of_config(path))]
    if checkpoint and Path(checkpoint).parent.name == CHECKPOINTS:
        folder = Path(checkpoint).parent.parent
        folders += [folder] if (folder / CONFIG).is_file() else []
    if not folders:
        raise UserError(
            "test: which run? Give its own configuration, --config lightning_logs/NAME/version_N/"
            f"{CONFIG}, and --ckpt_path for other adapters than its final ones."
        )
    run = run_of_config(folders[-1], config)
    if checkpoint:
        name = TUNED_NAME if config["model"]["adapter"] == "full" else WEIGHTS_NAME
        return replace(run, adapter=run.folder / EVALUATION / Path(checkpoint).stem / name)
    if not run.lora_file.is_file():
        raise UserError(
            f"The run {run.folder} has not come to its end: it has no {run.lora_file}. To evaluate "
            f"its last checkpoint, give --ckpt_path {run.folder / CHECKPOINTS / 'last.ckpt'}; or "
            f"finish it with: {resume_command(run.folder)}"
        )
    return run


def without_saved_checkpoint(config: Any, arguments: Sequence[str]) -> None:
    """Clear the `ckpt_path` of the run's `config.yaml`: it is where the run was resumed from."""
    if not any(word.split("=")[0] == "--ckpt_path" for word in arguments):
        config.ckpt_path = None


def print_results(results: Sequence[Result]) -> None:
    """Write the tables to standard output, as evaluate.py does."""
    rows = [result.row for result in results]
    notes = [*distance_notes(results), verdict(results)]
    sys.stdout.write(render(rows, "table", table_width(), notes=notes))
