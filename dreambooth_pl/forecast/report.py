"""What a dry run reports, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dreambooth_pl.data.photos import Note, VettingReport
from dreambooth_pl.memory.available import in_words


@dataclass(frozen=True)
class ClassImages:
    """The class images of a run."""

    folder: str | None
    """Where they are or go; None without prior preservation."""
    wanted: int
    """How many the run learns from."""
    there: int
    """How many of them are in the folder."""
    to_generate: int
    """How many are still to be generated."""


@dataclass(frozen=True)
class Trained:
    """A network that trains."""

    component: str
    """Its name in diffusers, such as `unet`."""
    adapter: str
    """The kind: lora, lokr, loha, oft or full."""
    rank: int | None
    """The adapters' rank; None for full."""
    parameters: int
    """Number of values that train."""


@dataclass(frozen=True)
class Memory:
    """The memory of a run, in bytes."""

    device: str
    """Such as `cpu` or `cuda:0`."""
    expected: int | None
    """What the run is expected to take at its peak; None if unknown."""
    measured: int | None
    """What the trial took at its peak."""
    available: int | None
    """What the device has available beside what this process has taken."""


@dataclass(frozen=True)
class Seconds:
    """About how long a run takes."""

    total: float
    """The sum of the others."""
    class_images: float
    """Generating the class images that are missing."""
    encoding: float
    """Encoding photos and class images."""
    training: float
    """All steps that are left."""
    probes: float
    """Generating the images of all rounds of probes and validation that are left."""
    trial_steps: int
    """How many training steps were timed for this; 0 if no step is left."""


@dataclass(frozen=True)
class Forecast:
    """What `train.py fit --dry-run` found. `plain` gives it as JSON does."""

    photos: VettingReport
    class_images: ClassImages
    trains: tuple[Trained, ...]
    first_step: int
    """The step that the run starts at; above 0 if it is resumed."""
    max_steps: int
    run_folder: str
    """The folder that the run would get, or goes on in."""
    memory: Memory
    seconds: Seconds
    notes: tuple[str, ...]
    """What is allowed and probably not meant."""

    def plain(self) -> dict[str, Any]:
        """Return the report in plain types.

        The keys are those of the fields here, with `memory` in bytes and `seconds` in seconds.
        `photos` has `folder`, `used` (file names), `mended`, `refused` and `warned` (lists of
        objects with `file` and `text`) and `remarks` (lines).
        """
        photos = self.photos
        return {
            "photos": {
                "folder": str(photos.folder),
                "used": [path.name for path in photos.used],
                "mended": _plain_notes(photos.fixed),
                "refused": _plain_notes(photos.refused),
                "warned": _plain_notes(photos.warned),
                "remarks": list(photos.remarks),
            },
            "class_images": asdict(self.class_images),
            "trains": [asdict(one) for one in self.trains],
            "first_step": self.first_step,
            "max_steps": self.max_steps,
            "run_folder": self.run_folder,
            "memory": asdict(self.memory),
            "seconds": asdict(self.seconds),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        return [
            *self.photos.lines(),
            self._class_images(),
            *(
                f"trains: {one.component}, {one.adapter}"
                f"{'' if one.rank is None else f' of rank {one.rank}'}, "
                f"{one.parameters:,} parameters"
                for one in self.trains
            ),
            self._steps(),
            self._memory(),
            *self._time(),
            f"run folder: {self.run_folder}",
            *(f"note: {note}" for note in self.notes),
            "Nothing was written.",
        ]

    def _class_images(self) -> str:
        own = self.class_images
        if own.folder is None:
            return "class images: none"
        return (
            f"class images: {own.wanted}, {own.there} of them there, {own.to_generate} to "
            f"generate, in {own.folder}"
        )

    def _steps(self) -> str:
        if self.first_step == self.max_steps:
            return f"steps: all {self.max_steps} are done; only what is missing at the end is made"
        if self.first_step:
            return f"steps: {self.max_steps}, going on from step {self.first_step}"
        return f"steps: {self.max_steps}"

    def _memory(self) -> str:
        own = self.memory
        if own.expected is None:
            return f"memory: unknown, on {own.device}"
        left = "" if own.available is None else f" ({in_words(own.available)} more are available)"
        return f"memory: about {in_words(own.expected)} at most, on {own.device}{left}"

    def _time(self) -> list[str]:
        own = self.seconds
        parts = (
            (own.class_images, "class images"),
            (own.encoding, "encoding pictures"),
            (own.training, "training"),
            (own.probes, "probes and validation"),
        )
        said = ", ".join(f"{_duration(part)} {name}" for part, name in parts if part)
        source = f", by {own.trial_steps} steps just now" if own.trial_steps else ""
        return [f"time: about {_duration(own.total)}{source}", *([f"  {said}"] if said else [])]


def _plain_notes(notes: Sequence[Note]) -> list[dict[str, str]]:
    return [{"file": note.path.name, "text": note.text} for note in notes]


def _duration(seconds: float) -> str:
    """Return a time in words, no finer than it is known.

    >>> _duration(7.4), _duration(340), _duration(9000)
    ('7 s', '6 min', '2.5 h')
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
