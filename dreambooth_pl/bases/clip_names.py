"""Names of a CLIP text encoder's layers, which differ between versions of transformers.

transformers 4 uses `text_model.encoder…`, transformers 5 uses `encoder…` in `CLIPTextModel`. Files
always contain `text_model.`: diffusers removes it if necessary, and kohya's names include it.
"""

from __future__ import annotations

TEXT_MODEL = "text_model."


def with_text_model(name: str) -> str:
    """Return the name of a text encoder's layer or parameter in transformers 4.

    >>> with_text_model("encoder.layers.0.mlp.fc1")
    'text_model.encoder.layers.0.mlp.fc1'
    """
    outside = name.startswith((TEXT_MODEL, "text_projection"))
    return name if outside else f"{TEXT_MODEL}{name}"
