"""Where an export comes from: the run's settings, for headers and model cards."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dreambooth_pl.data.sidecars import is_picture
from dreambooth_pl.errors import UserError
from dreambooth_pl.runs.adapter_source import AdapterSource
from dreambooth_pl.runs.folder import CONFIG, PROBES


@dataclass(frozen=True)
class Origin:
    """What is known of a run, or of a bare LoRA file: then little.

    Attributes:
        name: what the export is called.
        base: name of the base model.
        identifier, class_noun: the subject's words; empty where unknown.
        config: the run's whole config; empty for a bare file.
        folder: the run's; None for a bare file.
        licence: of the base, where its own model card names one.
    """

    name: str
    base: str
    identifier: str
    class_noun: str
    config: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    licence: str | None = None

    def section(self, key: str) -> dict[str, Any]:
        """Return a part of the config by its dotted key; an empty one where there is none."""
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value or {}

    @property
    def steps(self) -> int | None:
        """How many optimiser steps the run was to have."""
        return self.section("trainer").get("max_steps")

    @property
    def photo_count(self) -> int | None:
        """How many photos lie where the run took them from, if they still do."""
        folder = Path(self.section("data").get("instance_dir") or "")
        if not self.config or not folder.is_dir():
            return None
        return sum(map(is_picture, folder.iterdir()))

    @property
    def probe_sheet(self) -> Path | None:
        """The contact sheet of the run's last probes."""
        sheets = sorted((self.folder / PROBES).glob("step_*.png")) if self.folder else []
        return sheets[-1] if sheets else None


def origin_of(source: AdapterSource, path: Path, base: str, name: str) -> Origin:
    """Return the origin of what `read_source(path)` has read.

    Args:
        source: a run's adapter or a bare file.
        path: where it is.
        base: name of the base that it is exported with.
        name: of the export.
    """
    folders = (path, *path.absolute().parents[:2])
    folder = next((f for f in folders if (f / CONFIG).is_file()), None)
    config: dict[str, Any] = {}
    if folder is not None and source.identifier:
        try:
            config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"{folder / CONFIG} cannot be read: {error}") from error
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
    """Return the licence that a base's own model card names in its first lines."""
    card = base / "README.md"
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    parts = text.split("---")
    if not text.startswith("---") or len(parts) < 3:
        return None
    try:
        front = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return None
    return front.get("license") if isinstance(front, dict) else None
