"""Stage `dino`: a small ViT by self-distillation without labels (DINO, 2104.14294).

In drawn scenes the scenery is what crops of one picture have in common most, and a model trained on
them alone matches places, not subjects. So the two halves of the crops come from two pictures of
the same subject, in other poses, places and clothes.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from dreambooth_pl.miniature.pretrain.loop import Limits, Plan, train
from dreambooth_pl.miniature.pretrain.pictures import VIEWS, Pictures
from dreambooth_pl.randomness import stable_hash

BATCH = 40
LOCAL_CROPS = 2
PROTOTYPES = 2048
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
ARCHITECTURE = "vit_tiny_patch16_224"
MODEL_ARGS = {"img_size": 128, "depth": 5, "embed_dim": 192, "num_heads": 3}


class Student(nn.Module):
    """Backbone and projection head (section 3.1 and appendix C of the paper)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model(
            ARCHITECTURE, num_classes=0, dynamic_img_size=True, **MODEL_ARGS
        )
        width = MODEL_ARGS["embed_dim"]
        self.head = nn.Sequential(
            nn.Linear(width, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 128)
        )
        self.prototypes = nn.utils.parametrizations.weight_norm(
            nn.Linear(128, PROTOTYPES, bias=False)
        )
        self.prototypes.parametrizations.weight.original0.data.fill_(1)
        self.prototypes.parametrizations.weight.original0.requires_grad_(False)

    def forward(self, crops: list[Tensor]) -> list[Tensor]:
        """Prototype scores of each crop batch, [B, PROTOTYPES]."""
        features = [self.backbone(c) for c in crops]
        scores = self.prototypes(F.normalize(self.head(torch.cat(features)), dim=-1))
        return list(scores.split([len(c) for c in crops]))


class Distillation(nn.Module):
    """Student, teacher (its moving average) and the centre of the teacher's scores."""

    def __init__(self) -> None:
        super().__init__()
        self.student = Student()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("center", torch.zeros(PROTOTYPES))


def crops(
    images: Tensor, size: int, scale: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Random resized crops with mirroring, light and colour changes.

    Args:
        images: [B, 3, H, W] in [-1, 1].
        size: side of the crops, pixels.
        scale: least and most share of the picture's side that a crop shows.
    """
    b = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(b, generator=generator)

    side = uniform(*scale)
    theta = torch.zeros(b, 2, 3)
    mirror = torch.where(torch.rand(b, generator=generator) < 0.5, -1.0, 1.0)
    theta[:, 0, 0], theta[:, 1, 1] = side * mirror, side
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-1, 1) * (1 - side), uniform(-1, 1) * (1 - side)
    grid = F.affine_grid(theta.to(images.device), [b, 3, size, size], align_corners=False)
    out = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    gain = uniform(0.75, 1.25).view(-1, 1, 1, 1)
    warmth = torch.stack([uniform(0.92, 1.08) for _ in range(3)], 1).view(-1, 3, 1, 1)
    return ((out + 1) * (gain * warmth).to(out.device) - 1).clamp(-1, 1)


def fit(
    pictures: Pictures, steps: int, seed: int, limits: Limits, report: Callable[[str], None]
) -> nn.Module | None:
    """Train by multi-crop self-distillation; the backbone of the teacher is the result.

    Args:
        pictures: the set of subjects, `VIEWS` pictures each in a row.
    """
    torch.manual_seed(stable_hash(seed, "dino", "init"))
    model = Distillation().to(limits.device)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng(stable_hash(seed, "dino", step))
        generator = torch.Generator().manual_seed(stable_hash(seed, "dino", "crops", step))
        subject = rng.integers(len(pictures) // VIEWS, size=BATCH)
        which = np.stack([rng.permutation(VIEWS)[:2] for _ in range(BATCH)])
        pair = [
            torch.from_numpy(pictures.images[subject * VIEWS + view]).permute(0, 3, 1, 2)
            for view in which.T
        ]
        pair = [images.to(limits.device).float() / 127.5 - 1 for images in pair]
        momentum = 1 - (1 - 0.99) * (math.cos(math.pi * step / steps) + 1) / 2
        with torch.no_grad():
            for slow, fast in zip(
                model.teacher.parameters(), model.student.parameters(), strict=True
            ):
                slow.lerp_(fast, 1 - momentum)
        large = [crops(images, 128, (0.7, 1.0), generator) for images in pair]
        small = [crops(pair[i % 2], 64, (0.4, 0.7), generator) for i in range(LOCAL_CROPS)]
        with torch.autocast(limits.device.type, torch.bfloat16):
            with torch.no_grad():
                taught = model.teacher(large)
            seen = model.student([torch.cat(large), torch.cat(small)])
        student = [*seen[0].chunk(2), *seen[1].chunk(LOCAL_CROPS)]
        teacher = [
            F.softmax((t.float() - model.center) / TEACHER_TEMPERATURE, dim=-1) for t in taught
        ]
        pairs = [
            -(t * F.log_softmax(s.float() / STUDENT_TEMPERATURE, dim=-1)).sum(-1).mean()
            for i, t in enumerate(teacher)
            for j, s in enumerate(student)
            if i != j
        ]
        model.center.lerp_(torch.cat(taught).float().mean(0), 0.1)
        spread = float(teacher[0].mean(0).add(1e-9).log().mul(-teacher[0].mean(0)).sum())
        return torch.stack(pairs).mean(), {"entropy": spread}

    plan = Plan(steps, 1e-3, warmup=min(300, steps // 5), weight_decay=0.04, ema_decay=0.0)
    trained = train("dino", model, loss, plan, limits, report)
    return None if trained is None else trained.teacher.backbone


def save(backbone: nn.Module, folder: Path) -> None:
    """Write what `timm.create_model("local-dir:folder", num_classes=0)` reads, as fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architecture": ARCHITECTURE,
        "num_classes": 0,
        "num_features": MODEL_ARGS["embed_dim"],
        "global_pool": "token",
        "model_args": MODEL_ARGS,
        "pretrained_cfg": {
            "input_size": [3, 128, 128],
            "crop_pct": 1.0,
            "interpolation": "bicubic",
            "mean": MEAN,
            "std": STD,
            "num_classes": 0,
            "fixed_input_size": True,
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    state = {k: v.to(torch.float16).contiguous() for k, v in backbone.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
