"""The highest attainable scores: the subject itself, rendered as each prompt asks, then scored.

`python -m dreambooth_pl.miniature.attainable OUT [NAME...]` renders the answers and prints a table
of their scores. No model can reach the ceiling, which photos of the subject set: a subject in
purple, in a costume or in a jungle differs from its photos even in a perfect image. A rendered
world shows by how much.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from dreambooth_pl.commands.common import table_width
from dreambooth_pl.data.photos import read_photo
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.image_folder import write_index
from dreambooth_pl.evaluation.protocols import DREAMBENCH, ImagePlan, make_plan, protocol_name
from dreambooth_pl.evaluation.results import REAL_PHOTOS, Result, distance_notes
from dreambooth_pl.evaluation.score_set import ScoreSet
from dreambooth_pl.evaluation.subject import SubjectScorer
from dreambooth_pl.files.contact_sheet import contact_sheet
from dreambooth_pl.files.png_metadata import save_png
from dreambooth_pl.metrics.distances import load_measure
from dreambooth_pl.miniature import subjects, world
from dreambooth_pl.miniature.base_folder import encoders_of
from dreambooth_pl.miniature.outfits import OUTFITS
from dreambooth_pl.miniature.rendered_files import write_rendered
from dreambooth_pl.miniature.settings import SETTINGS
from dreambooth_pl.prompts import IDENTIFIERS, SUBJECTS, is_live
from dreambooth_pl.randomness import stable_hash
from dreambooth_pl.reporting.tables import TABLE_FORMATS, render
from dreambooth_pl.start import run_command, tells_mistakes

_SEED = 42
_SUBJECT = "{identifier} {class}"
_PHRASES: dict[str, dict[str, str]] = {
    **{phrase: {"outfit": phrase} for phrase in OUTFITS},
    **{phrase: {"style": phrase} for phrase in world.STYLES},
    **{phrase: {"action": phrase} for phrase in world.ACTIONS},
    **{phrase: {"setting": s.name} for s in SETTINGS.values() for phrase in s.phrases},
}
"""Phrase that may follow the class noun -> the fields of a scene that it sets."""
_ADJECTIVES: dict[str, dict[str, str]] = {
    "": {},
    **{name: {"tint": name} for name in world.TINTS},
    **{name: {"finish": name} for name in world.FINISHES},
}
"""Adjective that may precede the identifier -> the fields of a scene that it sets."""


def changes_of(template: str) -> dict[str, str]:
    """Parse a prompt template into fields of `Scene`.

    Raises:
        UserError: the picture-book world cannot show a part of the prompt.

    >>> changes_of("a wet {identifier} {class} on the beach")
    {'finish': 'wet', 'setting': 'beach'}
    """
    before, _, rest = template.lower().partition(_SUBJECT)
    adjective = before.strip().removeprefix("a").strip()
    if adjective not in _ADJECTIVES:
        raise UserError(f"{template!r}: the picture-book world has no {adjective!r} subjects.")
    changes = dict(_ADJECTIVES[adjective])
    while rest := rest.strip(" .,"):
        known = [phrase for phrase in _PHRASES if rest.startswith(phrase.lower())]
        if not known:
            raise UserError(f"{template!r}: the picture-book world has no picture of {rest!r}.")
        phrase = max(known, key=len)
        changes |= _PHRASES[phrase]
        rest = rest[len(phrase) :]
    return changes


def answer(name: str, template: str, number: int) -> world.Scene:
    """Return the scene that answers a prompt.

    Args:
        name: the subject.
        template: the prompt template.
        number: the image's number among those of this prompt. It decides the view.

    Returns:
        The subject as the prompt asks for it. If the prompt names no setting, the scene has one of
        the settings of the photos.

    Raises:
        UserError: the picture-book world cannot show a part of the prompt.
    """
    rng = random.Random(stable_hash("attainable", name, template, number))
    photo = subjects.photos(name)[0]
    place = rng.choice(subjects.SETTINGS)
    scene = world.sample_view(rng, replace(photo, setting=place))
    return replace(scene, **changes_of(template))


def render_answers(
    name: str, folder: Path, protocol: str = DREAMBENCH
) -> tuple[ImagePlan, list[Image.Image]]:
    """Render all images that a protocol asks for and write them with their index.

    Args:
        name: the subject.
        folder: where the images and the index go.
        protocol: name of a protocol or path of its file.

    Returns:
        The protocol's plan and the images.

    Raises:
        UserError: the picture-book world cannot show a prompt, or `folder` holds other pictures or
            cannot be written to.
    """
    plan = make_plan(protocol, IDENTIFIERS[0], subjects.NOUNS[name], _SEED, name)
    images, names = [], []
    for index, template in enumerate(plan.templates):
        number = plan.templates[:index].count(template)
        images.append(world.render(answer(name, template, number)))
        names.append(f"{index:04d}.png")
    write_rendered(folder, dict(zip(names, images, strict=True)), f"rendered answers for {name}")
    write_index(folder, names, plan)
    return plan, images


def score(names: Sequence[str], out: Path, base: Path, protocol: str = DREAMBENCH) -> list[Result]:
    """Render each subject's answers into `out/NAME` and score them against its photos.

    Args:
        names: the subjects.
        out: folder for the images and contact sheets.
        base: folder of the base whose CLIP and DINO score.
        protocol: the prompts, as for `evaluate.py`.

    Returns:
        A line for the photos against each other and one for the mean over subjects; if there are
        several subjects, also a line for each.

    Raises:
        UserError: `base` holds no base, the picture-book world cannot show a prompt, or `out` holds
            other pictures or cannot be written to.
    """
    asked, measure = protocol_name(protocol), load_measure(encoders_of(base))
    distance = measure.distance.name
    ceilings: list[ScoreSet] = []
    found: list[Result] = []
    count = 0
    for name in names:
        plan, images = render_answers(name, out / name, protocol)
        first = [plan.templates.index(template) for template in dict.fromkeys(plan.templates)]
        sheet = contact_sheet(
            [images[i] for i in first], [plan.prompts[i] for i in first], 9, title=name
        )
        save_png(sheet, out / f"{name}.png")
        photos = [read_photo(path) for path in subjects.write(name, out / "photos" / name)]
        live = is_live(subjects.NOUNS[name])
        scorer = SubjectScorer(measure, photos, name, live)
        ceilings.append(scorer.photos())
        count += len(photos)
        scored = scorer.images(plan, images).by_prompt
        found.append(Result("run", name, asked, (scored,), distance=distance))
    answers = tuple(own for line in found for own in line.sets)
    mean = [
        Result("ceiling", REAL_PHOTOS, asked, tuple(ceilings), count),
        Result("run", "rendered as asked", asked, answers, distance=distance),
    ]
    return [*mean, *found] if len(found) > 1 else mean


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m dreambooth_pl.miniature.attainable`."""
    parser = argparse.ArgumentParser(
        prog="python -m dreambooth_pl.miniature.attainable", description=__doc__
    )
    parser.add_argument("out", type=Path, help="folder for images and contact sheets")
    parser.add_argument(
        "names",
        nargs="*",
        type=subjects.known_subject,
        default=list(SUBJECTS),
        help="subjects; the thirty of DreamBench by default",
    )
    parser.add_argument(
        "--protocol",
        default=DREAMBENCH,
        help="probes, dreambench or a YAML file of prompts (default: %(default)s)",
    )
    parser.add_argument(
        "--base", type=Path, default=Path("data/miniature"), help="base with the encoders"
    )
    parser.add_argument("--format", choices=TABLE_FORMATS, default="table")
    return parser


@tells_mistakes
def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        args: command-line arguments; `None` for those of the process.
    """
    options = build_parser().parse_args(args)
    lines = score(list(dict.fromkeys(options.names)), options.out, options.base, options.protocol)
    rows = [line.row for line in lines]
    sys.stdout.write(render(rows, options.format, table_width(), notes=distance_notes(lines)))
    return 0


if __name__ == "__main__":
    run_command(main)
