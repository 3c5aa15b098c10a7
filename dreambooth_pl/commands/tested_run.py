"""What `train.py test` does beside training's own command line: which run, which adapters."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dreambooth_pl.adapters import TUNED_NAME, WEIGHTS_NAME
from dreambooth_pl.commands.common import table_width
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.evaluate import FOLDER
from dreambooth_pl.evaluation.lines import Line, distance_notes
from dreambooth_pl.reporting.tables import render
from dreambooth_pl.runs.finished import Run, run_of_config
from dreambooth_pl.runs.folder import CHECKPOINTS, CONFIG, folder_of_config, resume_command

USAGE = (
    "python train.py test --config RUN/config.yaml [--ckpt_path RUN/checkpoints/last.ckpt] "
    "[--test.protocol PROTOCOL] [--KEY VALUE ...]"
)
DESCRIPTION = (
    "Evaluate a run's final adapters, or those of a checkpoint of it, as evaluate.py does; with "
    "--trainer.devices N the images are drawn by N processes. The run's config.yaml has all keys; "
    "what comes later on the command line holds."
)


def tested_run(config_files: Sequence[Path], checkpoint: str | None, config: dict[str, Any]) -> Run:
    """Return the run to evaluate, with the file its checkpoint's adapters are to be written to.

    Args:
        config_files: given on the command line, one of them a run's own `config.yaml`.
        checkpoint: path of a checkpoint; None for the final adapters.
        config: the whole configuration in plain types.

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
            f"{CONFIG}, and for another than its final adapters also --ckpt_path."
        )
    run = run_of_config(folders[-1], config)
    if checkpoint:
        name = TUNED_NAME if config["model"]["adapter"] == "full" else WEIGHTS_NAME
        return replace(run, adapter=run.folder / FOLDER / Path(checkpoint).stem / name)
    if not run.lora_file.is_file():
        raise UserError(
            f"The run {run.folder} has not come to its end: it has no {run.lora_file}. To "
            "evaluate what it has reached, give "
            f"--ckpt_path {run.folder / CHECKPOINTS / 'last.ckpt'}; or finish it with: "
            f"{resume_command(run.folder)}"
        )
    return run


def without_saved_checkpoint(config: Any, arguments: Sequence[str]) -> None:
    """Forget a checkpoint that the run's `config.yaml` names: from there the run was resumed."""
    if not any(word.split("=")[0] == "--ckpt_path" for word in arguments):
        config.ckpt_path = None


def print_lines(lines: Sequence[Line]) -> None:
    """Write the tables to standard output, as evaluate.py does."""
    rows = [line.row() for line in lines]
    sys.stdout.write(render(rows, "table", table_width(), notes=distance_notes(lines)))
