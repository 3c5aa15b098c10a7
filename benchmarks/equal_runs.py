"""How far apart do two trainings of one config come out, by how many images they are judged?

Takes two finished runs whose evaluation under a protocol is on disk (`evaluate.py A B --protocol
dreambench`), resamples its prompts and images into evaluations of other sizes, the same for both
runs, and prints how far the runs' shares of the way from floor to ceiling differ. The noise of a
machine's rounding is enough to make two trainings of one config different runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import dreambooth_pl  # noqa: F401  isort: skip  (mends the import of torchvision first)
import torch
from torch import Tensor

from dreambooth_pl.evaluation.record import REAL_PHOTOS_SET, read_sets
from dreambooth_pl.evaluation.run_images import BASE, TUNED

LAYOUTS = {
    "probes": (4, 1, 1, 1, 1),
    "short": (2,) * 13,
    "25 prompts, one image each": (1,) * 25,
    "dreambench": (4,) * 25,
}
"""Evaluations by the number of images of each of their prompts."""
RESAMPLINGS = 20_000
TENTH = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=Path, required=True, help="a run's folder")
    parser.add_argument("--second", type=Path, required=True, help="another run's")
    parser.add_argument("--protocol", default="dreambench", help="what both were evaluated under")
    parser.add_argument("--images", type=int, help="use so many images of each prompt; default all")
    options = parser.parse_args()
    folders = [run / "evaluation" / options.protocol for run in (options.first, options.second)]
    first, second = (read_sets(folder) for folder in folders)
    ceiling = first[REAL_PHOTOS_SET].scores["dino"].double().mean()
    floor, one, other = (
        sets[name].scores["dino"].double()[:, : options.images]
        for sets, name in ((first, BASE), (first, TUNED), (second, TUNED))
    )
    shares = [
        ((own.mean() - floor.mean()) / (ceiling - floor.mean())).item() for own in (one, other)
    ]
    print(f"{one.numel()} images: {shares[0]:.1%} and {shares[1]:.1%} of the way")
    for name, layout in LAYOUTS.items():
        apart, share = resample(one, other, floor, ceiling, layout)
        most = apart.abs().quantile(0.95)
        above = (apart.abs() > TENTH).double().mean()
        low, high = share.quantile(torch.tensor([0.025, 0.975], dtype=share.dtype)).tolist()
        print(
            f"{name} ({sum(layout)} images): 95 % of pairs differ by at most {most:.1%}, "
            f"{above:.1%} by more than {TENTH:.0%}; one run's interval is {low:.0%} to {high:.0%}"
        )


def resample(
    first: Tensor, second: Tensor, floor: Tensor, ceiling: Tensor, layout: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return by resampling the difference of two runs' shares, and the first run's share.

    Args:
        first, second, floor: scores [prompt, image] of the same prompts and seeds.
        ceiling: score of the photos.
        layout: number of images of each resampled prompt.
    """
    generator = torch.Generator().manual_seed(0)
    size = (RESAMPLINGS, len(layout))
    prompts = torch.randint(len(first), size, generator=generator)
    prompts = prompts.repeat_interleave(torch.tensor(layout), dim=1)
    images = torch.randint(first.shape[1], prompts.shape, generator=generator)
    below = floor[prompts, images].mean(dim=1)
    one, other = (
        (own[prompts, images].mean(dim=1) - below) / (ceiling - below) for own in (first, second)
    )
    return one - other, one


if __name__ == "__main__":
    main()
