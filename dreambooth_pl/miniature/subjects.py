"""The miniature's subjects and their photos. They have the names and classes of DreamBench's.

`python -m dreambooth_pl.miniature.subjects OUT [NAME...]` renders them into `OUT/<name>/NN.png`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dreambooth_pl.miniature import world
from dreambooth_pl.miniature.canvas import Colour
from dreambooth_pl.miniature.look import Look, Pose, SubjectClass
from dreambooth_pl.miniature.rendered_files import write_rendered
from dreambooth_pl.prompts import OWN_SUBJECTS, SUBJECTS
from dreambooth_pl.randomness import stable_hash
from dreambooth_pl.start import run_command, tells_mistakes

NOUNS = {**OWN_SUBJECTS, **SUBJECTS}
"""Class noun of each subject: the dog of `data/sks_dog` and DreamBench's thirty subjects."""
SETTINGS = (
    "plain_wall",
    "living_room",
    "garden",
    "wooden_floor",
    "beach",
    "snow",
    "city",
    "mountain",
)
"""Settings of the photos: everyday places. The probe prompts ask for none of them."""

KINDS: dict[str, dict[str, str]] = {
    "backpack_dog": {"front": "face"},
    "bear_plushie": {"animal": "bear"},
    "duck_toy": {"form": "duck"},
    "grey_sloth_plushie": {"animal": "sloth"},
    "monster_toy": {"form": "monster"},
    "poop_emoji": {"form": "swirl"},
    "rc_car": {"form": "car"},
    "robot_toy": {"form": "robot"},
    "wolf_plushie": {"animal": "wolf"},
}
"""Traits that a subject's name states."""
COLOURS: dict[str, Colour] = {
    "grey_sloth_plushie": (150, 152, 160),
    "pink_sunglasses": (242, 104, 162),
    "poop_emoji": (128, 84, 52),
    "red_cartoon": (214, 48, 44),
}
"""Main colours that a subject's name states."""


def look_of(name: str, subject_class: SubjectClass, rng: random.Random) -> Look:
    """Sample a look of the class that agrees with the subject's name."""
    look = subject_class.sample_look(rng)
    look = replace(look, kind=look.kind | KINDS.get(name, {}))
    return look.with_colour(COLOURS[name]) if name in COLOURS else look


def photos(name: str, count: int = 5) -> list[world.Scene]:
    """Return the scenes of a subject's photos: one look, different poses, views, places, light.

    The subjects have random seeds of their own, so no training picture shows one of them.
    """
    noun = NOUNS[name]
    subject_class = world.CLASSES[noun]
    rng = random.Random(stable_hash("held-out subject", name))
    look = look_of(name, subject_class, rng)
    poses = [p for p in subject_class.poses if p != "running"]
    rng.shuffle(poses)
    places = rng.sample(SETTINGS, count)
    scenes = []
    for i in range(count):
        scene = world.Scene(noun, look, Pose(poses[0]), places[i])
        viewed = world.sample_view(rng, scene)
        pose = replace(viewed.pose, name=poses[i % len(poses)])
        portrait = pose.name == "portrait"
        scenes.append(replace(viewed, pose=pose, y=1.0 if portrait else min(viewed.y, 0.93)))
    return scenes


def write(name: str, folder: Path, size: int = 128) -> list[Path]:
    """Render a subject's photos as `folder/NN.png`.

    Args:
        name: the subject.
        folder: where the photos go.
        size: their side in pixels.

    Returns:
        The paths.

    Raises:
        UserError: `folder` holds other pictures, which must be neither mixed with these nor lost,
            or cannot be written to. Nothing is written if it holds other pictures.
    """
    images = {f"{i:02d}.png": world.render(scene, size) for i, scene in enumerate(photos(name))}
    return write_rendered(folder, images, f"rendered photos of {name}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m dreambooth_pl.miniature.subjects`."""
    parser = argparse.ArgumentParser(
        prog="python -m dreambooth_pl.miniature.subjects", description=__doc__
    )
    parser.add_argument("out", type=Path, help="output folder; each subject gets a folder in it")
    parser.add_argument(
        "names",
        nargs="*",
        type=known_subject,
        default=list(NOUNS),
        help=f"any of {', '.join(NOUNS)}; all by default",
    )
    return parser


def known_subject(name: str) -> str:
    """Return `name` if a subject has it.

    Raises:
        argparse.ArgumentTypeError: no subject has this name.
    """
    if name not in NOUNS:
        raise argparse.ArgumentTypeError(
            f"no subject is called {name!r}; there are {', '.join(NOUNS)}"
        )
    return name


@tells_mistakes
def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        args: command-line arguments; `None` for those of the process.
    """
    options = build_parser().parse_args(args)
    for name in options.names:
        print(f"{name}: {len(write(name, options.out / name))} photos")
    return 0


if __name__ == "__main__":
    run_command(main)
