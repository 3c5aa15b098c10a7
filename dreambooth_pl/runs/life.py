"""A run's folder while `train.py` works on it: taken or taken up again, kept or discarded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from dreambooth_pl import distributed
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.atomic import WriteError, write_text
from dreambooth_pl.files.leftovers import remove_leftovers
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.runs import folder as run_folder
from dreambooth_pl.runs.folder import RESUME
from dreambooth_pl.runs.logs import LogPoint, cut_logs
from dreambooth_pl.runs.processes import Failure, OtherProcesses, is_lost, is_started
from dreambooth_pl.runs.resume import log_point, own_checkpoint, resumed_run
from dreambooth_pl.stop_signals import NOTHING, Stopped
from dreambooth_pl.training.checkpoint import load_checkpoint


class RunLife:
    """What `train.py` knows about the folder and the checkpoint of the run that it works on.

    Args:
        first: whether this is the process of rank 0, the one that writes.
        reporter: shows the run's progress.
    """

    def __init__(self, first: bool, reporter: ProgressReporter) -> None:
        self.first = first
        self.reporter = reporter
        self.others = OtherProcesses(self._failed)
        """The processes of the run's other ranks on this machine."""
        self.folder: Path | None = None
        self.resumed = False
        """Whether the folder is that of an earlier start, given by `--resume`."""
        self.ckpt_path: str | None = None
        """What training goes on from."""
        self.checkpoint: dict[str, Any] | None = None
        """What that file holds."""
        self._topmost: Path | None = None  # of the folders that were made for the run
        self._trainer: Callable[[], Trainer | None] = lambda: None

    @property
    def step(self) -> int:
        """The step that training starts at."""
        return 0 if self.checkpoint is None else self.checkpoint["global_step"]

    @property
    def in_own_folder(self) -> bool:
        """Whether the checkpoint is the folder's own, so that its logs are continued."""
        return self.resumed and self.folder is not None and self._own is not None

    @property
    def _own(self) -> Path | None:
        return self.folder and own_checkpoint(self.folder)

    def read_words(self, words: Sequence[str]) -> list[str]:
        """Return the command line with `--resume` replaced by the run's own configuration."""
        words, self.folder = resumed_run(words, self.first)
        self.resumed = self.folder is not None
        return words

    def load_checkpoint(self, config: Any) -> None:
        """Read the checkpoint to go on from: the resumed run's own, else the one that is given.

        Args:
            config: the parsed configuration.
        """
        if config.get(RESUME):
            raise UserError(f"{RESUME} stands in a config file; give it on the command line.")
        own = self._own if self.resumed else None
        self.ckpt_path = config.ckpt_path if own is None else str(own)
        if self.ckpt_path:
            self.checkpoint = load_checkpoint(self.ckpt_path)

    def take_folder(self, root: Path, name: str) -> Path:
        """Return the run's folder: the resumed one, or a new one that is made now."""
        if self.folder is None:
            self._topmost = _topmost_missing(root / run_folder.LOGS)
            self.folder = run_folder.shared_run_folder(root, name, self.first)
        elif self.first:
            run_folder.share_run_folder(self.folder)
        return self.folder

    def name_folder(self, root: Path, name: str) -> Path:
        """Return the folder that `take_folder` would return, and make none."""
        return self.folder or run_folder.free_run_folder(root, name)

    def tidy(self) -> None:
        """Remove what a resumed run's checkpoint does not know: log entries, parts of files."""
        if self.resumed and self.first:
            for folder in (self.folder, *(p for p in self.folder.rglob("*") if p.is_dir())):
                remove_leftovers(folder)
            own = self.checkpoint is not None and self._own is not None
            cut_logs(self.folder, log_point(self.checkpoint) if own else LogPoint(self.step))

    @contextmanager
    def ending(self, trainer: Callable[[], Trainer | None]) -> Iterator[None]:
        """Discard the folder of a run that never began, and give advice after a stop.

        Args:
            trainer: returns the trainer once there is one.
        """
        self._trainer = trainer
        try:
            yield
            self.others.end()
        except UserError as error:
            self.others.end(error)
            self._discard_without_step()
            raise
        except Stopped as stopped:
            self.others.end(stopped)
            stopped.advice = stopped.advice or self._advice(trainer())
            raise
        except BaseException as error:
            self.others.end(error)
            if distributed.count() > 1 and self.first:
                raise UserError(self._told(Failure.of(error, "process 0"))) from error
            if is_lost(error) and not is_started():
                sys.exit(1)  # the process that is gone, or the first one, says why
            if self.folder is not None and self.folder.is_dir() and not any(self.folder.iterdir()):
                self._discard()
            raise

    def _failed(self, failure: Failure) -> None:
        """End this process, because another one has failed; from a thread."""
        self.reporter.close()
        self.reporter.line(f"error: {self._told(failure)}")
        os._exit(1)

    def _told(self, failure: Failure) -> str:
        """Return what the user is told of a failure, with the command that goes on."""
        if failure.mistake:
            self._discard_without_step()
            return failure.message
        if self.folder is None or not (self.folder / run_folder.CONFIG).is_file():
            self._discard()
            return f"{failure.message} The run had not begun.\n{failure.traceback}".rstrip()
        told = f"{failure.message} The run has ended."
        if failure.traceback:
            path = self.folder / run_folder.FAILURE
            with suppress(WriteError):
                write_text(path, failure.traceback)
                told += f" Where it failed: {path}."
        return f"{told} To go on: {run_folder.resume_command(self.folder)}"

    def _advice(self, trainer: Trainer | None) -> str:
        if self.folder is None:
            return NOTHING
        if not (self.folder / run_folder.CONFIG).is_file():
            self._discard()
            return "The run had not begun; start it again with the same command."
        step = self.step if trainer is None else max(self.step, trainer.global_step)
        command = run_folder.resume_command(self.folder)
        return f"The run is at step {step}. To go on: {command}"

    def _discard_without_step(self) -> None:
        """Discard the folder of a run that a mistake has ended before its first step."""
        started = self._trainer()
        if started is None or started.global_step in (0, self.step):
            self._discard()

    def _discard(self) -> None:
        if self.folder is not None and self.first and not self.resumed:
            run_folder.discard(self.folder, self._topmost)


def _topmost_missing(folder: Path) -> Path | None:
    """Return the first folder on the way to this one that is not there; None if all are."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    return missing[-1] if missing else None
