"""Scores over encoder features: fidelity to subject and prompt, preservation, diversity, drift.

The formulas are those of DreamBooth (arXiv 2208.12242, sections 4.1 and 4.3), all raw cosines in
[-1, 1], without clamp or factor; copy detector and drift are ours. Functions are pure and return
one score per image, because score tensors are what is kept; the mean comes last. The Metric classes
are the same functions with torchmetrics' state, so that they sum correctly over batches and ranks.

Every feature row has unit length; functions say so by assertion rather than normalise again.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


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


def subject_fidelity(generated: Tensor, real: Tensor) -> Tensor:
    """Mean over all pairs of generated [N, d] and real [M, d] features: mean(G R^T), a scalar."""
    return subject_fidelity_scores(generated, real).mean()


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


def prompt_fidelity(images: Tensor, texts: Tensor) -> Tensor:
    """Mean cosine of images [N, d] with their own texts [N, d]: CLIP-T, a scalar."""
    return prompt_fidelity_scores(images, texts).mean()


def ceiling_scores(real: Tensor) -> Tensor:
    """Mean cosine of each real photo with the *other* real photos of the subject.

    A photo with itself is 1 and is left out. The mean of the scores is the off-diagonal mean of
    R R^T: what a generator reaches that is as true to the photos as they are to each other.

    Args:
        real: [M, d] unit-length features, M >= 2: one photo alone has no ceiling.

    Returns:
        [M] in [-1, 1].

    >>> ceiling_scores(torch.eye(3))
    tensor([0., 0., 0.])
    """
    _check_features(real, real)
    if len(real) < 2:
        raise ValueError("the ceiling needs at least two real photos")
    cosines = real @ real.T
    return (cosines.sum(dim=1) - cosines.diagonal()) / (len(real) - 1)


def ceiling(real: Tensor) -> Tensor:
    """Off-diagonal mean of R R^T for real features [M, d], M >= 2: a scalar."""
    return ceiling_scores(real).mean()


def preservation_scores(class_images: Tensor, real: Tensor) -> Tensor:
    """How much images of the plain class look like the subject: PRES over DINO features.

    Lower is better: a tuned model that draws the subject for "a dog" has lost its other dogs. Say
    beside it what the untuned base scores on the same seeds, for any dog is somewhat like another.

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
    """How far tuning has moved images of the class: 1 - cosine of pairs drawn from the same seeds.

    Args:
        base: [C, d] unit-length features of the untuned base's images of the class.
        tuned: [C, d] the tuned model's, row i from the seed of row i of ``base``.

    Returns:
        [C] in [0, 2]; 0 is unchanged.

    >>> drift_scores(torch.eye(2), torch.eye(2).flip(0))
    tensor([1., 1.])
    """
    _check_features(base, tuned)
    assert base.shape == tuned.shape, "images in pairs"
    return 1 - (base * tuned).sum(dim=1)


def diversity_scores(distances: Tensor) -> Tensor:
    """Mean distance over the pairs of a prompt's images: DIV of one prompt.

    Args:
        distances: [K, K] between the images of one prompt, K >= 2: symmetric, 0 on the diagonal.

    Returns:
        A scalar, in the unit of the distance; 0 is one image K times.

    >>> diversity_scores(torch.tensor([[0.0, 0.5], [0.5, 0.0]]))
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


class _MeanScore(Metric):
    """Mean of scores over all images of all batches and ranks."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    total: Tensor
    count: Tensor

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        # float64: the split into batches must not show in the result.
        zero = torch.zeros((), dtype=torch.float64)
        self.add_state("total", default=zero, dist_reduce_fx="sum")
        self.add_state("count", default=zero.clone(), dist_reduce_fx="sum")

    def _add(self, scores: Tensor) -> None:
        self.total += scores.double().sum()
        self.count += len(scores)

    def compute(self) -> Tensor:
        """Mean over everything seen, a scalar."""
        return (self.total / self.count).float()


class _AgainstPhotos(_MeanScore):
    """Mean score of images, each against all of a subject's photos."""

    real: Tensor

    def __init__(self, real: Tensor, **kwargs) -> None:
        super().__init__(**kwargs)
        _check_features(real, real)
        self.register_buffer("real", real.detach().clone(), persistent=False)


class SubjectFidelity(_AgainstPhotos):
    """DINO or CLIP-I of one subject, after the features that it is given.

    Args:
        real: [M, d] unit-length features of the subject's real photos.

    >>> metric = SubjectFidelity(real=torch.eye(2))
    >>> metric.update(torch.eye(2)[:1])
    >>> metric.compute()
    tensor(0.5000)
    """

    def update(self, generated: Tensor) -> None:
        """Add generated images' features [N, d]."""
        self._add(subject_fidelity_scores(generated, self.real))


class PromptFidelity(_MeanScore):
    """CLIP-T.

    >>> metric = PromptFidelity()
    >>> metric.update(torch.eye(2), torch.eye(2))
    >>> metric.compute()
    tensor(1.)
    """

    def update(self, images: Tensor, texts: Tensor) -> None:
        """Add image features [N, d] and the features [N, d] of each one's own text."""
        self._add(prompt_fidelity_scores(images, texts))


class Preservation(_AgainstPhotos):
    """PRES of one subject over DINO features: lower is better.

    Args:
        real: [M, d] unit-length features of the subject's real photos.

    >>> metric = Preservation(real=torch.eye(2))
    >>> metric.update(torch.eye(2)[:1])
    >>> metric.compute()
    tensor(0.5000)
    """

    higher_is_better = False

    def update(self, class_images: Tensor) -> None:
        """Add features [C, d] of images of "a {class}"."""
        self._add(preservation_scores(class_images, self.real))


class CopyDetector(_AgainstPhotos):
    """Likeness of generated images to the photo nearest to each.

    Args:
        real: [M, d] unit-length features of the subject's real photos.

    >>> metric = CopyDetector(real=torch.eye(2))
    >>> metric.update(torch.eye(2)[:1])
    >>> metric.compute()
    tensor(1.)
    """

    higher_is_better = False

    def update(self, generated: Tensor) -> None:
        """Add generated images' features [N, d]."""
        self._add(copy_scores(generated, self.real))


class Drift(_MeanScore):
    """Change of the class by tuning, in [0, 2].

    >>> metric = Drift()
    >>> metric.update(torch.eye(2), torch.eye(2).flip(0))
    >>> metric.compute()
    tensor(1.)
    """

    higher_is_better = False

    def update(self, base: Tensor, tuned: Tensor) -> None:
        """Add features [C, d] of the untuned and of the tuned model's images, seed by seed."""
        self._add(drift_scores(base, tuned))


class Diversity(_MeanScore):
    """DIV: mean over prompts of the mean distance between a prompt's images.

    >>> metric = Diversity()
    >>> metric.update(torch.tensor([[0.0, 0.5], [0.5, 0.0]]))
    >>> metric.compute()
    tensor(0.5000)
    """

    def update(self, distances: Tensor) -> None:
        """Add the distances [K, K] between the images of one prompt."""
        self._add(diversity_scores(distances)[None])


def _check_features(*features: Tensor) -> None:
    for rows in features:
        assert rows.ndim == 2 and len(rows) > 0, "features are [N, d], N >= 1"
        lengths = rows.norm(dim=1)
        assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-3), "not of unit length"
    assert len({rows.shape[1] for rows in features}) == 1, "features of different encoders"
