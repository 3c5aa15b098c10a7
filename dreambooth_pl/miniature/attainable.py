"""What could be had at most: the subject itself, drawn as each prompt says, scored as images are.

`python -m dreambooth_pl.miniature.attainable OUT [NAME...]` draws it and prints the table. Of the
way from floor to ceiling a part cannot be gone at all: a subject in purple, in a costume or in a
jungle is not its photo, however well it is drawn. Only a drawn world can say how much that is.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from dreambooth_pl.commands.common import run_command, table_width, tells_mistakes
from dreambooth_pl.data.photos import read_photo
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.image_folder import write_index
from dreambooth_pl.evaluation.protocols import DREAMBENCH, ImagePlan, make_plan, protocol_name
from dreambooth_pl.evaluation.results import REAL_PHOTOS, Result, distance_notes
from dreambooth_pl.evaluation.score_set import ScoreSet
from dreambooth_pl.evaluation.subject import SubjectScorer
from dreambooth_pl.files.contact_sheet import contact_sheet
from dreambooth_pl.metrics.distances import load_measure
from dreambooth_pl.miniature import subjects, world
from dreambooth_pl.miniature.base_folder import encoders_of
from dreambooth_pl.miniature.drawn_files import write_drawn
from dreambooth_pl.miniature.outfits import OUTFITS
from dreambooth_pl.miniature.settings import SETTINGS
from dreambooth_pl.prompts import IDENTIFIERS, SUBJECTS, is_live
from dreambooth_pl.randomness import stable_hash
from dreambooth_pl.reporting.tables import TABLE_FORMATS, render

_SEED = 42
_SUBJECT = "{identifier} {class}"
_PHRASES: dict[str, dict[str, str]] = {
    **{phrase: {"outfit": phrase} for phrase in OUTFITS},
    **{phrase: {"style": phrase} for phrase in world.STYLES},
    **{phrase: {"action": phrase} for phrase in world.ACTIONS},
    **{phrase: {"setting": s.name} for s in SETTINGS.values() for phrase in s.phrases},
}
"""What may follow the class noun -> the fields of a scene that it sets."""
_ADJECTIVES: dict[str, dict[str, str]] = {
    "": {},
    **{name: {"tint": name} for name in world.TINTS},
    **{name: {"finish": name} for name in world.FINISHES},
}
"""What may stand before the identifier."""


def changes_of(template: str) -> dict[str, str]:
    """What a prompt asks for, as fields of `Scene`.

    Raises:
        UserError: the world has no picture of a part of the prompt.

    >>> changes_of("a wet {identifier} {class} on the beach")
    {'finish': 'wet', 'setting': 'beach'}
    """
    before, _, rest = template.lower().partition(_SUBJECT)
    adjective = before.strip().removeprefix("a").strip()
    if adjective not in _ADJECTIVES:
        raise UserError(f"{template!r}: the drawn world knows no {adjective!r} subjects.")
    changes = dict(_ADJECTIVES[adjective])
    while rest := rest.strip(" .,"):
        known = [phrase for phrase in _PHRASES if rest.startswith(phrase.lower())]
        if not known:
            raise UserError(f"{template!r}: the drawn world has no picture of {rest!r}.")
        phrase = max(known, key=len)
        changes |= _PHRASES[phrase]
        rest = rest[len(phrase) :]
    return changes


def answer(name: str, template: str, number: int) -> world.Scene:
    """The subject as a prompt asks for it, in the view of picture `number`.

    Where the prompt names no place, it is one of those that photos are taken in.
    """
    rng = random.Random(stable_hash("attainable", name, template, number))
    photo = subjects.photos(name)[0]
    place = rng.choice(subjects.SETTINGS)
    scene = world.sample_view(rng, replace(photo, setting=place))
    return replace(scene, **changes_of(template))


def draw_answers(
    name: str, folder: Path, protocol: str = DREAMBENCH
) -> tuple[ImagePlan, list[Image.Image]]:
    """Draw all images that a protocol asks of a subject, with their index, into `folder`.

    Raises:
        UserError: a prompt that the world has no picture of, or the folder holds other pictures or
            cannot be written to.
    """
    plan = make_plan(protocol, IDENTIFIERS[0], subjects.NOUNS[name], _SEED, name)
    images, names = [], []
    for index, template in enumerate(plan.templates):
        number = plan.templates[:index].count(template)
        images.append(world.draw(answer(name, template, number)))
        names.append(f"{index:04d}.png")
    write_drawn(folder, dict(zip(names, images, strict=True)), f"answers drawn for {name}")
    write_index(folder, names, plan)
    return plan, images


def score(names: Sequence[str], out: Path, base: Path, protocol: str = DREAMBENCH) -> list[Result]:
    """Draw each subject's answers into `out/NAME` and score them against its photos.

    Args:
        base: whose CLIP and DINO measure.
        protocol: what is asked for, as `evaluate.py` takes it.

    Returns:
        The photos against each other and the mean over subjects; each subject, if several.

    Raises:
        UserError: no base is there, or `out` holds other pictures or cannot be written to.
    """
    asked, measure = protocol_name(protocol), load_measure(encoders_of(base))
    distance = measure.distance.name
    ceilings: list[ScoreSet] = []
    found: list[Result] = []
    count = 0
    for name in names:
        plan, images = draw_answers(name, out / name, protocol)
        first = [plan.templates.index(template) for template in dict.fromkeys(plan.templates)]
        sheet = contact_sheet(
            [images[i] for i in first], [plan.prompts[i] for i in first], 9, title=name
        )
        sheet.save(out / f"{name}.png")
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
        Result("run", "drawn as asked", asked, answers, distance=distance),
    ]
    return [*mean, *found] if len(found) > 1 else mean


def build_parser() -> argparse.ArgumentParser:
    """The options of ``python -m dreambooth_pl.miniature.attainable``."""
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
        "--base", type=Path, default=Path("data/miniature"), help="has the encoders"
    )
    parser.add_argument("--format", choices=TABLE_FORMATS, default="table")
    return parser


@tells_mistakes
def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status.

    Args:
        args: what stands after the program's name; None for the process's own arguments.
    """
    options = build_parser().parse_args(args)
    lines = score(list(dict.fromkeys(options.names)), options.out, options.base, options.protocol)
    rows = [line.row for line in lines]
    sys.stdout.write(render(rows, options.format, table_width(), notes=distance_notes(lines)))
    return 0


if __name__ == "__main__":
    run_command(main)
