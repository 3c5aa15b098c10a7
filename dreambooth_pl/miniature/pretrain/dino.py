"""Stage `dino`: a small ViT by self-distillation without labels (DINO, 2104.14294).

In drawn scenes the scenery is what crops of one picture have in common most, and a model trained on
them alone matches places, not subjects. So the two halves of the crops come from two pictures of
the same subject, in other poses, places and clothes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from dreambooth_pl.files.atomic import atomic_path, write_json
from dreambooth_pl.miniature.captions import noun_in
from dreambooth_pl.miniature.pretrain.loop import Limits, TrainingSchedule, autocast, train
from dreambooth_pl.miniature.pretrain.pictures import VIEWS, Pictures
from dreambooth_pl.randomness import stable_hash

BATCH = 64
CLASSES_PER_BATCH = 4
"""Subjects are told apart from others of their class, not by their class: so a batch shows few
classes and many subjects of each."""
LOCAL_CROPS = 2
PLAIN_SHARE = 0.3
"""How many pictures show the subject on a plain ground: there, it is all that views share."""
PROTOTYPES = 512
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05
SINKHORN_ROUNDS = 3
CONTRAST_TEMPERATURE = 0.2
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
        # Batch norm sets the batch's pictures apart from the first step on; without it an untrained
        # head gives all of them nearly the same output, and training hardly leaves that point.
        self.head = nn.Sequential(
            nn.Linear(width, 512, bias=False),
            nn.BatchNorm1d(512),
            nn.GELU(),
            nn.Linear(512, 512, bias=False),
            nn.BatchNorm1d(512),
            nn.GELU(),
            nn.Linear(512, 128, bias=False),
            nn.BatchNorm1d(128, affine=False),
        )
        self.prototypes = nn.utils.parametrizations.weight_norm(
            nn.Linear(128, PROTOTYPES, bias=False)
        )
        self.prototypes.parametrizations.weight.original0.data.fill_(1)
        self.prototypes.parametrizations.weight.original0.requires_grad_(False)

    def forward(self, crops: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Unit-length embeddings [N, 128] and prototype scores [N, PROTOTYPES] of all crops."""
        features = torch.cat([self.backbone(c) for c in crops])
        embeddings = F.normalize(self.head(features), dim=-1)
        return embeddings, self.prototypes(embeddings)


class Distillation(nn.Module):
    """Student, and teacher: its moving average."""

    def __init__(self) -> None:
        super().__init__()
        self.student = Student()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)


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


def on_plain_ground(images: Tensor, masks: Tensor, generator: torch.Generator) -> Tensor:
    """Some of the pictures with one random colour each in place of the scenery.

    Args:
        images: [B, 3, H, W] in [-1, 1].
        masks: [B, h, w] uint8, 255 on the subject.
    """
    b = len(images)
    chosen = torch.rand(b, 1, 1, 1, generator=generator) < PLAIN_SHARE
    colour = 2 * torch.rand(b, 3, 1, 1, generator=generator) - 1
    scenery = 1 - masks[:, None].float() / 255
    scenery = F.interpolate(scenery, images.shape[-2:], mode="bilinear") * chosen
    return torch.lerp(images, colour.to(images.device), scenery.to(images.device))


def balanced(scores: Tensor) -> Tensor:
    """The teacher's targets, [B, K], rows summing to 1: Sinkhorn-Knopp in place of centring.

    As in DINOv2 (2304.07193, section 4): over a batch all prototypes are used alike, which with
    small batches and few prototypes keeps the targets from becoming all the same.
    """
    targets = (scores / TEACHER_TEMPERATURE).exp()
    for _ in range(SINKHORN_ROUNDS):
        targets = targets / targets.sum(0, keepdim=True)
        targets = targets / targets.sum(1, keepdim=True)
    return targets


def apart(embeddings: Tensor) -> Tensor:
    """Contrast of the batch's subjects: each view must be nearest to the other of its subject.

    Self-distillation alone starts from outputs that are the same for all pictures and takes long to
    leave that point; telling the batch's subjects apart (NT-Xent, 2002.05709) gets it going, as
    KoLeo does in DINOv2.

    Args:
        embeddings: unit-length, [2 B, D], the first views before the second.
    """
    half = len(embeddings) // 2
    logits = embeddings @ embeddings.T / CONTRAST_TEMPERATURE
    logits = logits.fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(2 * half, device=logits.device).roll(half))


