"""The commands of the studio's jobs: those of the command line, with the form's values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dreambooth_pl.errors import UserError
from dreambooth_pl.runs.folder import CHECKPOINTS
from dreambooth_pl.studio.jobs import generate_in_turn
from dreambooth_pl.studio.presets import ROOT
from dreambooth_pl.studio.views.run_views import RunView

MAX_IMAGES = 16
"""Of one request."""
FINAL = "final"
"""The checkpoint that is a finished run's result."""

Command = tuple[str, ...]


@dataclass(frozen=True)
class ImageForm:
    """What images are asked for."""

    run: str
    checkpoint: str
    """`final`, or the name of a checkpoint file."""
    prompt: str
    negative: str
    seed: int
    images: int
    steps: int
    guidance: float
    scale_unet: float
    scale_text_encoder: float
    beside_base: bool
    """Whether the untuned base is to generate the same."""

    def facts(self) -> dict:
        """Return the form in plain types."""
        return asdict(self)


def train_command(config_files: Sequence[Path]) -> Command:
    """Return the command that trains a new run."""
    options = [part for path in config_files for part in ("--config", str(path))]
    return (str(ROOT / "train.py"), "fit", *options)


def resume_command(run: RunView) -> Command:
    """Return the command that takes a run up again."""
    return (str(ROOT / "train.py"), "fit", "--resume", str(run.folder))


def generate_command(form: ImageForm, run: RunView, out: Path) -> Command:
    """Return the command that generates what a form asks for, with the adapter and without.

    Raises:
        UserError: the run has no such checkpoint, or no prompt is given.
    """
    if not form.prompt.strip():
        raise UserError("Write a prompt first.")
    source = _adapter(form, run)
    options = [
        *(f"--prompt={form.prompt}", f"--negative={form.negative}", "--seed", str(form.seed)),
        *("--num-images", str(min(form.images, MAX_IMAGES)), "--no-grid"),
        *("--steps", str(form.steps), "--guidance", f"{form.guidance:g}"),
    ]

    def command(name: str, unet: float, text_encoder: float) -> Command:
        scales = ("--lora-scale-unet", f"{unet:g}", "--lora-scale-text-encoder")
        words = (str(source), *options, *scales, f"{text_encoder:g}")
        return (*words, "--out", str(out / name))

    tuned = command("tuned", form.scale_unet, form.scale_text_encoder)
    beside = (generate_in_turn.THEN, *command("base", 0.0, 0.0)) if form.beside_base else ()
    return ("-m", generate_in_turn.__name__, *tuned, *beside)


def reproduce_command(image: Path, run: RunView | None, out: Path) -> Command:
    """Return the command that generates an image again and compares the two."""
    where = (str(run.adapter),) if run is not None and run.adapter else ()
    return (str(ROOT / "generate.py"), *where, "--reproduce", str(image), "--out", str(out))


def evaluate_command(
    runs: Sequence[RunView], protocol: str, scales: Sequence[float], paired: bool, out: Path
) -> Command:
    """Return the command that scores runs.

    Raises:
        UserError: no run is chosen, or not two for a paired comparison.
    """
    if not runs:
        raise UserError("Choose at least one finished run.")
    if paired and len(runs) != 2:
        raise UserError("A paired comparison takes exactly two runs.")
    folders = [str(run.folder) for run in runs]
    words = [str(ROOT / "evaluate.py"), *(["--compare"] if paired else []), *folders]
    words += ["--protocol", protocol, "--save", str(out)]
    if scales and not paired:
        words += ["--lora-scale", *(f"{scale:g}" for scale in scales)]
    return tuple(words)


def export_commands(run: RunView, form: str, single_file: bool, out: Path) -> list[Command]:
    """Return the commands that export a run's adapters, and pack the export."""
    name = run.name.replace("/", "-")
    options = ["--single-file"] if form == "merged" and single_file else []
    export = ("-m", "dreambooth_pl.export", str(run.adapter), "--format", form, *options)
    folder = out / f"{name}-{form}"
    return [(*export, "--out", str(folder)), _pack(folder)]


def pack_run_command(run: RunView, out: Path) -> Command:
    """Return the command that packs a run's whole folder."""
    return _pack(run.folder, out / f"{run.name.replace('/', '-')}.zip")


def identifier_command(class_noun: str, identifier: str, base: str, out: Path) -> Command:
    """Return the command that shows what an identifier means to a base."""
    words = ("-m", "dreambooth_pl.identifiers", "--class", class_noun, "--base", base)
    return (*words, "--identifiers", identifier, "--count", "5", "--draw", str(out))


def _pack(folder: Path, target: Path | None = None) -> Command:
    return (
        "-m",
        "zipfile",
        "-c",
        str(target or folder.with_name(f"{folder.name}.zip")),
        str(folder),
    )


def _adapter(form: ImageForm, run: RunView) -> Path:
    if form.checkpoint != FINAL:
        if form.checkpoint not in run.checkpoints():
            raise UserError(f"{run.name} has no checkpoint {form.checkpoint!r}.")
        return run.folder / CHECKPOINTS / form.checkpoint
    if run.adapter is None:
        raise UserError(f"{run.name} has no checkpoint yet; wait for its first.")
    return run.adapter
