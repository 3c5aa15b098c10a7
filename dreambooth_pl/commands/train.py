"""The command of `train.py`: configuration, checks before anything is written, the run's folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import set_parsing_settings
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from dreambooth_pl.commands.common import quiet_libraries
from dreambooth_pl.commands.tested_run import (
    print_results,
    tested_run,
    without_saved_checkpoint,
)
from dreambooth_pl.commands.train_keys import (
    DEFAULT_SEED,
    LIGHTNING_SEEDS,
    add_groups,
    add_run_keys,
    check_config_values,
    check_seed,
    find_homes,
)
from dreambooth_pl.commands.train_notes import check_with_base, training_notes
from dreambooth_pl.commands.train_parser import (
    PARSER_SETTINGS,
    Parser,
    check_config_files,
    check_dry_run,
    print_forecast,
    take_dry_run,
)
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.protocols import protocol_name
from dreambooth_pl.files.writable import check_writable
from dreambooth_pl.forecast.dry_run import Start, dry_run
from dreambooth_pl.forecast.memory import Training, check_training_memory
from dreambooth_pl.memory.exhausted import tells_out_of_memory
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.runs import folder as run_folder
from dreambooth_pl.runs.life import RunLife
from dreambooth_pl.runs.processes import check_strategy, is_first, reporting_to_starter
from dreambooth_pl.start import tells_mistakes
from dreambooth_pl.stop_signals import Stopped, advising
from dreambooth_pl.training.callbacks.evaluate_run import RunEvaluation
from dreambooth_pl.training.callbacks.run_callbacks import run_callbacks, run_loggers
from dreambooth_pl.training.callbacks.save_config import SaveConfig
from dreambooth_pl.training.callbacks.validation import ValidationSettings, validation_prompts
from dreambooth_pl.training.checkpoint import check_same_config, check_same_processes, check_steps
from dreambooth_pl.training.finish import only_finish
from dreambooth_pl.training.module import DreamBooth
from dreambooth_pl.training.photo_record import check_same_photos, photo_record
from dreambooth_pl.training.trainer_settings import TRAINER_DEFAULTS, TRAINER_FIXED

_LESS_MEMORY = (
    "Lower data.batch_size, data.resolution or sampling.batch_size, or set "
    "model.gradient_checkpointing to true."
)


class DreamBoothCLI(LightningCLI):
    """`fit` with the keys data, model, sampling, probe, validation, fidelity, trainer, seed; and
    `test`, which takes the same and `test.protocol`.

    Whatever can be wrong with the user's input is looked at before the run's folder is made.
    """

    def __init__(self, args: list[str] | None = None) -> None:
        self.reporter = ProgressReporter()
        self.life = RunLife(is_first(), self.reporter)
        self.dry_run: str | None = None  # format of its report
        # The settings' attribute docstrings are their --help.
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        ending = self.life.ending(lambda: getattr(self, "trainer", None))
        with ending, tells_out_of_memory(_LESS_MEMORY):
            self._run_command(args)

    def _run_command(self, args: list[str] | None) -> None:
        super().__init__(
            DreamBooth,
            DreamBoothDataModule,
            save_config_callback=None,  # callbacks/save_config.py, into the run's folder
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=DEFAULT_SEED,
            parser_class=Parser,
            parser_kwargs=PARSER_SETTINGS,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # config.yaml is the record of a run
            args=args,
        )

    # ------------------------------------------------------------------ parser

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Offer these, each with the arguments of the trainer's method that are ours to set."""
        common = {"model", "datamodule", "ckpt_path", "weights_only"}
        return {
            "fit": common | {"train_dataloaders", "val_dataloaders"},
            "test": common | {"dataloaders", "verbose"},
        }

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        """Make a subcommand's parser. All arguments of the trainer's methods are ours to set, and
        the group that would hold them is called like the command: `test` is a key of ours.
        """
        parser = self.init_parser(**kwargs)
        self._add_arguments(parser)
        self._subcommand_method_arguments[subcommand] = []
        return parser

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the seed and the checkpoint."""
        add_run_keys(parser)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our own keys first: the trainer's many come last in --help."""
        add_groups(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Give every part the one seed."""
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("seed_everything", "data.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: list[str] | None) -> None:
        """Parse the command line and the config files on it."""
        words = sys.argv[1:] if args is None else args
        check_config_files(words)
        words, self.dry_run = take_dry_run(words)
        words = self.life.read_words(words)
        self.config = parser.parse_args(words)
        find_homes(self.config[self.config.subcommand])
        check_dry_run(self.config, self.dry_run)
        if self.config.subcommand == "test":
            without_saved_checkpoint(self.config.test, words)

    def _set_seed(self) -> None:
        """Seed the libraries' own randomness. Ours is keyed by the whole seed, which stays."""
        seed = self.config[self.subcommand].seed_everything
        check_seed(seed)
        seed_everything(seed % LIGHTNING_SEEDS, workers=True)

    def _parse_ckpt_path(self) -> None:
        """Do not let a checkpoint overwrite the config; see resume.py."""

    # --------------------------------------------------------------- the checks

    def before_instantiate_classes(self) -> None:
        """Check all that needs no model, cheapest first; then name the run's folder."""
        config = self.config[self.subcommand]
        self.plain_config = yaml.safe_load(
            self._parser(self.subcommand).dump(config, skip_none=False, skip_link_targets=False)
        )
        if config.trainer.max_steps < 1:
            raise UserError(
                f"trainer.max_steps is {config.trainer.max_steps}; a run is counted in optimiser "
                "steps, so it must be at least 1."
            )
        check_config_values(config)
        self.life.load_checkpoint(config)
        if self.subcommand == "fit" and (checkpoint := self.life.checkpoint) is not None:
            check_steps(checkpoint, self.life.ckpt_path, config.trainer.max_steps)
            if not config.model.allow_changed_settings:
                check_same_config(checkpoint, self.plain_config)
        config_files = [Path(str(path)) for path in config.config or []]
        validation_prompts(ValidationSettings(**config.validation))
        if self.subcommand == "test":
            self.tested = tested_run(config_files, config.ckpt_path, self.plain_config)
            protocol_name(config.test.protocol)  # raises for one that there is not
            return
        root = Path(config.trainer.default_root_dir or ".")
        check_writable(self.life.folder or root / run_folder.LOGS)
        take = self.life.name_folder if self.dry_run else self.life.take_folder
        self.run_folder = take(root, run_folder.run_name(config_files))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer with the callbacks and loggers that every run has."""
        settings = self.config_init[self.subcommand]
        if self.subcommand == "test":
            self.testing = RunEvaluation(self.tested, settings.test, self.reporter)
            return self._trainer(
                callbacks=[self.testing],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                **kwargs,
            )
        data, model = self.datamodule, self.model
        check_with_base(model.base_model, data.settings, settings.sampling)
        self.notes = training_notes(
            model.base_model,
            data.instance_photos,
            data.settings,
            model.settings,
            settings.sampling,
        )
        if is_first() and not self.dry_run:
            for line in [*data.report.lines(), *(f"note: {note}" for note in self.notes)]:
                self.reporter.line(line)
        photos = photo_record(self.datamodule.views)
        before = self.life.checkpoint
        if settings.model.settings.allow_changed_settings:
            before = None
        if before is not None:
            check_same_photos(before, photos)
        own = settings.trainer.callbacks or []
        config = SaveConfig(
            self._parser(self.subcommand), self.config[self.subcommand], self.run_folder
        )
        every_run = run_callbacks(
            settings,
            self.plain_config,
            self.run_folder,
            config,
            self.reporter,
            photos,
            resumed=self.life.in_own_folder,
        )
        trainer = self._trainer(
            callbacks=[*(own if isinstance(own, list) else [own]), *every_run],
            logger=run_loggers(settings.trainer.logger, self.run_folder),
            **kwargs,
        )
        if before is not None and self.life.step < trainer.max_steps:
            check_same_processes(before, trainer.world_size)
        if not self.dry_run:
            self.life.tidy()
        return trainer

    def _trainer(self, **settings: Any) -> Trainer:
        try:
            trainer = super().instantiate_trainer(**TRAINER_FIXED, **settings)
        except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
            raise UserError(f"trainer: {error}") from error
        check_strategy(trainer.strategy)
        self.life.others.watch_those_of(trainer.strategy)
        return trainer

    # --------------------------------------------------------------------- run

    def fit(self, model: DreamBooth, datamodule: DreamBoothDataModule) -> None:
        """Train, or only make what belongs to the end of a run that has all its steps."""
        settings, life = self.config_init[self.subcommand], self.life
        training = Training.of(model, datamodule, settings, self.trainer)
        notes = check_training_memory(training)
        if self.dry_run:
            notes = [*self.notes, *notes]
            start = Start(self.run_folder, life.step, life.ckpt_path, self._trainer)
            print_forecast(dry_run(training, settings, start, notes), self.dry_run)
            return
        for note in notes if self.trainer.is_global_zero else ():
            self.reporter.line(f"note: {note}")
        if self.life.step == self.trainer.max_steps:
            only_finish(self.trainer)
        self.trainer.fit(
            model, datamodule=datamodule, ckpt_path=self.life.ckpt_path, weights_only=True
        )

    def test(self, model: DreamBooth, datamodule: DreamBoothDataModule) -> None:
        """Evaluate the run, each process generating its share, and print the table."""
        with advising("Images made so far are kept; the same command goes on from there."):
            self.trainer.test(
                model,
                dataloaders=DataLoader([0]),  # all is done when the test starts: RunEvaluation
                ckpt_path=self.config[self.subcommand].ckpt_path,
                verbose=False,
                weights_only=True,
            )
        if self.trainer.is_global_zero:
            print_results(self.testing.results)


@tells_mistakes
def main(args: list[str] | None = None) -> int:
    """Run the command line; return its exit status.

    Args:
        args: what stands after `train.py`; None for the process's own arguments.
    """
    quiet_libraries()
    with reporting_to_starter():
        try:
            DreamBoothCLI(args)
        except Stopped:
            if is_first():
                raise  # the first process tells; another one's status would be taken for a failure
    return 0