def batch_of_subjects(rng: np.random.Generator, by_noun: Sequence[np.ndarray]) -> np.ndarray:
    """Subjects [BATCH] of a few random classes, each as often as the others.

    Args:
        by_noun: the subjects of each class.
    """
    few = min(CLASSES_PER_BATCH, len(by_noun))
    groups = [by_noun[i] for i in rng.choice(len(by_noun), size=few, replace=False)]
    count = -(-BATCH // few)
    chosen = [rng.choice(group, count, replace=len(group) < count) for group in groups]
    return np.concatenate(chosen)[:BATCH]


def fit(
    pictures: Pictures,
    steps: int,
    seed: int,
    limits: Limits,
    report: Callable[[str], None],
    start: nn.Module | None = None,
) -> nn.Module | None:
    """Train by multi-crop self-distillation; the backbone of the teacher is the result.

    Args:
        pictures: the set of subjects, `VIEWS` pictures each in a row.
        start: a backbone to go on from; its head is new all the same.
    """
    torch.manual_seed(stable_hash(seed, "dino", "init"))
    model = Distillation()
    if start is not None:
        for part in (model.student, model.teacher):
            part.backbone.load_state_dict(start.state_dict())
    model = model.to(limits.device)
    nouns = np.array([noun_in(texts[0]) for texts in pictures.captions[::VIEWS]])
    by_noun = [np.flatnonzero(nouns == noun) for noun in sorted(set(nouns))]

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        rng = np.random.default_rng(stable_hash(seed, "dino", step))
        generator = torch.Generator().manual_seed(stable_hash(seed, "dino", "crops", step))
        subject = batch_of_subjects(rng, by_noun)
        which = np.stack([rng.permutation(VIEWS)[:2] for _ in range(BATCH)])
        pair = []
        for view in which.T:
            index = subject * VIEWS + view
            images = torch.from_numpy(pictures.images[index]).permute(0, 3, 1, 2)
            images = images.to(limits.device).float() / 127.5 - 1
            pair.append(on_plain_ground(images, torch.from_numpy(pictures.masks[index]), generator))
        momentum = 1 - (1 - 0.99) * (math.cos(math.pi * step / steps) + 1) / 2
        with torch.no_grad():
            for slow, fast in zip(
                model.teacher.parameters(), model.student.parameters(), strict=True
            ):
                slow.lerp_(fast, 1 - momentum)
        large = [crops(images, 128, (0.7, 1.0), generator) for images in pair]
        small = [crops(pair[i % 2], 64, (0.4, 0.7), generator) for i in range(LOCAL_CROPS)]
        with autocast(limits.device):
            with torch.no_grad():
                _, taught_scores = model.teacher(large)
            seen, seen_scores = model.student([torch.cat(large), torch.cat(small)])
        student = seen_scores.float().chunk(2 + LOCAL_CROPS)
        teacher = [balanced(scores.float()) for scores in taught_scores.chunk(2)]
        distilled = torch.stack(
            [
                -(t * F.log_softmax(s / STUDENT_TEMPERATURE, dim=-1)).sum(-1).mean()
                for i, t in enumerate(teacher)
                for j, s in enumerate(student)
                if i != j
            ]
        ).mean()
        contrast = apart(seen[: 2 * BATCH].float())
        figures = {"dino": distilled.detach(), "contrast": contrast.detach()}
        return distilled + contrast, figures

    plan = TrainingSchedule(
        steps,
        1e-3,
        muon_learning_rate=0.01,
        warmup=min(50, steps // 5),
        weight_decay=0.04,
        ema_decay=0.0,
    )
    trained = train("dino", model, loss, plan, limits, report)
    return None if trained is None else centred(trained.teacher.backbone, pictures)


@torch.no_grad()
def centred(backbone: nn.Module, pictures: Pictures, count: int = 1_000) -> nn.Module:
    """Take the mean feature of drawn pictures out of the last layer's bias, in place.

    The head's batch norm leaves that mean undetermined, and a large one presses all cosines against
    1. Centring is what DINO does to its teacher's outputs, too.
    """
    backbone.eval()
    images = torch.from_numpy(np.ascontiguousarray(pictures.images[:count])).permute(0, 3, 1, 2)
    device = backbone.norm.bias.device
    features = [backbone(b.to(device).float() / 127.5 - 1) for b in images.split(50)]
    backbone.norm.bias -= torch.cat(features).mean(0)
    return backbone


def load(folder: Path) -> nn.Module:
    """The backbone that `save` wrote, as float32."""
    return timm.create_model(
        f"local-dir:{folder}", pretrained=True, num_classes=0, dynamic_img_size=True
    ).float()


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
    write_json(folder / "config.json", config, indent=2)
    state = {k: v.to(torch.float16).contiguous() for k, v in backbone.state_dict().items()}
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
