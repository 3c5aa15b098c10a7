"""Formulas against loops over pairs, and the table of scores over splits of the images."""

from __future__ import annotations

import itertools

import pytest
import torch
from PIL import Image

from dreambooth_pl.evaluation.subject import (
    class_scores,
    image_scores,
    photo_scores,
    prompt_scores,
)
from dreambooth_pl.metrics.functional import (
    copy_scores,
    diversity_score,
    drift_scores,
    preservation_scores,
    prompt_fidelity_scores,
    subject_fidelity_scores,
)
from dreambooth_pl.metrics.scores import (
    SCORES,
    EncodedImages,
    EncodedTexts,
    Scope,
    Score,
    register,
)


def unit_rows(n: int, d: int, seed: int) -> torch.Tensor:
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """In plain Python, normalising again: independent of the vectors' lengths."""
    a, b = a.tolist(), b.tolist()
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5)


def test_subject_fidelity_is_the_mean_over_all_pairs() -> None:
    generated, real = unit_rows(7, 12, 0), unit_rows(5, 12, 1)
    pairs = [cosine(g, r) for g in generated for r in real]
    got = subject_fidelity_scores(generated, real)
    assert got.mean().item() == pytest.approx(sum(pairs) / 35, abs=1e-6)
    third = sum(cosine(generated[2], r) for r in real) / 5
    assert got[2].item() == pytest.approx(third, abs=1e-6)


def test_prompt_fidelity_pairs_each_image_with_its_own_text() -> None:
    images, texts = unit_rows(6, 9, 2), unit_rows(6, 9, 3)
    own = [cosine(i, t) for i, t in zip(images, texts, strict=True)]
    got = prompt_fidelity_scores(images, texts)
    torch.testing.assert_close(got, torch.tensor(own), atol=1e-6, rtol=0)
    assert got.mean().item() == pytest.approx(sum(own) / 6, abs=1e-6)


def test_scores_are_neither_clamped_nor_scaled() -> None:
    image = unit_rows(1, 4, 4)
    assert prompt_fidelity_scores(image, -image).item() == pytest.approx(-1, abs=1e-6)
    assert subject_fidelity_scores(image, -image).item() == pytest.approx(-1, abs=1e-6)


def encoded(dino: torch.Tensor, clip: torch.Tensor | None = None) -> EncodedImages:
    """Images of which only the features count."""
    images = [Image.new("RGB", (8, 8))] * len(dino)
    return EncodedImages(images, dino, dino if clip is None else clip)


def test_ceiling_leaves_out_a_photo_with_itself() -> None:
    real, real_clip = unit_rows(5, 8, 5), unit_rows(5, 6, 50)
    found = photo_scores(encoded(real, real_clip))
    assert found.keys() == {"dino", "clip_i", "copy"}, "photos have no texts"
    for name, rows in (("dino", real), ("clip_i", real_clip)):
        table = [[cosine(a, b) for j, b in enumerate(rows) if i != j] for i, a in enumerate(rows)]
        ceiling = found[name].mean()
        assert ceiling.item() == pytest.approx(sum(map(sum, table)) / 20, abs=1e-6)
        own = torch.tensor([sum(row) / 4 for row in table])
        torch.testing.assert_close(found[name], own, atol=1e-6, rtol=0)
        assert ceiling < subject_fidelity_scores(rows, rows).mean(), "self pairs would raise it"
    nearest = [max(cosine(a, b) for j, b in enumerate(real) if i != j) for i, a in enumerate(real)]
    torch.testing.assert_close(found["copy"], torch.tensor(nearest), atol=1e-6, rtol=0)
    assert photo_scores(encoded(torch.eye(3)))["dino"].tolist() == [0, 0, 0]


def test_one_photo_has_no_ceiling() -> None:
    assert photo_scores(encoded(unit_rows(1, 8, 6))) is None


def test_features_must_have_unit_length() -> None:
    with pytest.raises(AssertionError, match="unit length"):
        subject_fidelity_scores(2 * unit_rows(2, 8, 7), unit_rows(2, 8, 8))


def test_preservation_is_the_mean_over_all_pairs() -> None:
    class_images, real = unit_rows(6, 10, 12), unit_rows(4, 10, 13)
    expected = [sum(cosine(c, r) for r in real) / 4 for c in class_images]
    got = preservation_scores(class_images, real)
    torch.testing.assert_close(got, torch.tensor(expected), atol=1e-6, rtol=0)


def test_copy_scores_take_the_nearest_photo() -> None:
    generated, real = unit_rows(6, 10, 14), unit_rows(4, 10, 15)
    expected = [max(cosine(g, r) for r in real) for g in generated]
    got = copy_scores(generated, real)
    torch.testing.assert_close(got, torch.tensor(expected), atol=1e-6, rtol=0)
    assert copy_scores(real[1:2], real).item() == pytest.approx(1, abs=1e-6), "a photo itself"


