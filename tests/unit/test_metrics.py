"""Metrics against loops over pairs, and their torchmetrics classes over splits and ranks."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.multiprocessing as mp

from dreambooth_pl.metrics import (
    PromptFidelity,
    SubjectFidelity,
    ceiling,
    ceiling_scores,
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


@pytest.mark.parametrize("split", [[8], [3, 5], [1] * 8])
def test_metric_classes_do_not_depend_on_the_split_into_batches(split: list[int]) -> None:
    images, texts, real = unit_rows(8, 6, 9), unit_rows(8, 6, 10), unit_rows(3, 6, 11)
    subject, prompt = SubjectFidelity(real=real), PromptFidelity()
    for i, t in zip(images.split(split), texts.split(split), strict=True):
        subject.update(i)
        prompt.update(i, t)
    assert subject.compute().item() == pytest.approx(
        subject_fidelity(images, real).item(), abs=1e-6
    )
    assert prompt.compute().item() == pytest.approx(prompt_fidelity(images, texts).item(), abs=1e-6)
    assert not list(subject.state_dict()), "nothing of a metric belongs into a checkpoint"


def _rank(rank: int, store: str, results: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    images, real = unit_rows(8, 6, 9), unit_rows(3, 6, 11)
    metric = SubjectFidelity(real=real)
    metric.update(images[:3] if rank == 0 else images[3:])  # unequal shares
    torch.save(metric.compute(), f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_give_the_number_of_one(tmp_path) -> None:
    arguments = (str(tmp_path / "store"), str(tmp_path))
    mp.start_processes(_rank, arguments, nprocs=2, start_method="fork")  # spawn imports anew: slow
    expected = subject_fidelity(unit_rows(8, 6, 9), unit_rows(3, 6, 11)).item()
    for rank in range(2):
        got = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert got.item() == pytest.approx(expected, abs=1e-6)
