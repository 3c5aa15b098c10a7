"""Stage `clip`: a small CLIP on drawn pictures; its text tower is the base's text encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from dreambooth_pl.miniature.pretrain.loop import Limits, Plan, train
from dreambooth_pl.miniature.pretrain.pictures import Pictures
from dreambooth_pl.randomness import stable_hash

BATCH = 256
CONTEXT = 40
"""Tokens of a prompt, start and end included; longer prompts are cut."""
MEAN = STD = (0.5, 0.5, 0.5)
MODEL: dict = {
    "embed_dim": 128,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 128,
        "layers": 5,
        "width": 192,
        "head_width": 64,
        "patch_size": 16,
    },
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": 49408,
        "width": 128,
        "heads": 2,
        "layers": 4,
    },
}
"""In open_clip's terms."""


def build() -> nn.Module:
    """An untrained `open_clip.CLIP` of the miniature's size."""
    return open_clip.model.CLIP(**MODEL)


def tokenizer() -> open_clip.SimpleTokenizer:
    """CLIP's own tokenizer with the miniature's context length."""
    return open_clip.SimpleTokenizer(context_length=CONTEXT)


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random shift by up to 8 px and brightness of [B, 3, 128, 128] pictures in [-1, 1]."""
    padded = F.pad(images, (8, 8, 8, 8), mode="reflect")
    dy, dx = torch.randint(0, 17, (2,), generator=generator).tolist()
    size = images.shape[-1]
    gain = 1 + 0.2 * (torch.rand(len(images), 1, 1, 1, generator=generator) - 0.5)
    return (padded[..., dy : dy + size, dx : dx + size] * gain.to(images.device)).clamp(-1, 1)


def fit(
    pictures: Pictures, steps: int, seed: int, limits: Limits, report: Callable[[str], None]
) -> nn.Module | None:
    """Contrastive training (2103.00020, figure 3) with a learned temperature.

    Captions that several pictures of a batch share are positives for all of them.
    """
    torch.manual_seed(stable_hash(seed, "clip", "init"))
    model = build()
    tokens = tokenizer()([c for texts in pictures.captions for c in texts])
    tokens = tokens.view(len(pictures), -1, CONTEXT)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng(stable_hash(seed, "clip", step))
        index = np.sort(rng.integers(len(pictures), size=BATCH))
        pixels = torch.from_numpy(pictures.images[index]).permute(0, 3, 1, 2)
        pixels = (pixels.to(limits.device).float() / 127.5 - 1).contiguous()
        generator = torch.Generator().manual_seed(stable_hash(seed, "clip", "jitter", step))
        pixels = jitter(pixels, generator)
        which = torch.from_numpy(rng.integers(tokens.shape[1], size=BATCH))
        texts = tokens[torch.from_numpy(index), which].to(limits.device)
        with torch.autocast(limits.device.type, torch.bfloat16):
            images = model.encode_image(pixels, normalize=True)
            words = model.encode_text(texts, normalize=True)
        scale = model.logit_scale.exp().clamp(max=100)
        logits = scale * images.float() @ words.float().T
        same = (texts[:, None] == texts[None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        value = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        return value, {"accuracy": float((logits.argmax(1) == torch.arange(BATCH)).float().mean())}

    return train("clip", model, loss, Plan(steps, 1.5e-3, weight_decay=0.05), limits, report)


def save(model: nn.Module, folder: Path) -> None:
    """Write what `open_clip.create_model_and_transforms("local-dir:folder")` reads, as fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": MODEL,
        "preprocess_cfg": {
            "size": [128, 128],
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    state = {
        k: v.to(torch.float16 if v.is_floating_point() else v.dtype).contiguous()
        for k, v in model.state_dict().items()
        if k != "attn_mask"
    }
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})


def text_encoder(model: nn.Module) -> CLIPTextModel:
    """The text tower as the `CLIPTextModel` that diffusers pipelines use."""
    text = MODEL["text_cfg"]
    config = CLIPTextConfig(
        vocab_size=text["vocab_size"],
        hidden_size=text["width"],
        intermediate_size=4 * text["width"],
        projection_dim=MODEL["embed_dim"],
        num_hidden_layers=text["layers"],
        num_attention_heads=text["heads"],
        max_position_embeddings=CONTEXT,
        hidden_act="quick_gelu",
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )
    encoder = CLIPTextModel(config).eval()
    source = model.state_dict()
    target: dict[str, Tensor] = {
        "embeddings.token_embedding.weight": source["token_embedding.weight"],
        "embeddings.position_embedding.weight": source["positional_embedding"],
        "final_layer_norm.weight": source["ln_final.weight"],
        "final_layer_norm.bias": source["ln_final.bias"],
    }
    for i in range(text["layers"]):
        here, there = f"transformer.resblocks.{i}.", f"encoder.layers.{i}."
        for kind in ("weight", "bias"):
            q, k, v = source[f"{here}attn.in_proj_{kind}"].chunk(3)
            target[f"{there}self_attn.q_proj.{kind}"] = q
            target[f"{there}self_attn.k_proj.{kind}"] = k
            target[f"{there}self_attn.v_proj.{kind}"] = v
            target[f"{there}self_attn.out_proj.{kind}"] = source[f"{here}attn.out_proj.{kind}"]
            target[f"{there}layer_norm1.{kind}"] = source[f"{here}ln_1.{kind}"]
            target[f"{there}layer_norm2.{kind}"] = source[f"{here}ln_2.{kind}"]
            target[f"{there}mlp.fc1.{kind}"] = source[f"{here}mlp.c_fc.{kind}"]
            target[f"{there}mlp.fc2.{kind}"] = source[f"{here}mlp.c_proj.{kind}"]
    prefix = "text_model." if any(k.startswith("text_model.") for k in encoder.state_dict()) else ""
    missing, unexpected = encoder.load_state_dict(
        {prefix + k: v for k, v in target.items()}, strict=False
    )
    assert not unexpected, unexpected
    assert all(k.endswith("position_ids") for k in missing), missing
    return encoder
