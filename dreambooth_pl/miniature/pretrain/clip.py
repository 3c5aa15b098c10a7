"""Stage `clip`: a small CLIP on rendered pictures. Its text tower is the base's text encoder."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from dreambooth_pl.files.atomic import atomic_path, write_json
from dreambooth_pl.miniature.captions import noun_in, rare_tokens
from dreambooth_pl.miniature.pretrain.augmentation import jitter, soften
from dreambooth_pl.miniature.pretrain.loop import Limits, TrainingSchedule, autocast, train
from dreambooth_pl.miniature.pretrain.pictures import Pictures
from dreambooth_pl.miniature.world import CLASSES
from dreambooth_pl.prompts import IDENTIFIERS
from dreambooth_pl.randomness import stable_hash

BATCH = 128
CONTEXT = 40
"""Tokens of a prompt, including start and end. Longer prompts are truncated."""
MEAN = STD = (0.5, 0.5, 0.5)
MODEL: dict = {
    "embed_dim": 128,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 64,
        "timm_model_name": "test_resnet",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
    },
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": 49408,
        "width": 128,
        "heads": 2,
        "layers": 4,
    },
}
"""Configuration of the model, as open_clip reads it.

The image tower is a residual network of eight convolutions and a third of a million weights. It
sees pictures at half their size. It learns from random weights in minutes: after 40 seconds on two
cores it recognises three in four classes. RegNetX-002 recognises one in six in this time, a vision
transformer one in four after half an hour."""
CLASS_SCALE = 100.0
"""Scale of the cosines in the loss's second term. Texts that differ only in the noun are so similar
at first that the learned scale, which suits whole captions, gives hardly any gradient."""
LEARNING_RATE, TEXT_SHARE = 6e-3, 1 / 6
"""Learning rate of the image tower, whose batch norm allows and benefits from a high one, and its
factor for all other parameters."""


def build() -> nn.Module:
    """Build an untrained `open_clip.CLIP` of the miniature's size."""
    return open_clip.model.CLIP(**MODEL)


@functools.cache
def tokenizer() -> open_clip.SimpleTokenizer:
    """Return CLIP's tokenizer with the miniature's context length. Loading it takes 0.1 s."""
    return open_clip.SimpleTokenizer(context_length=CONTEXT)