def test_drift_pairs_images_of_the_same_seed() -> None:
    base, tuned = unit_rows(6, 10, 16), unit_rows(6, 10, 17)
    expected = [1 - cosine(b, t) for b, t in zip(base, tuned, strict=True)]
    got = drift_scores(base, tuned)
    torch.testing.assert_close(got, torch.tensor(expected), atol=1e-6, rtol=0)
    assert drift_scores(base, base).abs().max() < 1e-6


def test_diversity_is_the_mean_over_pairs_of_different_images() -> None:
    rows = unit_rows(4, 10, 18)
    pairs = [1 - cosine(a, b) for a, b in itertools.combinations(rows, 2)]
    got = diversity_score(distances_between(rows)).item()
    assert got == pytest.approx(sum(pairs) / 6, abs=1e-6)
    with pytest.raises(ValueError, match="two images"):
        diversity_score(torch.zeros(1, 1))


def distances_between(rows: torch.Tensor) -> torch.Tensor:
    return (1 - rows @ rows.T).fill_diagonal_(0)


IMAGES, TEXTS, REAL = unit_rows(8, 6, 9), unit_rows(8, 6, 10), unit_rows(3, 6, 11)
KEPT, BASE = unit_rows(8, 6, 31), unit_rows(8, 6, 32)
PROMPTS = [distances_between(unit_rows(4, 6, 20 + prompt)) for prompt in range(8)]


def all_scores(indices: list[list[int]]) -> dict[str, torch.Tensor]:
    """Every score of these batches of images, or prompts in the case of DIV."""
    found: dict[str, list[torch.Tensor]] = {}
    for batch in indices:
        images, photos = encoded(IMAGES[batch]), encoded(REAL)
        words = ["text"] * len(batch)
        texts = EncodedTexts(words, words, TEXTS[batch], KEPT[batch])
        columns = image_scores(images, photos, texts)
        columns |= class_scores(images, encoded(BASE[batch]), photos)
        four = encoded(unit_rows(4, 6, 0))
        div = [prompt_scores(four, lambda _, own=prompt: PROMPTS[own])["div"] for prompt in batch]
        for name, values in (columns | {"div": torch.tensor(div)}).items():
            found.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in found.items()}


def by_loops() -> dict[str, float]:
    own = [cosine(i, t) for i, t in zip(IMAGES, TEXTS, strict=True)]
    kept = [cosine(i, t) for i, t in zip(IMAGES, KEPT, strict=True)]
    moved = [1 - cosine(i, b) for i, b in zip(IMAGES, BASE, strict=True)]
    table, base = ([[cosine(i, r) for r in REAL] for i in rows] for rows in (IMAGES, BASE))
    fidelity, before = (sum(sum(row) / 3 for row in rows) / 8 for rows in (table, base))
    pairs = list(itertools.combinations(range(4), 2))
    diversity = [sum(prompt[i, j].item() for i, j in pairs) / 6 for prompt in PROMPTS]
    return {
        "dino": fidelity,
        "clip_i": fidelity,
        "clip_t": sum(own) / 8,
        "clip_t_identifier": sum(kept) / 8,
        "pres": fidelity,
        "pres_base": before,
        "pres_change": fidelity - before,
        "div": sum(diversity) / 8,
        "copy": sum(max(row) for row in table) / 8,
        "drift": sum(moved) / 8,
    }


BATCHES = {
    "whole": [[*range(8)]],
    "split": [[0, 1, 2], [3, 4, 5, 6, 7]],
    "one by one": [[i] for i in range(8)],
    "another order": [[7, 2, 5], [0], [6, 1, 3, 4]],
}


@pytest.mark.parametrize("indices", BATCHES.values(), ids=BATCHES)
def test_scores_depend_neither_on_batches_nor_on_order(indices: list[list[int]]) -> None:
    got = all_scores(indices)
    assert {name: values.mean().item() for name, values in got.items()} == pytest.approx(
        by_loops(), abs=1e-6
    )
    whole, order = all_scores(BATCHES["whole"]), [index for batch in indices for index in batch]
    for name, values in got.items():
        torch.testing.assert_close(values, whole[name][order], atol=1e-6, rtol=0)


def test_without_the_bases_images_the_class_has_but_its_likeness() -> None:
    assert class_scores(encoded(IMAGES), None, encoded(REAL)).keys() == {"pres"}


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (
            Score("dino", "again", True, subject_fidelity_scores, Scope.IMAGE),
            "there is a score",
        ),
        (Score("a.b", "dotted", True, subject_fidelity_scores, Scope.IMAGE), "joined by dots"),
        (
            Score("pairs", "pairs", True, subject_fidelity_scores, Scope.CLASS, curve=True),
            "single images",
        ),
    ],
)
def test_an_entry_that_would_not_work_is_refused(score: Score, message: str) -> None:
    before = dict(SCORES)
    with pytest.raises(AssertionError, match=message):
        register(score)
    assert before == SCORES
