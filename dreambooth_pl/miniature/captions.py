"""Captions for scenes of the picture-book world, phrased as users write prompts."""

from __future__ import annotations

import functools
import random
import re

import open_clip

from dreambooth_pl.miniature.outfits import OUTFITS
from dreambooth_pl.miniature.settings import SETTINGS
from dreambooth_pl.miniature.world import CLASSES, Scene
from dreambooth_pl.prompts import IDENTIFIERS

RARE_TOKEN_SHARE = 0.4
"""Share of captions with a random rare token before the class noun. They make the base treat an
unknown identifier as neutral."""
_OPENINGS = ("", "", "", "", "", "a photo of ", "a picture of ")


def caption(scene: Scene, rng: random.Random) -> str:
    """Sample one of the many true captions of a scene. It may omit anything but the class noun."""
    described = any((scene.outfit, scene.tint, scene.finish, scene.style, scene.action))
    words = []
    if scene.tint and rng.random() < 0.93:
        words.append(scene.tint)
    elif scene.finish and rng.random() < 0.93:
        words.append(scene.finish)
    if rng.random() < RARE_TOKEN_SHARE:
        words.append(rng.choice(rare_tokens()))
    coat = scene.look.kind.get("coat")
    if coat and not scene.tint and rng.random() < 0.12:
        words.append(coat)
    words.append(scene.noun)
    article = "an" if words[0][0] in "aeiou" and words[0] in ("orange",) else "a"
    parts = [f"{article} {' '.join(words)}"]
    if scene.outfit and rng.random() < 0.93:
        parts.append(scene.outfit)
    if scene.action and rng.random() < 0.95:
        parts.append(scene.action)
    if rng.random() < (0.5 if described else 0.86):
        parts.append(rng.choice(SETTINGS[scene.setting].phrases))
    text = rng.choice(_OPENINGS) + " ".join(parts)
    if scene.style and rng.random() < 0.97:
        text += rng.choice((" ", ", ")) + scene.style
    return text + ("." if rng.random() < 0.3 else "")


@functools.cache
def rare_tokens() -> tuple[str, ...]:
    """Return CLIP's single tokens of 2 to 4 lower-case letters that no caption uses otherwise.

    They exclude the identifiers of the project's experiments, so the base never sees those.
    """
    phrases = [*OUTFITS, *(p for s in SETTINGS.values() for p in s.phrases), *CLASSES]
    used = set(re.findall(r"[a-z]+", " ".join(phrases).lower())) | set(IDENTIFIERS)
    used |= {"a", "an", "of", "photo", "picture", "red", "purple", "shiny", "wet", "cube", "shaped"}
    vocabulary = open_clip.SimpleTokenizer().encoder
    whole = (t.removesuffix("</w>") for t in vocabulary if t.endswith("</w>"))
    return tuple(t for t in whole if re.fullmatch(r"[a-z]{2,4}", t) and t not in used)


def noun_in(caption: str) -> str:
    """Return the first class noun in a caption.

    >>> noun_in("a photo of a oue stuffed animal beside a bowl.")
    'stuffed animal'
    """
    text = f" {caption.rstrip('.').replace(',', '')} "
    places = [(text.find(f" {noun} "), -len(noun), noun) for noun in CLASSES]
    found = [place for place in places if place[0] >= 0]
    assert found, f"no class noun in {caption!r}"
    return min(found)[2]
