"""The parts of the stages `clip` and `dino`: augmentation, text encoder, losses and batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dreambooth_pl.miniature.pretrain import (
    augmentation,
    clip,
    dino,
)


def test_soft_pictures_keep_their_large_shapes_and_lose_their_details():
    stripes = torch.ones(40, 3, 64, 64)
    stripes[..., ::2] = -1
    halves = torch.ones(40, 3, 64, 64)
    halves[..., :32] = -1
    for seed in range(3):
        seen = augmentation.soften(stripes, torch.Generator().manual_seed(seed))
        softened = (seen - stripes).abs().amax((1, 2, 3)) > 0.1
        assert 8 < softened.sum() < 32
        assert seen[softened].std() < 0.9
        assert torch.equal(seen[~softened], stripes[~softened])
        large = augmentation.soften(halves, torch.Generator().manual_seed(seed))
        assert torch.allclose(large[..., :16], halves[..., :16], atol=0.05)


def test_the_text_encoder_is_the_text_tower():
    torch.manual_seed(0)
    model = clip.build().eval()
    encoder = clip.text_encoder(model)
    tokens = clip.tokenizer()(["a sks dog in the forest", "a cat"])
    padded = torch.where(tokens == 0, 49407, tokens)
    with torch.no_grad():
        states = encoder(padded).last_hidden_state
        ends = states[torch.arange(2), tokens.argmax(-1)] @ model.text_projection
        expected = model.encode_text(tokens)
    assert torch.allclose(ends, expected, atol=1e-5)


def test_short_texts_are_encoded_as_padded_ones():
    torch.manual_seed(0)
    model = clip.build().eval()
    tokens = clip.tokenizer()(["a sks dog in the forest", "a cat"])
    with torch.no_grad():
        expected = model.encode_text(tokens, normalize=True)
        features = clip.encode_short_texts(model, tokens)
    assert torch.allclose(features, expected, atol=1e-5)


def test_crops_are_within_range_and_keyed():
    images = torch.rand(2, 3, 128, 128) * 2 - 1
    first, second = (
        augmentation.crops(images, 64, (0.3, 0.6), torch.Generator().manual_seed(1))
        for _ in range(2)
    )
    assert first.shape == (2, 3, 64, 64)
    assert first.abs().max() <= 1
    assert torch.equal(first, second)


def test_subjects_are_told_apart_as_a_loop_says():
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(6, 4, generator=generator), dim=-1)
    losses = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        scores = torch.stack([rows[i] @ rows[j] / dino.CONTRAST_TEMPERATURE for j in others])
        losses.append(scores.logsumexp(0) - scores[others.index((i + 3) % 6)])
    assert dino.apart(rows).item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_on_plain_ground_only_the_scenery_changes():
    images = torch.rand(200, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    masks = torch.zeros(200, 16, 16, dtype=torch.uint8)
    masks[:, :, 8:] = 255
    seen = augmentation.on_plain_ground(images, masks, torch.Generator().manual_seed(1))
    assert torch.allclose(seen[..., 34:], images[..., 34:])
    changed = (seen != images).flatten(1).any(1)
    assert 0.2 < changed.float().mean() < 0.4
    grounds = seen[changed][..., :30]
    assert grounds.std((2, 3)).max() < 1e-6  # one colour each
    assert grounds.mean((2, 3)).std(0).min() > 0.4 and grounds.abs().max() <= 1


def test_a_batch_shows_many_subjects_of_few_classes():
    by_noun = [np.arange(100 * i, 100 * i + 40) for i in range(15)]
    seen = set()
    for seed in range(20):
        subjects = dino.batch_of_subjects(np.random.default_rng(seed), by_noun)
        assert len(subjects) == len(set(subjects)) == dino.BATCH
        classes, counts = np.unique(subjects // 100, return_counts=True)
        assert counts.tolist() == [16, 16, 16, 16]
        seen |= set(classes)
    assert seen == set(range(15))
    assert len(dino.batch_of_subjects(np.random.default_rng(0), [np.arange(3)])) == dino.BATCH


def test_balanced_targets_use_all_prototypes_alike():
    scores = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) / 10
    targets = dino.balanced(scores)
    assert torch.allclose(targets.sum(1), torch.ones(64))
    assert torch.allclose(targets.mean(0), torch.full((4,), 0.25), atol=0.03)
