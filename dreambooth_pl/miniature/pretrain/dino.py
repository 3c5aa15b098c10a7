"""Stage `dino`: a small ViT by self-distillation without labels (DINO, 2104.14294).

Crops of one rendered picture share mostly their scenery, and a model trained only on such crops
matches places instead of subjects. Therefore the crops come from two pictures of one subject in
different poses, places and clothes.
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
from dreambooth_pl.miniature.pretrain.augmentation import crops, on_plain_ground
from dreambooth_pl.miniature.pretrain.loop import Limits, TrainingSchedule, autocast, train
from dreambooth_pl.miniature.pretrain.pictures import VIEWS, Pictures
from dreambooth_pl.randomness import stable_hash

BATCH = 64
CLASSES_PER_BATCH = 4
"""Number of classes in a batch. The model must distinguish subjects of one class, so a batch shows
few classes and many subjects of each."""
LOCAL_CROPS = 2
PROTOTYPES = 512
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05
SINKHORN_ROUNDS = 3
CONTRAST_TEMPERATURE = 0.2
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
ARCHITECTURE = "vit_tiny_patch16_224"
MODEL_ARGS = {"img_size": 128, "depth": 5, "embed_dim": 192, "num_heads": 3}


class Student(nn.Module):
    """Backbone, projection head and prototypes (section 3.1 and appendix C of the paper)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model(
            ARCHITECTURE, num_classes=0, dynamic_img_size=True, **MODEL_ARGS
        )
        width = MODEL_ARGS["embed_dim"]
        # Batch norm makes the outputs of a batch differ from the first step on. Without it an
        # untrained head gives nearly the same output for all pictures, and training stays there.
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
        """Return unit-length embeddings [N, 128] and scores [N, PROTOTYPES] of all crops."""
        features = torch.cat([self.backbone(c) for c in crops])
        embeddings = F.normalize(self.head(features), dim=-1)
        return embeddings, self.prototypes(embeddings)


class Distillation(nn.Module):
    """The student and its moving average, the teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.student = Student()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)


def balanced(scores: Tensor) -> Tensor:
    """Turn the teacher's scores into targets [B, K] by Sinkhorn-Knopp instead of centring.

    Rows sum to 1. As in DINOv2 (2304.07193, section 4), a batch uses all prototypes equally. With
    small batches and few prototypes this prevents a collapse to equal targets.
    """
    targets = (scores / TEACHER_TEMPERATURE).exp()
    for _ in range(SINKHORN_ROUNDS):
        targets = targets / targets.sum(0, keepdim=True)
        targets = targets / targets.sum(1, keepdim=True)
    return targets


def apart(embeddings: Tensor) -> Tensor:
    """Return the contrastive loss (NT-Xent, 2002.05709) between the batch's subjects.

    Each view should be nearest to the other view of its subject. Self-distillation alone starts
    from equal outputs for all pictures and takes long to leave that point. This loss gets it
    started, as KoLeo does in DINOv2.

    Args:
        embeddings: unit-length [2 B, D], the first views before the second.
    """
    half = len(embeddings) // 2
    logits = embeddings @ embeddings.T / CONTRAST_TEMPERATURE
    logits = logits.fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(2 * half, device=logits.device).roll(half))


def batch_of_subjects(rng: np.random.Generator, by_noun: Sequence[np.ndarray]) -> np.ndarray:
    """Sample subjects [BATCH] from a few random classes, equally many from each.

    Args:
        rng: source of randomness.
        by_noun: indices of the subjects of each class.
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
    """Train by multi-crop self-distillation.

    Args:
        pictures: pictures of subjects, `VIEWS` consecutive ones of each.
        steps: length of the training.
        seed: seed of all randomness.
        limits: device, state folder and time limit.
        report: called with each line of progress.
        start: a backbone to continue from, with a new head; `None` for an untrained one.

    Returns:
        The teacher's backbone; `None` if the training paused.
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
    """Subtract the mean feature of rendered pictures from the last layer's bias, in place.

    The head's batch norm leaves this mean undetermined, and a large one pushes all cosines towards
    1. DINO centres its teacher's outputs as well.

    Args:
        backbone: the backbone to change.
        pictures: pictures to average over.
        count: how many of them.

    Returns:
        `backbone`.
    """
    backbone.eval()
    images = torch.from_numpy(np.ascontiguousarray(pictures.images[:count])).permute(0, 3, 1, 2)
    device = backbone.norm.bias.device
    features = [backbone(b.to(device).float() / 127.5 - 1) for b in images.split(50)]
    backbone.norm.bias -= torch.cat(features).mean(0)
    return backbone


def load(folder: Path) -> nn.Module:
    """Load a backbone from `save` in float32."""
    return timm.create_model(
        f"local-dir:{folder}", pretrained=True, num_classes=0, dynamic_img_size=True
    ).float()


def save(backbone: nn.Module, folder: Path) -> None:
    """Write the backbone in fp16, for `timm.create_model("local-dir:folder", num_classes=0)`."""
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
