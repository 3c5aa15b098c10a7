"""Where a base's files are: in a folder here, or on the Hugging Face Hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download

from dreambooth_pl.errors import UserError


def read_model_index(name: str, revision: str | None) -> dict[str, Any]:
    """Return the base's `model_index.json`, from a folder or else from the Hugging Face Hub.

    What looks like a path is never looked for on the hub.

    Raises:
        UserError: it is in neither place, or cannot be read.
    """
    folder = Path(name)
    remedy = "Give the path of a diffusers pipeline folder, such as data/miniature, or a hub id."
    if folder.is_dir():
        index = folder / "model_index.json"
        if not index.is_file():
            raise UserError(
                f"model.base: the folder {name!r} has no model_index.json, so it is no diffusers "
                f"pipeline. {remedy}"
            )
    elif _looks_like_path(name):
        raise UserError(f"model.base: there is no folder {str(folder.absolute())!r}. {remedy}")
    else:
        try:
            index = Path(hf_hub_download(name, "model_index.json", revision=revision))
        except Exception as error:  # offline, unknown, gated, ...: the user's next step is the same
            reason = str(error).strip().split("\n")[0]
            raise UserError(
                f"model.base: {name!r} is neither a folder (tried {str(folder.absolute())!r}) nor "
                f"a hub id that can be reached ({type(error).__name__}: {reason}). {remedy} A hub "
                "id needs a network connection the first time, and sometimes `hf auth login`."
            ) from error
    try:
        return json.loads(index.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"model.base: {str(index)!r} is not valid JSON: {error}") from error


def _looks_like_path(name: str) -> bool:
    """Whether `name` can only be meant as a path: not `owner/name`, or `owner` is a folder here."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name):
        return True
    return Path(name).parent.is_dir() or name.endswith((".safetensors", ".ckpt"))
