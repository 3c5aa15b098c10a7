"""Measurements of the embedded base: its autoencoder, its encoders and its images."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dreambooth_pl.bases.base import Base
from dreambooth_pl.evaluation.comparison import paired_difference
from dreambooth_pl.metrics.encoders import Encoders
from dreambooth_pl.miniature import subjects, world
from dreambooth_pl.miniature.pretrain.pictures import NOUNS, SETTINGS
from dreambooth_pl.miniature.settings import SETTINGS as PLACES
from dreambooth_pl.prompts import IDENTIFIERS, SUBJECTS, fill
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest, image_seed
from dreambooth_pl.sampling.settings import SamplingSettings

HELD_OUT_SEED = 1
"""Seed of the pictures measured on. Training pictures come from seed 0."""
KNOWN = tuple(dict.fromkeys(NOUNS))
"""Class nouns that the base was trained on."""


@torch.no_grad()
def through_vae(base: Base, images: Sequence[Image.Image]) -> tuple[float, list[Image.Image]]:
    """Encode and decode images with a base's autoencoder.

    Returns:
        The mean over images of the PSNR in dB, for pixel values in [0, 1], and the decoded images.
    """
    values, decoded_images = [], []
    for image in images:
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 127.5 - 1
        mean, _ = base.encode_images(pixels)
        decoded = base.vae.decode(mean / base.vae.config.scaling_factor).sample.clamp(-1, 1)
        error = ((decoded - pixels) / 2).pow(2).mean()
        values.append(float(-10 * error.log10()))
        array = ((decoded[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8)
        decoded_images.append(Image.fromarray(array.numpy()))
    return float(np.mean(values)), decoded_images


def nearest_subject(features: Tensor, labels: Tensor) -> float:
    """Return the share of rows [N, D] whose nearest other row has the same label.

    Args:
        features: unit-length rows [N, D].
        labels: label of each row, [N].
    """
    similarity = features @ features.T
    similarity.fill_diagonal_(-2)
    return float((labels[similarity.argmax(1)] == labels).float().mean())


def same_subject_auc(features: Tensor, subjects_: Tensor, classes: Tensor) -> float:
    """Return how well cosines tell subjects apart, as an area under the ROC curve.

    Positives are pairs of pictures of one subject; negatives, of two subjects of one class.

    Args:
        features: unit-length rows [N, D].
        subjects_: subject of each row, [N].
        classes: class of each row, [N].
    """
    similarity = features @ features.T
    upper = torch.ones_like(similarity, dtype=torch.bool).triu(1)
    same = subjects_[:, None] == subjects_[None]
    other = ~same & (classes[:, None] == classes[None])
    positive, negative = similarity[upper & same], similarity[upper & other]
    greater = (positive[:, None] > negative[None]).float().mean()
    ties = (positive[:, None] == negative[None]).float().mean()
    return float(greater + ties / 2)


def zero_shot(encoders: Encoders, images: Sequence[Image.Image], texts: Sequence[str]) -> list[int]:
    """Return the index of the text nearest to each image by CLIP."""
    similarity = encoders.clip.encode_images(images) @ encoders.clip.encode_texts(texts).T
    return similarity.argmax(1).tolist()


def rendered_accuracy(encoders: Encoders, count: int) -> dict[str, float]:
    """Measure CLIP's accuracy on held-out rendered pictures.

    The scenes have a class and a setting and no outfit, tint, finish, style or action.

    Args:
        encoders: its CLIP is measured.
        count: number of pictures.

    Returns:
        `clip_drawn_class` and `clip_drawn_setting`, 0 to 1.
    """
    rng = random.Random(HELD_OUT_SEED)
    scenes = []
    for _ in range(count):
        noun, setting = rng.choice(KNOWN), rng.choice(SETTINGS)
        scenes.append(world.sample_scene(rng, (noun,), (setting,)).plain())
    images = [world.render(s) for s in scenes]
    return {
        f"clip_drawn_{name}": value
        for name, value in _accuracy(encoders, images, [(s.noun, s.setting) for s in scenes])
    }


def generated_accuracy(
    base: Base, encoders: Encoders, sampling: SamplingSettings, count: int
) -> tuple[dict[str, float], list[Image.Image], list[str]]:
    """Measure how often CLIP recognises the requested class and setting in generated images.

    Args:
        base: the base that generates.
        encoders: its CLIP classifies the images.
        sampling: settings of the sampler.
        count: number of images.

    Returns:
        `clip_generated_class` and `clip_generated_setting`, 0 to 1; the images; their prompts.
    """
    rng = random.Random(HELD_OUT_SEED + 1)
    wanted = [(rng.choice(KNOWN), rng.choice(SETTINGS)) for _ in range(count)]
    prompts = [f"a {noun} {PLACES[setting].phrases[0]}" for noun, setting in wanted]
    images = _generate(base, prompts, sampling)
    figures = {f"clip_generated_{k}": v for k, v in _accuracy(encoders, images, wanted)}
    return figures, images, prompts


def identifier_gap(
    base: Base, encoders: Encoders, sampling: SamplingSettings, count: int
) -> tuple[dict[str, float], list[Image.Image], list[str]]:
    """Measure how an identifier changes the accuracy of the class in generated images.

    The figure is the class accuracy for "a {identifier} {class}" minus that for "a {class}",
    averaged over identifiers. Each image with an identifier is paired with a plain one from the
    same seed. No two pairs share a seed: plain images that all identifiers share would bias the
    whole figure by their chance errors.

    Args:
        base: the base that generates.
        encoders: its CLIP classifies the images.
        sampling: settings of the sampler.
        count: images per identifier.

    Returns:
        The figure with its 95 % interval by paired bootstrap; the images of those pairs in which
        CLIP recognises the class only once, pair by pair; their prompts with the class that CLIP
        recognised.
    """
    asked = [(name, KNOWN[i % len(KNOWN)]) for name in IDENTIFIERS for i in range(count)]
    texts = [f"a {noun}" for noun in KNOWN]

    def outcome(prompts: Sequence[str]) -> tuple[Tensor, list[Image.Image], list[str]]:
        images = _generate(base, prompts, sampling)
        found = [KNOWN[index] for index in zero_shot(encoders, images, texts)]
        hits = [f == noun for f, (_, noun) in zip(found, asked, strict=True)]
        labels = [f"{prompt}: {f}" for prompt, f in zip(prompts, found, strict=True)]
        return torch.tensor(hits).float(), images, labels

    plain = outcome([fill("a {identifier} {class}", None, noun) for _, noun in asked])
    named = outcome([fill("a {identifier} {class}", name, noun) for name, noun in asked])
    gap = paired_difference(named[0].view(1, 1, -1), plain[0].view(1, 1, -1))
    figures = {
        "identifier_gap": gap.mean,
        "identifier_gap_low": gap.low,
        "identifier_gap_high": gap.high,
    }
    unlike = torch.nonzero(named[0] != plain[0])[:, 0].tolist()
    images = [side[1][i] for i in unlike for side in (plain, named)]
    labels = [side[2][i] for i in unlike for side in (plain, named)]
    return figures, images, labels


def subject_figures(encoders: Encoders) -> dict[str, float]:
    """Measure how well DINO and CLIP tell the thirty subjects apart.

    Returns:
        `dino_nearest_subject`, `dino_auc` and `clip_auc`, 0 to 1. See `nearest_subject` and
        `same_subject_auc`.
    """
    images, subject_labels, class_labels = [], [], []
    nouns = sorted(set(SUBJECTS.values()))
    for index, (name, noun) in enumerate(SUBJECTS.items()):
        for photo in subjects.photos(name):
            images.append(world.render(photo))
            subject_labels.append(index)
            class_labels.append(nouns.index(noun))
    who, what = torch.tensor(subject_labels), torch.tensor(class_labels)
    dino, clip = encoders.dino.encode_images(images), encoders.clip.encode_images(images)
    return {
        "dino_nearest_subject": nearest_subject(dino, who),
        "dino_auc": same_subject_auc(dino, who, what),
        "clip_auc": same_subject_auc(clip, who, what),
    }


def _accuracy(
    encoders: Encoders, images: Sequence[Image.Image], wanted: Sequence[tuple[str, str]]
) -> list[tuple[str, float]]:
    classes = zero_shot(encoders, images, [f"a {noun}" for noun in KNOWN])
    hits = [KNOWN[c] == noun for c, (noun, _) in zip(classes, wanted, strict=True)]
    place_hits = []
    for noun in KNOWN:
        chosen = [i for i, (n, _) in enumerate(wanted) if n == noun]
        if chosen:
            texts = [f"a {noun} {PLACES[s].phrases[0]}" for s in SETTINGS]
            places = zero_shot(encoders, [images[i] for i in chosen], texts)
            place_hits += [SETTINGS[p] == wanted[i][1] for p, i in zip(places, chosen, strict=True)]
    return [("class", float(np.mean(hits))), ("setting", float(np.mean(place_hits)))]


def _generate(base: Base, prompts: Sequence[str], sampling: SamplingSettings) -> list[Image.Image]:
    requests = [
        ImageRequest(prompt, image_seed(HELD_OUT_SEED, "report", i))
        for i, prompt in enumerate(prompts)
    ]
    return list(generate(base, requests, sampling))
