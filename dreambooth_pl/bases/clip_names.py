"""Names of a CLIP text encoder's layers, which differ between versions of transformers.

transformers 4 calls them `text_model.encoder…`, transformers 5 `encoder…` (where the class is
CLIPTextModel). Files always say `text_model.`: diffusers takes it off where it must, and kohya's
names have it.
"""

from __future__ import annotations

TEXT_MODEL = "text_model."


def with_text_model(name: str) -> str:
    """Return a text encoder's name as transformers 4 has it.

    >>> with_text_model("encoder.layers.0.mlp.fc1")
    'text_model.encoder.layers.0.mlp.fc1'
    """
    outside = name.startswith((TEXT_MODEL, "text_projection"))
    return name if outside else f"{TEXT_MODEL}{name}"
