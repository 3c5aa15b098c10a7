"""The verdict's numbers against loops over the same resamplings, and its sentence."""

from __future__ import annotations

import math

import pytest
import torch

from dreambooth_pl.evaluation.bootstrap import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED
from dreambooth_pl.evaluation.results import Result, mean_of, references
from dreambooth_pl.evaluation.score_set import ScoreSet
from dreambooth_pl.evaluation.shares import share_kept, share_of_range
from dreambooth_pl.reporting.verdict import ENOUGH_IMAGES, verdict

PROMPTS = ("a {class} at sea", "a {class} in snow", "a blue {class}")


def scores(seed: int, prompts: int, images: int, level: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return level + 0.05 * torch.randn(prompts, images, generator=generator)


def result(
    role: str, dino: torch.Tensor, clip_t: torch.Tensor | None = None, **more: object
) -> Result:
    """A result of one subject: photos if there is no CLIP-T, else images of prompts."""
    tensors = {"dino": dino} | ({} if clip_t is None else {"clip_t": clip_t})
    templates = PROMPTS[: len(dino)] if len(dino) <= 3 else tuple(map(str, range(len(dino))))
    own = ScoreSet("rex", True, templates, ("",) * len(dino), tensors)
    name = {"ceiling": "real photos", "floor": "base"}.get(role, more.pop("name", "sks"))
    return Result(role, name, more.pop("protocol", "trial"), (own,), **more)


def evaluation(images: int = 2, level: float = 0.6) -> list[Result]:
    return [
        result("ceiling", scores(0, 1, 5, 0.8), n_images=5),
        result("floor", scores(1, 3, images, 0.2), scores(2, 3, images, 0.5)),
        result("run", scores(3, 3, images, level), scores(4, 3, images, 0.45)),
    ]


def quantile(values: list[float], share: float) -> float:
    """Linear interpolation between the two nearest values."""
    values = sorted(values)
    place = share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def test_shares_are_those_of_loops_over_the_same_resamplings() -> None:
    own, low, photos = scores(1, 4, 3, 0.6), scores(2, 4, 3, 0.2), scores(3, 1, 5, 0.8)
    own[1, 2] = low[1, 2] = math.nan  # a prompt with two images only
    top = photos.double().mean().item()
    generator = torch.Generator().manual_seed(BOOTSTRAP_SEED)
    draws = torch.randint(4, (BOOTSTRAP_DRAWS, 4), generator=generator).tolist()

    def mean(tensor: torch.Tensor, prompts: list[int]) -> float:
        values = [x for p in prompts for x in tensor[p].double().tolist() if not math.isnan(x)]
        return sum(values) / len(values)

    gone, kept = [], []
    for prompts in [[0, 1, 2, 3], *draws]:
        ours, floor = mean(own, prompts), mean(low, prompts)
        gone.append((ours - floor) / (top - floor))
        kept.append(ours / floor)
    for interval, values in (
        (share_of_range(own[None], low[None], photos[None]), gone),
        (share_kept(own[None], low[None]), kept),
    ):
        expected = [values[0], quantile(values[1:], 0.025), quantile(values[1:], 0.975)]
        assert list(interval.as_dict().values()) == pytest.approx(expected, abs=1e-9)


def test_shares_over_subjects_resample_subjects_with_their_photos() -> None:
    own = torch.tensor([[[0.5, 0.7]], [[0.3, 0.5]]])
    low, top = torch.tensor([[[0.2]], [[0.1]]]), torch.tensor([[[0.8]], [[0.9]]])
    share = share_of_range(own, low, top)
    # either subject alone, or both: the ends are the two subjects' own shares
    first, second = (0.6 - 0.2) / (0.8 - 0.2), (0.4 - 0.1) / (0.9 - 0.1)
    assert share.mean == pytest.approx((0.5 - 0.15) / (0.85 - 0.15), abs=1e-6)
    assert (share.low, share.high) == pytest.approx((second, first), abs=1e-6)


def test_no_way_to_go_has_no_share() -> None:
    high, low = torch.full((1, 2, 2), 0.9), torch.full((1, 2, 2), 0.5)
    assert share_of_range(low, high, low) is None
    assert share_kept(low, -low) is None
    few = share_of_range(torch.full((1, 1, 2), 0.7), low[:, :1], high[:, :1])
    assert few.mean == pytest.approx(0.5) and few.low == pytest.approx(0.5)


def test_verdict_of_one_run() -> None:
    ceiling, floor, run = evaluation()
    means = {
        role: {name: own.row.scores[name].mean for name in own.row.scores}
        for role, own in (("top", ceiling), ("low", floor), ("own", run))
    }
    way = means["top"]["dino"] - means["low"]["dino"]
    gone = (means["own"]["dino"] - means["low"]["dino"]) / way
    kept = means["own"]["clip_t"] / means["low"]["clip_t"]
    sentence = verdict([ceiling, floor, run])
    assert sentence.startswith(f"sks goes {gone * 100:.0f} % [")
    assert f" of the way from floor to ceiling, keeps {kept * 100:.0f} % [" in sentence
    assert sentence.endswith(
        f"of prompt fidelity, on 6 images: too few to tell runs apart, {ENOUGH_IMAGES} or more do "
        "(--protocol short)."
    )
    assert verdict(evaluation(images=ENOUGH_IMAGES)).endswith(f"on {3 * ENOUGH_IMAGES} images.")
    assert verdict([ceiling, floor]) == ""


def test_verdict_without_ceiling_or_floor_says_what_there_is() -> None:
    _, floor, run = evaluation()
    before, after = (own.row.scores["dino"].mean for own in (floor, run))
    photo = Result("ceiling", "real photos", "trial", (), 1)  # a single photo has no ceiling
    expected = f"sks takes DINO from {before:.2f} to {after:.2f}, keeps "
    assert verdict([photo, floor, run]).startswith(expected)
    clip_t = run.row.scores["clip_t"].mean
    assert verdict([run]).startswith(f"sks has a DINO of {after:.2f}, has a CLIP-T of {clip_t:.2f}")


def test_verdict_of_several_names_the_best_and_those_that_cannot_be_told_apart() -> None:
    ends = evaluation()[:2]
    noise = scores(5, 3, 2, 0.0)
    runs = [
        result("run", scores(3, 3, 2, level) + noise * spread, scores(4, 3, 2, 0.45), name=name)
        for name, level, spread in (("poor", 0.3, 0), ("best", 0.7, 0), ("near", 0.68, 3))
    ]
    sentence = verdict([*ends, *runs])
    assert sentence.startswith("Best of 3: best goes ")
    assert sentence.endswith("; 1 other cannot be told apart from it.")


def test_references_are_narrowed_to_the_subjects_of_a_result() -> None:
    both = []
    for level in (0.2, 0.4):
        own = result("floor", scores(1, 3, 2, level), scores(2, 3, 2, 0.5)).sets[0]
        both.append(own if level == 0.2 else ScoreSet("tom", *list(vars(own).values())[1:]))
    floor = Result("floor", "base", "trial", tuple(both))
    run = evaluation()[2]
    assert references(run, [floor])["floor"].sets == (both[0],)
    assert references(run, [floor, evaluation()[1]])["floor"].sets[0].subject == "rex"
    assert references(Result("run", "x", "trial", run.sets, group=1), [floor]) == {}


def test_averages_stand_for_their_runs_and_other_runs_for_themselves() -> None:
    def of(subject: str, own: Result) -> Result:
        return Result(
            own.role,
            own.name,
            own.protocol,
            tuple(ScoreSet(subject, *list(vars(part).values())[1:]) for part in own.sets),
        )

    ceiling, floor, run = evaluation(level=0.5)
    better = result("run", scores(9, 3, 2, 0.7), scores(4, 3, 2, 0.5), name="hta")
    ends = [[of(subject, own) for own in (ceiling, floor)] for subject in ("rex", "tom")]
    runs = [of("rex", run), of("tom", run), of("rex", better)]
    averages = [mean_of(f"mean {own[0].name}", own) for own in (*zip(*ends, strict=True), runs[:2])]
    sentence = verdict([*averages, *ends[0], *ends[1], *runs])
    assert sentence.startswith("Best of 2: hta goes ")
    assert verdict([*averages, *ends[0], *ends[1], *runs[:2]]).startswith("mean sks goes ")
