"""The looks of dogs and cats: coats, markings, ears, tails and build."""

from __future__ import annotations

import random

from dreambooth_pl.miniature.canvas import Colour
from dreambooth_pl.miniature.look import Look

DOG_COATS: dict[str, Colour] = {
    "brown": (139, 84, 44),
    "black": (45, 42, 46),
    "white": (240, 236, 226),
    "golden": (218, 162, 76),
    "grey": (132, 134, 142),
    "red-brown": (172, 84, 40),
    "cream": (234, 208, 164),
    "chocolate": (88, 52, 34),
}
CAT_COATS: dict[str, Colour] = {
    "orange": (230, 142, 54),
    "black": (46, 44, 52),
    "white": (242, 240, 236),
    "grey": (126, 130, 142),
    "brown": (132, 96, 64),
    "cream": (236, 212, 176),
    "blue-grey": (98, 112, 136),
}
COLLARS: tuple[Colour, ...] = (
    (206, 40, 44),
    (36, 96, 190),
    (40, 150, 74),
    (240, 180, 30),
    (140, 66, 160),
    (30, 176, 184),
)
_EYES: tuple[Colour, ...] = ((58, 34, 20), (104, 62, 24), (70, 120, 170))
_CAT_EYES: tuple[Colour, ...] = ((150, 190, 60), (236, 190, 50), (90, 170, 220), (70, 170, 110))


# A repeated value is more frequent. "seed" places spots and patches.
_SHAPE = ("legs", "length", "girth", "head", "snout", "ear", "seed")
_DOG_KINDS = {
    "ears": ("floppy", "pointed", "folded", "long"),
    "pattern": ("plain", "belly", "patches", "saddle", "spots", "mask", "blaze", "socks"),
    "tail": ("long", "curl", "bushy", "stub"),
    "collar": ("yes", "no"),
}
_CAT_KINDS = {
    "ears": ("cat",),
    "pattern": ("plain", "tabby", "belly", "patches", "mask", "socks", "blaze"),
    "tail": ("long", "long", "bushy"),
    "collar": ("yes", "no", "no"),
}


def _contrasting(rng: random.Random, coats: dict[str, Colour], main: str) -> Colour:
    light = sum(coats[main]) > 380
    names = [n for n, c in coats.items() if n != main and (sum(c) > 380) != light]
    return coats[rng.choice(names)]


def _sample(
    rng: random.Random,
    coats: dict[str, Colour],
    eyes: tuple[Colour, ...],
    kinds: dict[str, tuple[str, ...]],
) -> Look:
    main = rng.choice(list(coats))
    return Look(
        colours=(
            coats[main],
            _contrasting(rng, coats, main),
            rng.choice(COLLARS),
            rng.choice(eyes),
        ),
        shape={k: rng.random() for k in _SHAPE},
        kind={"coat": main} | {k: rng.choice(v) if len(v) > 1 else v[0] for k, v in kinds.items()},
    )


def sample_dog(rng: random.Random) -> Look:
    """Sample a dog: coat, markings, ears, tail and build, each independently."""
    return _sample(rng, DOG_COATS, _EYES, _DOG_KINDS)


def sample_cat(rng: random.Random) -> Look:
    """Sample a cat: coat, markings, eyes and build, each independently."""
    return _sample(rng, CAT_COATS, _CAT_EYES, _CAT_KINDS)
