"""Scores over encoder features: subject fidelity (DINO, CLIP-I) and prompt fidelity (CLIP-T).

The formulas are those of DreamBooth (arXiv 2208.12242, section 4.1), all raw cosines in [-1, 1],
without clamp or factor. Functions are pure and return one score per image, because score tensors
are what is kept; the mean comes last. The Metric classes are the same functions with torchmetrics'
state, so that they sum correctly over batches and ranks.

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
        """Mean over everything seen, a scalar in [-1, 1]."""
        return (self.total / self.count).float()


class SubjectFidelity(_MeanScore):
    """DINO or CLIP-I of one subject, after the features that it is given.

    Args:
        real: [M, d] unit-length features of the subject's real photos.

    >>> metric = SubjectFidelity(real=torch.eye(2))
    >>> metric.update(torch.eye(2)[:1])
    >>> metric.compute()
    tensor(0.5000)
    """

    real: Tensor

    def __init__(self, real: Tensor, **kwargs) -> None:
        super().__init__(**kwargs)
        _check_features(real, real)
        self.register_buffer("real", real.detach().clone(), persistent=False)

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


def _check_features(*features: Tensor) -> None:
    for rows in features:
        assert rows.ndim == 2 and len(rows) > 0, "features are [N, d], N >= 1"
        lengths = rows.norm(dim=1)
        assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-3), "not of unit length"
    assert len({rows.shape[1] for rows in features}) == 1, "features of different encoders"
