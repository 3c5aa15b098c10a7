"""Training several runs together, each by its own trainer.

`Trainer.fit` of the first run begins it as ever. Where its epoch would begin, the second run is
begun, and so on. Where the last one's epoch would begin, all train, step by step. Then each trainer
ends its run, the last one first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from dreambooth_pl.stop_signals import STOP, Stopped
from dreambooth_pl.training.losses import DreamBoothLoss
from dreambooth_pl.training.together.member import Member
from dreambooth_pl.training.together.parameters import StackedParameters
from dreambooth_pl.training.together.step import JointGradients

Start = Callable[["Group"], None]
"""Fits one run, after `Group.join` with its trainer."""


class Group:
    """Several runs that train side by side.

    A run that cannot begin, diverges or fails ends alone; the others go on.

    Args:
        starts: each fits a run. Runs must agree in all that `compatibility` names.
        at_once: see `JointGradients`; the first run that begins may still set it.
    """

    def __init__(self, starts: Sequence[Start], at_once: int | None = None) -> None:
        self.errors: list[BaseException | None] = [None] * len(starts)
        """How each run has ended; None where all went well."""
        self.at_once = at_once
        self._starts = list(enumerate(starts))
        self._members: list[Member] = []
        self._trained = False

    def run(self) -> list[BaseException | None]:
        """Train all runs; return `errors`."""
        self._begin_others()
        STOP.release()
        return self.errors

    def join(self, trainer: Trainer) -> None:
        """Let a run that `trainer` is about to fit take its steps with the others."""
        trainer.fit_loop.advance = lambda: self._epoch(trainer)

    def _epoch(self, trainer: Trainer) -> None:
        """Stand in for the epoch of a run."""
        member = Member(trainer)
        self._members.append(member)
        self._begin_others()
        if not self._trained:
            self._trained = True
            STOP.defer()
            try:
                _train(self._members, self.at_once)
            except Exception as error:  # of what is common to all
                for unfinished in (own for own in self._members if not own.is_done):
                    unfinished.error = error
        if member.error is not None:
            raise member.error

    def _begin_others(self) -> None:
        while self._starts and not self._trained:
            number, start = self._starts.pop(0)
            STOP.release()
            try:
                if STOP.pending is not None:
                    raise Stopped(STOP.pending)
                start(self)
            except Stopped as stopped:
                self.errors[number] = stopped
                self._stop(stopped)
            except Exception as error:
                self.errors[number] = error

    def _stop(self, stopped: Stopped) -> None:
        """End all runs before they train; those that have trained have ended already."""
        for number, _ in self._starts:
            self.errors[number] = stopped
        self._starts = []
        if not self._trained:
            self._trained = True
            for member in self._members:
                member.error = Stopped(stopped.signum)


def _train(members: Sequence[Member], at_once: int | None) -> None:
    """Take all steps of all runs."""
    while active := [member for member in members if not member.is_done]:
        for member in active:  # a run that could not begin has put the base on the CPU
            member.module.to(member.trainer.strategy.root_device)
        bases = [member.module.base_model for member in active]
        parameters = StackedParameters(bases, [member.optimizer for member in active])
        runs = [member.module for member in active]
        context = active[0].trainer.precision_plugin.train_step_context
        gradients = JointGradients(runs, parameters, context, at_once)
        try:
            steps = _Steps(active, parameters, gradients)
            while not any(member.is_done for member in active):
                steps.take()
        finally:
            parameters.release()
        at_once = gradients.at_once


class _Steps:
    """Steps of runs of which none has ended."""

    def __init__(
        self, members: Sequence[Member], parameters: StackedParameters, gradients: JointGradients
    ) -> None:
        self.members, self.parameters, self.gradients = members, parameters, gradients
        device = parameters.values.device
        self._largest = torch.tensor([m.largest_norm for m in members], device=device)
        self._good = torch.ones(len(members), dtype=torch.bool, device=device)

    def take(self) -> None:
        """Take one optimiser step of every run."""
        members, parameters = self.members, self.parameters
        batches = [member.batches() for member in members]
        losses = self.gradients(list(zip(*batches, strict=True)))
        norms = parameters.norms()
        self._tell(losses)
        self._look(losses.total, norms)
        parameters.clip(norms, self._largest)
        parameters.step()
        for member, own in zip(members, batches, strict=True):
            if member.error is None:
                _ending_alone(member, lambda m=member, b=own: m.advance(b))

    def _tell(self, losses: DreamBoothLoss) -> None:
        """Tell every run its losses and, where it logs them, learning rates and gradients."""
        names = {"loss": losses.total, "loss_instance": losses.instance, "loss_prior": losses.prior}
        columns = {f"train/{name}": values for name, values in names.items() if values is not None}
        norms = {}
        if any(member.logs_next_step for member in self.members):
            norms = {name: self.parameters.norms(name) for name in self.parameters.segments}
        for row, member in enumerate(self.members):
            metrics = {name: values[row] for name, values in columns.items()}
            if member.logs_next_step:
                for group in member.optimizer.param_groups:
                    metrics[f"train/lr_{group['name']}"] = torch.tensor(group["lr"])
                    metrics[f"train/grad_norm_{group['name']}"] = norms[group["name"]][row]
            member.tell(metrics)

    def _look(self, losses: Tensor, norms: Tensor) -> None:
        """Let runs whose losses or gradients are not finite end before the step; see `Finite`.

        A GPU's are read where curves are logged, so that it is not waited for at each step.
        """
        self._good &= losses.isfinite() & norms.isfinite()
        if losses.device.type != "cpu" and not any(member.looks() for member in self.members):
            return
        found = zip(self.members, self._good.tolist(), losses.tolist(), strict=True)
        for row, (member, good, loss) in enumerate(found):
            if good:
                member.saw(loss)
                continue
            _ending_alone(member, lambda m=member, r=row: m.check(losses[r]))
            if member.error is not None:
                self.parameters.release_run(row)  # the bad step is not taken
            self._good[row] = True


def _ending_alone(member: Member, work: Callable[[], None]) -> None:
    """Do something for one run; what it raises ends this run alone."""
    try:
        work()
    except (Exception, Stopped) as error:
        member.error = error
