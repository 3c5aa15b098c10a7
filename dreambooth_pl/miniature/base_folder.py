"""The encoders in the folder of a base such as the miniature."""

from __future__ import annotations

from pathlib import Path

from dreambooth_pl.errors import UserError
from dreambooth_pl.metrics.encoders import EncoderSettings


def encoders_of(base: Path) -> EncoderSettings:
    """Return the settings that load the CLIP and DINO in a base's folder.

    Raises:
        UserError: `base` is not the folder of a base.
    """
    if not (base / "model_index.json").is_file():
        raise UserError(
            f"--base {base}: it is not the folder of a base, such as data/miniature (no "
            "model_index.json)."
        )
    return EncoderSettings(clip=f"local-dir:{base}/clip", dino=f"local-dir:{base}/dino")
