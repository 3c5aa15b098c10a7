"""Which photos a run has learned from: recorded in its checkpoints, compared when it goes on."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from dreambooth_pl.data.views import View
from dreambooth_pl.errors import UserError
from dreambooth_pl.training.checkpoint import SWITCH

PHOTOS_KEY = "dreambooth_pl_photos"  # in a checkpoint


def photo_record(views: Iterable[View]) -> dict[str, dict[str, str]]:
    """Return each photo's SHA-256, its mask's and its prompt, by the photo's file name."""
    first_views = {view.path: view for view in reversed(list(views))}
    return {
        path.name: {
            "photo": _sha256(path),
            "prompt": view.prompt,
            "mask": "" if view.mask is None else _sha256(view.mask),
        }
        for path, view in sorted(first_views.items())
    }


def check_same_photos(checkpoint: dict[str, Any], now: dict[str, dict[str, str]]) -> None:
    """Raise UserError that names the photos which are not those of the checkpoint.

    A checkpoint without such a record, of an earlier version, agrees with all photos.
    """
    before = checkpoint.get(PHOTOS_KEY)
    if before is None or before == now:
        return
    changes = []
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            changes.append(f"{name} is gone")
        elif name not in before:
            changes.append(f"{name} is new")
        else:
            changes += _changes(name, before[name], now[name])
    raise UserError(
        f"The photos differ from the checkpoint's: {'; '.join(changes)}. Put them back, or pass "
        f"--{SWITCH}=true to go on with these."
    )


def _changes(name: str, before: dict[str, str], now: dict[str, str]) -> list[str]:
    texts = {
        "photo": f"{name} is another picture",
        "prompt": f"the prompt of {name} is {now['prompt']!r}, was {before['prompt']!r}",
        "mask": f"the mask of {name} is another",
    }
    return [text for key, text in texts.items() if now[key] != before[key]]


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