def fit(
    pictures: Pictures,
    steps: int,
    seed: int,
    limits: Limits,
    report: Callable[[str], None],
    start: nn.Module | None = None,
    lock_text: bool = False,
) -> nn.Module | None:
    """Train by contrast (2103.00020, figure 3) with a learned temperature.

    Captions of the same meaning are positives for all pictures of the batch that have them, as in
    UniCL (2204.03610). A second term does the same with captions of only the class noun: in
    ordinary batches the scenery distinguishes pictures so well that the noun is hardly needed. All
    class nouns are sampled equally often.

    Args:
        pictures: the captioned pictures.
        steps: length of the training.
        seed: seed of all randomness.
        limits: device, state folder and time limit.
        report: called with each line of progress.
        start: a CLIP to continue from, as from `load`; `None` for an untrained one.
        lock_text: freeze the text tower and train the rest, including the text projection. A UNet
            conditioned on the tower stays valid.

    Returns:
        The averaged model; `None` if the training paused.
    """
    torch.manual_seed(stable_hash(seed, "clip", "init"))
    model = build() if start is None else start.train()
    model.visual.to(memory_format=torch.channels_last)  # a quarter faster on a CPU
    if lock_text:
        parts = (model.transformer, model.token_embedding, model.ln_final)
        for parameter in [p for part in parts for p in part.parameters()]:
            parameter.requires_grad_(False)
        model.positional_embedding.requires_grad_(False)
    meanings = [[meaning(c) for c in texts] for texts in pictures.captions]
    nouns = list(CLASSES)
    noun_of = torch.tensor([nouns.index(noun_in(texts[0])) for texts in pictures.captions])
    noun_tokens = tokenizer()([f"a {noun}" for noun in nouns])
    of_noun = [torch.nonzero(noun_of == i)[:, 0].numpy() for i in noun_of.unique().tolist()]

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        rng = np.random.default_rng(stable_hash(seed, "clip", step))
        wanted_nouns = rng.integers(len(of_noun), size=BATCH)
        index = np.sort([rng.choice(of_noun[noun]) for noun in wanted_nouns])
        pixels = torch.from_numpy(pictures.images[index]).permute(0, 3, 1, 2)
        pixels = pixels.to(limits.device).float() / 127.5 - 1
        generator = torch.Generator().manual_seed(stable_hash(seed, "clip", "jitter", step))
        pixels = jitter(pixels, generator)
        side = MODEL["vision_cfg"]["image_size"]
        pixels = F.interpolate(pixels, side, mode="bicubic", antialias=True).clamp(-1, 1)
        pixels = soften(pixels, generator)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        which = rng.integers(len(pictures.captions[0]), size=BATCH)
        pairs = list(zip(index, which, strict=True))
        texts = tokenizer()([pictures.captions[i][w] for i, w in pairs])
        texts = torch.cat([texts, noun_tokens]).to(limits.device)
        with autocast(limits.device):
            images = model.encode_image(pixels, normalize=True).float()
            words = encode_short_texts(model, texts)
        scale = model.logit_scale.exp().clamp(max=100)
        said = np.array([meanings[i][w] for i, w in pairs])
        same = torch.from_numpy(said[:, None] == said[None]).float().to(limits.device)
        target = same / same.sum(1, keepdim=True)
        logits = scale * images @ words[:BATCH].T
        paired = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        class_logits = CLASS_SCALE * images @ words[BATCH:].T
        wanted = noun_of[torch.from_numpy(index)].to(limits.device)
        classes = F.cross_entropy(class_logits, wanted)
        figures = {
            "paired": paired.detach(),
            "matched": (same.gather(1, logits.argmax(1)[:, None]) > 0).float().mean(),
            "class": (class_logits.argmax(1) == wanted).float().mean(),
        }
        return paired + classes, figures

    of_images = {id(p) for p in model.visual.parameters()}
    plan = TrainingSchedule(
        steps,
        LEARNING_RATE,
        warmup=min(200, steps // 10),
        weight_decay=0.05,
        share=lambda parameter: 1.0 if id(parameter) in of_images else TEXT_SHARE,
    )
    return train("clip", model, loss, plan, limits, report)


def encode_short_texts(model: nn.Module, tokens: Tensor) -> Tensor:
    """Encode tokens [B, L] to unit-length features [B, D], as `encode_text` does, but faster.

    Padding after the longest text is cut off. Attention is causal, so the result is the same.
    """
    ends = tokens.argmax(-1)
    length = int(ends.max()) + 1
    states = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    states = model.transformer(states, attn_mask=model.attn_mask[:length, :length])
    states = model.ln_final(states)[torch.arange(len(tokens), device=ends.device), ends]
    return F.normalize((states @ model.text_projection).float(), dim=-1)


def meaning(caption: str) -> str:
    """Return a caption without opening, comma, full stop and rare tokens.

    >>> meaning("a photo of a oue dog in the forest.")
    'a dog in the forest'
    """
    text = caption.removesuffix(".").replace(",", "")
    for opening in ("a photo of ", "a picture of "):
        text = text.removeprefix(opening)
    rare = _rare()
    return " ".join(word for word in text.split() if word not in rare)


@functools.cache
def _rare() -> frozenset[str]:
    return frozenset(rare_tokens()) | frozenset(IDENTIFIERS)


def load(folder: Path) -> nn.Module:
    """Load a model from `save` in float32. An image tower of another shape stays untrained."""
    state = load_file(folder / "open_clip_model.safetensors")
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    if config["vision_cfg"] != MODEL["vision_cfg"]:
        state = {k: v for k, v in state.items() if not k.startswith("visual.")}
    model = build()
    missing, unexpected = model.load_state_dict(state, strict=False)
    lacking = {k for k in missing if k != "attn_mask"}
    assert not unexpected and all(k.startswith("visual.") for k in lacking), (missing, unexpected)
    return model.float()


def save(model: nn.Module, folder: Path) -> None:
    """Write the model in fp16, for `open_clip.create_model_and_transforms("local-dir:folder")`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": MODEL,
        "preprocess_cfg": {
            "size": [MODEL["vision_cfg"]["image_size"]] * 2,
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    write_json(folder / "open_clip_config.json", config, indent=2)
    state = {
        k: v.to(torch.float16 if v.is_floating_point() else v.dtype).contiguous()
        for k, v in model.state_dict().items()
        if k != "attn_mask"
    }
    with atomic_path(folder / "open_clip_model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})


def text_encoder(model: nn.Module) -> CLIPTextModel:
    """Convert the text tower to the `CLIPTextModel` that diffusers pipelines use."""
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
