"""The run that an export comes from: its settings, for file headers and model cards."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreambooth_pl.data.sidecars import is_picture
from dreambooth_pl.files.plain_yaml import YAMLError, load_yaml, read_yaml
from dreambooth_pl.runs.adapter_source import AdapterSource
from dreambooth_pl.runs.checkpoint_adapters import SUFFIX, read_checkpoint
from dreambooth_pl.runs.finished import final_weights
from dreambooth_pl.runs.folder import CONFIG, PROBES


@dataclass(frozen=True)
class Origin:
    """The source of an export: a run, or a LoRA file without a run, of which less is known."""

    name: str
    """Name of the export."""
    base: str
    """Name of the base model."""
    identifier: str
    """The subject's identifier; empty if unknown."""
    class_noun: str
    """The subject's class noun; empty if unknown."""
    config: dict[str, Any] = field(default_factory=dict)
    """The run's whole config; empty without a run."""
    folder: Path | None = None
    """The run's folder; None without a run."""
    licence: str | None = None
    """Licence of the base; None if the base's model card names none."""

    def section(self, key: str) -> dict[str, Any]:
        """Return the section of the config under a dotted key; empty if it does not exist."""
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    @property
    def steps(self) -> int | None:
        """Number of optimiser steps that the config asks for; None if unknown."""
        return self.section("trainer").get("max_steps")

    @property
    def photo_count(self) -> int | None:
        """Number of photos in the run's photo folder; None if unknown or if the folder is gone."""
        folder = Path(self.section("data").get("instance_dir") or "")
        if not self.config or not folder.is_dir():
            return None
        return sum(map(is_picture, folder.iterdir()))

    @property
    def probe_sheet(self) -> Path | None:
        """Contact sheet of the run's last round of probes; None if there is none."""
        sheets = sorted((self.folder / PROBES).glob("step_*.png")) if self.folder else []
        return sheets[-1] if sheets else None


def origin_of(source: AdapterSource, path: Path, base: str, name: str) -> Origin:
    """Return the origin of an export.

    Args:
        source: what `read_source(path)` returned.
        path: the run's folder or the LoRA file.
        base: name of the base that the adapter is exported with.
        name: name of the export.

    Returns:
        The origin, with the run's config if `source` belongs to a run.

    Raises:
        UserError: the run's config cannot be read.
    """
    folders = (path, *path.absolute().parents[:2])
    folder = next((f for f in folders if (f / CONFIG).is_file()), None)
    config: dict[str, Any] = {}
    own = folder is not None and source.file.absolute() == final_weights(folder).absolute()
    if source.file.suffix == SUFFIX:
        checkpoint = read_checkpoint(source.file)
        config = dict(checkpoint.config)
        trainer = config.get("trainer")
        trainer = trainer if isinstance(trainer, dict) else {}
        config["trainer"] = {**trainer, "max_steps": checkpoint.step}
    elif folder is not None and own:
        config = read_yaml(folder / CONFIG) or {}
    return Origin(
        name,
        base,
        source.identifier,
        source.class_noun,
        config,
        folder if config else None,
        _licence(Path(base)),
    )


def _licence(base: Path) -> str | None:
    """Return the licence in the front matter of the base's model card; None if it names none."""
    card = base / "README.md"
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    parts = text.split("---")
    if not text.startswith("---") or len(parts) < 3:
        return None
    try:
        front = load_yaml(parts[1])
    except YAMLError:
        return None
    return front.get("license") if isinstance(front, dict) else None
