"""The command `train_together.py FILE`: several runs of `train.py fit` side by side.

`benchmark.py --together` writes the file and runs the command.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from dreambooth_pl.bases.load import shared_weights
from dreambooth_pl.benchmark.together import PlannedRun, read_runs, write_statuses
from dreambooth_pl.commands.common import quiet_libraries
from dreambooth_pl.commands.train import DreamBoothCLI
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.errors import UserError
from dreambooth_pl.forecast.memory import Training, memory_need
from dreambooth_pl.memory.available import available_memory
from dreambooth_pl.start import tells_mistakes
from dreambooth_pl.stop_signals import Stopped
from dreambooth_pl.training.callbacks.run_callbacks import shared_encoders
from dreambooth_pl.training.module import DreamBooth
from dreambooth_pl.training.together.compatibility import check_together
from dreambooth_pl.training.together.group import Group, Start

_MEMORY_SHARE = 0.8  # of the free memory that activations and gradients may take


class GroupedCLI(DreamBoothCLI):
    """`train.py fit` for a run that takes its steps with others.

    Args:
        args: command-line arguments, `fit` first.
        group: takes the steps.
        agreed: configs of the runs that have begun; they and this one must agree.
    """

    def __init__(self, args: list[str], group: Group, agreed: list[dict[str, Any]]) -> None:
        self._group, self._agreed = group, agreed
        super().__init__(args)

    def before_instantiate_classes(self) -> None:
        """Check the config as ever, and beside the others'."""
        super().before_instantiate_classes()
        check_together((self._agreed or [self.plain_config])[0], self.plain_config)

    def fit(self, model: DreamBooth, datamodule: DreamBoothDataModule) -> None:
        """Train as ever, but for the steps."""
        self._group.join(self.trainer)
        if not self._agreed:
            settings = self.config_init[self.subcommand]
            self._group.at_once = _runs_at_once(
                Training.of(model, datamodule, settings, self.trainer)
            )
        self._agreed.append(self.plain_config)
        super().fit(model, datamodule)


@tells_mistakes
def main(args: Sequence[str] | None = None) -> int:
    """Train the runs of a file; return 0 if all have come to their end, else 1.

    Args:
        args: the path of the file, see `PlannedRun`; None for the process's own arguments.

    Raises:
        UserError: there is no such file.
        Stopped: a signal has asked the process to end; all runs have saved what they had.
    """
    args = sys.argv[1:] if args is None else args
    if len(args) != 1:
        raise UserError("Usage: python train_together.py FILE")
    quiet_libraries()
    path = Path(args[0])
    runs = read_runs(path)
    agreed: list[dict[str, Any]] = []
    with shared_weights(), shared_encoders():
        errors = Group([_start(run, agreed) for run in runs]).run()
    statuses = [0 if error is None else _status(error) for error in errors]
    write_statuses(path, statuses)
    for run, status in zip(runs, statuses, strict=True):
        if status:
            print(f"exit status {status}: {run.log}", file=sys.stderr)
    for error in errors:
        if isinstance(error, Stopped):
            raise error
    return int(any(statuses))


def _runs_at_once(training: Training) -> int | None:
    """Return how many runs' activations fit into the memory that is free; None if not known."""
    free = available_memory(training.device)
    if free is None:
        return None
    try:
        need = memory_need(training)
    except RuntimeError:  # it cannot be counted
        return None
    left = free.size - need.weights - max(need.encoding, need.generation)
    return max(1, int(_MEMORY_SHARE * left / max(need.step, 1)))


def _start(run: PlannedRun, agreed: list[dict[str, Any]]) -> Start:
    """Return what fits a run, with its output in the run's own log."""

    def start(group: Group) -> None:
        with (
            run.log.open("a", encoding="utf-8", buffering=1) as log,
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            try:
                GroupedCLI(list(run.arguments), group, agreed)
            except (UserError, Stopped) as error:
                print(f"error: {error}" if isinstance(error, UserError) else error, file=log)
                raise
            except Exception:
                traceback.print_exc()
                raise

    return start


def _status(error: BaseException) -> int:
    return error.status if isinstance(error, Stopped) else 1
