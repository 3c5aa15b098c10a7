"""Formulas over encoder features: fidelity to subject and prompt, preservation, diversity, drift.

The formulas are those of DreamBooth (arXiv 2208.12242, sections 4.1 and 4.3): raw cosines in
[-1, 1], without clamp or factor. Copy detector and drift are ours. Functions are pure and return
one score per image, because score tensors are what is kept; the mean comes last. There is no
running state to add up over batches or ranks, and so no `torchmetrics.Metric`: the first rank
scores all images at once, after all ranks have generated them.

Every feature row has unit length. The functions assert it rather than normalise again.
"""

from __future__ import annotations

import torch
from torch import Tensor


def subject_fidelity_scores(generated: Tensor, real: Tensor) -> Tensor:
    """Mean cosine of each generated image with the subject's real photos.

    This is DINO over DINO features and CLIP-I over CLIP image features.

    Args:
        generated: [N, d] unit-length features of generated images.
        real: [M, d] unit-length features of the subject's real photos.

    Returns:
        [N] in [-1, 1].

    >>> one = torch.tensor([[1.0, 0.0]])
    >>> subject_fidelity_scores(one, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor([0.5000])
    """
    _check_features(generated, real)
    return (generated @ real.T).mean(dim=1)


def prompt_fidelity_scores(images: Tensor, texts: Tensor) -> Tensor:
    """Cosine of each image with its own text, row by row: CLIP-T over CLIP features.

    Args:
        images: [N, d] unit-length image features.
        texts: [N, d] unit-length text features, row i for image i.

    Returns:
        [N] in [-1, 1].

    >>> rows = torch.eye(2)
    >>> prompt_fidelity_scores(rows, rows.flip(0))
    tensor([0., 0.])
    """
    _check_features(images, texts)
    assert images.shape == texts.shape, "one text per image"
    return (images * texts).sum(dim=1)


def preservation_scores(class_images: Tensor, real: Tensor) -> Tensor:
    """How much images of the plain class look like the subject: PRES over DINO features.

    Lower is better: a tuned model that generates the subject for "a dog" has lost its other dogs.
    Report what the untuned base scores on the same seeds beside it, because any dog is somewhat
    like another.

    Args:
        class_images: [C, d] unit-length features of images of "a {class}".
        real: [M, d] unit-length features of the subject's real photos.

    Returns:
        [C] in [-1, 1].

    >>> preservation_scores(torch.eye(2)[:1], torch.eye(2))
    tensor([0.5000])
    """
    return subject_fidelity_scores(class_images, real)


def copy_scores(generated: Tensor, real: Tensor) -> Tensor:
    """Cosine of each generated image with the photo nearest to it: is it a copy of a photo?

    Args:
        generated: [N, d] unit-length features of generated images.
        real: [M, d] unit-length features of the subject's real photos.

    Returns:
        [N] in [-1, 1]; 1 is a copy.

    >>> copy_scores(torch.eye(2)[:1], torch.eye(2))
    tensor([1.])
    """
    _check_features(generated, real)
    return (generated @ real.T).amax(dim=1)


def drift_scores(base: Tensor, tuned: Tensor) -> Tensor:
    """How far tuning has moved images of the class: 1 - cosine of pairs from the same seeds.

    Args:
        base: [C, d] unit-length features of the untuned base's images of the class.
        tuned: [C, d] the tuned model's, row i from the seed of row i of `base`.

    Returns:
        [C] in [0, 2]; 0 is unchanged.

    >>> drift_scores(torch.eye(2), torch.eye(2).flip(0))
    tensor([1., 1.])
    """
    _check_features(base, tuned)
    assert base.shape == tuned.shape, "images in pairs"
    return 1 - (base * tuned).sum(dim=1)


def diversity_score(distances: Tensor) -> Tensor:
    """Mean distance over the pairs of a prompt's images: DIV of one prompt.

    Args:
        distances: [K, K] between the images of one prompt, K >= 2: symmetric, 0 on the diagonal.

    Returns:
        A scalar in the unit of the distance; 0 means K equal images.

    Raises:
        ValueError: there is a single image.

    >>> diversity_score(torch.tensor([[0.0, 0.5], [0.5, 0.0]]))
    tensor(0.5000)
    """
    count = len(distances)
    assert distances.shape == (count, count), "distances are [K, K]"
    if count < 2:
        raise ValueError("diversity needs at least two images of a prompt")
    assert torch.allclose(distances, distances.T, atol=1e-4), "distances are symmetric"
    assert (distances.diagonal().abs() < 1e-4).all(), "an image is at no distance from itself"
    pairs = distances.triu(diagonal=1)
    return pairs.sum() / (count * (count - 1) / 2)


def _check_features(*features: Tensor) -> None:
    for rows in features:
        assert rows.ndim == 2 and len(rows) > 0, "features are [N, d], N >= 1"
        lengths = rows.norm(dim=1)
        assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-3), "not of unit length"
    assert len({rows.shape[1] for rows in features}) == 1, "features of different encoders"
