"""The keys of `train.py`, group by group, as its help shows them."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from dreambooth_pl.commands.train_numbers import explain_numbers
from dreambooth_pl.data.datamodule import DreamBoothDataModule
from dreambooth_pl.metrics.encoders import EncoderSettings
from dreambooth_pl.runs.folder import RESUME
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.callbacks.checkpoints import CheckpointSettings
from dreambooth_pl.training.callbacks.evaluate_run import RunEvaluationSettings
from dreambooth_pl.training.callbacks.probes import ProbeSettings
from dreambooth_pl.training.callbacks.validation import ValidationSettings
from dreambooth_pl.training.module import DreamBooth
from dreambooth_pl.training.trainer_settings import (
    TRAINER_DEFAULTS,
    TRAINER_FIXED,
    TRAINER_HELP,
    TRAINER_HIDDEN,
)

DEFAULT_SEED = 42


def add_run_keys(parser: LightningArgumentParser) -> None:
    """Add the seed, and what a run goes on from."""
    parser.add_argument(
        "--seed_everything",
        type=int,
        default=DEFAULT_SEED,
        help="Seed of everything random: photos' order, noise, class images, probes.",
    )
    parser.add_argument(
        "--ckpt_path",
        type=str | None,
        default=None,
        help="Checkpoint to go on from, lightning_logs/NAME/version_N/checkpoints/last.ckpt, "
        "in a new folder; the config must be that of its run.",
    )
    if parser.command == "fit":
        parser.add_argument(
            f"--{RESUME}",
            type=str | None,
            default=None,
            help="Run to go on with in its own folder, lightning_logs/NAME/version_N, or last "
            "for the one that was at work last. Its own config holds; other keys come on top.",
        )


def add_groups(parser: LightningArgumentParser) -> None:
    """Add the groups of settings: data, model, sampling, and so on; the trainer's come last."""
    parser.add_lightning_class_args(DreamBoothDataModule, "data")
    parser.add_lightning_class_args(DreamBooth, "model")
    parser.add_class_arguments(SamplingSettings, "sampling")
    parser.add_class_arguments(ProbeSettings, "probe")
    parser.add_class_arguments(CheckpointSettings, "checkpoint")
    parser.add_class_arguments(ValidationSettings, "validation")
    parser.add_class_arguments(EncoderSettings, "fidelity")
    if parser.command == "test":
        parser.add_class_arguments(RunEvaluationSettings, "test")
    parser.add_class_arguments(
        Trainer,
        "trainer",
        skip=TRAINER_HIDDEN | TRAINER_FIXED.keys(),
        fail_untyped=False,
        instantiate=False,
        sub_configs=True,
    )
    parser.set_defaults({f"trainer.{key}": value for key, value in TRAINER_DEFAULTS.items()})
    for action in parser._actions:
        name = action.dest.removeprefix("trainer.")
        action.help = TRAINER_HELP.get(name, action.help)
    explain_numbers(parser)
