"""Metrics against loops over pairs, and their torchmetrics classes over splits and ranks."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.multiprocessing as mp

from dreambooth_pl.metrics.functional import (
    CopyDetector,
    Diversity,
    Drift,
    Preservation,
    PromptFidelity,
    SubjectFidelity,
    ceiling,
    ceiling_scores,
    copy_scores,
    diversity_scores,
    drift_scores,
    preservation_scores,
    prompt_fidelity,
    prompt_fidelity_scores,
    subject_fidelity,
    subject_fidelity_scores,
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
    assert subject_fidelity(generated, real).item() == pytest.approx(sum(pairs) / 35, abs=1e-6)
    third = sum(cosine(generated[2], r) for r in real) / 5
    assert subject_fidelity_scores(generated, real)[2].item() == pytest.approx(third, abs=1e-6)


def test_prompt_fidelity_pairs_each_image_with_its_own_text() -> None:
    images, texts = unit_rows(6, 9, 2), unit_rows(6, 9, 3)
    own = [cosine(i, t) for i, t in zip(images, texts, strict=True)]
    torch.testing.assert_close(
        prompt_fidelity_scores(images, texts), torch.tensor(own), atol=1e-6, rtol=0
    )
    assert prompt_fidelity(images, texts).item() == pytest.approx(sum(own) / 6, abs=1e-6)


def test_scores_are_neither_clamped_nor_scaled() -> None:
    image = unit_rows(1, 4, 4)
    assert prompt_fidelity(image, -image).item() == pytest.approx(-1, abs=1e-6)
    assert subject_fidelity(image, -image).item() == pytest.approx(-1, abs=1e-6)


def test_ceiling_leaves_out_a_photo_with_itself() -> None:
    real = unit_rows(5, 8, 5)
    pairs = [cosine(a, b) for (i, a), (j, b) in itertools.product(enumerate(real), repeat=2)
             if i != j]  # fmt: skip
    assert ceiling(real).item() == pytest.approx(sum(pairs) / 20, abs=1e-6)
    assert ceiling(real) < subject_fidelity(real, real), "self pairs would raise it"
    assert ceiling_scores(torch.eye(3)).tolist() == [0, 0, 0]


def test_one_photo_has_no_ceiling() -> None:
    with pytest.raises(ValueError, match="two real photos"):
        ceiling(unit_rows(1, 8, 6))


def test_features_must_have_unit_length() -> None:
    with pytest.raises(AssertionError, match="unit length"):
        subject_fidelity(2 * unit_rows(2, 8, 7), unit_rows(2, 8, 8))


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
    got = diversity_scores(distances_between(rows)).item()
    assert got == pytest.approx(sum(pairs) / 6, abs=1e-6)
    with pytest.raises(ValueError, match="two images"):
        diversity_scores(torch.zeros(1, 1))


def distances_between(rows: torch.Tensor) -> torch.Tensor:
    return (1 - rows @ rows.T).fill_diagonal_(0)


IMAGES, TEXTS, REAL = unit_rows(8, 6, 9), unit_rows(8, 6, 10), unit_rows(3, 6, 11)
PROMPTS = [distances_between(unit_rows(4, 6, 20 + prompt)) for prompt in range(8)]


def all_metrics(indices: list[list[int]]) -> dict[str, torch.Tensor]:
    """Every metric's value after batches of these images, or prompts in the case of DIV."""
    metrics = {
        "subject": SubjectFidelity(real=REAL),
        "prompt": PromptFidelity(),
        "preservation": Preservation(real=REAL),
        "copy": CopyDetector(real=REAL),
        "drift": Drift(),
        "diversity": Diversity(),
    }
    for batch in indices:
        for name in ("subject", "preservation", "copy"):
            metrics[name].update(IMAGES[batch])
        for name in ("prompt", "drift"):
            metrics[name].update(IMAGES[batch], TEXTS[batch])
        for prompt in batch:
            metrics["diversity"].update(PROMPTS[prompt])
    assert not any(metric.state_dict() for metric in metrics.values()), "not for a checkpoint"
    return {name: metric.compute() for name, metric in metrics.items()}


def by_loops() -> dict[str, float]:
    own = [cosine(i, t) for i, t in zip(IMAGES, TEXTS, strict=True)]
    table = [[cosine(i, r) for r in REAL] for i in IMAGES]
    fidelity = sum(sum(row) / 3 for row in table) / 8
    pairs = list(itertools.combinations(range(4), 2))
    diversity = [sum(prompt[i, j].item() for i, j in pairs) / 6 for prompt in PROMPTS]
    return {
        "subject": fidelity,
        "prompt": sum(own) / 8,
        "preservation": fidelity,
        "copy": sum(max(row) for row in table) / 8,
        "drift": 1 - sum(own) / 8,
        "diversity": sum(diversity) / 8,
    }


BATCHES = {
    "whole": [[*range(8)]],
    "split": [[0, 1, 2], [3, 4, 5, 6, 7]],
    "one by one": [[i] for i in range(8)],
    "another order": [[7, 2, 5], [0], [6, 1, 3, 4]],
}


@pytest.mark.parametrize("indices", BATCHES.values(), ids=BATCHES)
def test_metric_classes_depend_neither_on_batches_nor_on_order(indices: list[list[int]]) -> None:
    got = {name: value.item() for name, value in all_metrics(indices).items()}
    assert got == pytest.approx(by_loops(), abs=1e-6)


def _rank(rank: int, store: str, results: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    values = all_metrics([[0, 1, 2]] if rank == 0 else [[3, 4], [5, 6, 7]])  # unequal shares
    torch.save(values, f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_give_the_numbers_of_one(tmp_path) -> None:
    arguments = (str(tmp_path / "store"), str(tmp_path))
    mp.start_processes(_rank, arguments, nprocs=2, start_method="fork")  # spawn imports anew: slow
    expected = by_loops()
    for rank in range(2):
        got = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        values = {name: value.item() for name, value in got.items()}
        assert values == pytest.approx(expected, abs=1e-6)
