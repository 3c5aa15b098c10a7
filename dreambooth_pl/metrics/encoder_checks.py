"""What is wrong with an encoder that a user names, told before or instead of a library's error."""

from __future__ import annotations

import hashlib
from pathlib import Path

import open_clip
import timm
import torch
from safetensors import safe_open

from dreambooth_pl.errors import UserError

LOCAL_DIR = "local-dir:"


def check_local_dir(model: str, config_name: str, key: str) -> None:
    """Refuse a local folder that is not there or lacks an encoder's config."""
    if not model.startswith(LOCAL_DIR):
        return
    folder = Path(model.removeprefix(LOCAL_DIR))
    if not (folder / config_name).is_file():
        found = "has no" if folder.is_dir() else "does not exist, so it has no"
        raise UserError(
            f"{key}: the folder {folder} {found} {config_name}. Point {key} at the folder of an "
            "encoder, or name one of a library."
        )


def check_clip_weights(model: str, pretrained: str | None) -> None:
    """Refuse a model name without weights, and weights trained with another activation."""
    if ":" in model:
        if pretrained is not None:
            raise UserError(
                f"fidelity.clip_pretrained: {model} brings its own weights; set "
                "fidelity.clip_pretrained to null."
            )
        return
    config = open_clip.get_model_config(model)
    if config is None:
        raise UserError(
            f"fidelity.clip: open_clip has no model named {model!r}. Use ViT-B-32-quickgelu with "
            "fidelity.clip_pretrained openai, or local-dir:FOLDER."
        )
    if pretrained is None:
        raise UserError(
            f"fidelity.clip_pretrained: {model} needs weights, for example openai; without them "
            "it would be random."
        )
    weights = open_clip.get_pretrained_cfg(model, pretrained)
    if not weights and not Path(pretrained).is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model))
        raise UserError(
            f"fidelity.clip_pretrained: {pretrained!r} is neither a file nor weights that "
            f"open_clip has for {model}: {tags}."
        )
    if not weights and not config.get("quick_gelu") and _is_openais(Path(pretrained), model):
        weights = {"quick_gelu": True}
    if weights and bool(weights.get("quick_gelu")) != bool(config.get("quick_gelu")):
        plain = model.removesuffix("-quickgelu")
        fitting = plain if plain != model else f"{model}-quickgelu"
        raise UserError(
            f"fidelity.clip: the weights {pretrained!r} were trained with another activation "
            f"function than {model} has, which gives wrong scores. Use {fitting}."
        )


def _is_openais(path: Path, model: str) -> bool:
    """Whether a file is OpenAI's own for the model: its address holds the SHA-256 of the file."""
    address = (open_clip.get_pretrained_cfg(model, "openai") or {}).get("url", "")
    expected = address.split("/")[-2:-1]
    if not expected or len(expected[0]) != 64:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == expected[0]


def check_dino_weights(model: str, pretrained: str | None) -> None:
    """Refuse a model that timm has no weights for, and a file of weights that is not there."""
    if ":" in model:
        if pretrained is not None:
            raise UserError(
                f"fidelity.dino_pretrained: {model} brings its own weights; set "
                "fidelity.dino_pretrained to null."
            )
    elif not timm.is_model_pretrained(model):
        raise UserError(
            f"fidelity.dino: timm has no model with weights named {model!r}. Use "
            "vit_small_patch16_224.dino or local-dir:FOLDER."
        )
    elif pretrained is not None and not Path(pretrained).is_file():
        raise UserError(
            f"fidelity.dino_pretrained: there is no file {pretrained}. Give the file of "
            f"{model}'s weights, or null to take timm's."
        )


def check_complete(model: torch.nn.Module, name: str, pretrained: str | None = None) -> None:
    """timm only logs weights that a file lacks and leaves them random: refuse such a file."""
    weights = Path(pretrained or Path(name.removeprefix(LOCAL_DIR)) / "model.safetensors")
    on_disk = pretrained is not None or name.startswith(LOCAL_DIR)
    if not on_disk or weights.suffix != ".safetensors" or not weights.is_file():
        return
    with safe_open(weights, framework="pt") as file:
        missing = sorted(set(model.state_dict()) - set(file.keys()))
    if missing:
        raise UserError(
            f"fidelity.dino: {weights} lacks {len(missing)} weights of the model, first "
            f"{missing[0]}. Save the model again with timm's save_for_hf."
        )


def not_loaded(kind: str, name: str, key: str, error: Exception) -> UserError:
    """Return the error to raise when a library could not load an encoder."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        f"{key}: the {kind} encoder {name} could not be loaded ({reason}). Without a network, "
        f"point {key} at a folder on disk: local-dir:FOLDER."
    )
