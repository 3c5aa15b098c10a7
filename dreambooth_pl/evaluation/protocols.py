"""Evaluation protocols: the images to generate of a subject, and the text to compare each with.

`probes` are the images that show the progress of training. `dreambench` are the paper's 25 prompts
of the class, four images each, and `short` is every other of these, two images each. Any other
name is the path of a YAML file with your own prompts, as `prompts.prompt_set` reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import FIRST_IMAGE, PROMPT_SETS, PromptSet, fill, is_live, prompt_set
from dreambooth_pl.sampling.requests import MAX_IMAGES, ImageRequest, image_seed, probe_requests

PROBES = "probes"
DREAMBENCH = "dreambench"
SHORT = "short"
_OF_DREAMBENCH = ("dreambench_live", "dreambench_object")
SETS = {DREAMBENCH: _OF_DREAMBENCH, SHORT: _OF_DREAMBENCH}
"""Protocols of the package beside the probes: the sets of prompts for live subjects and objects."""
PROTOCOLS = (PROBES, *SETS)
DEFAULT = SHORT
"""What the commands evaluate: 26 images of 13 prompts. On these, two trainings of one config seldom
differ by a tenth of the way from floor to ceiling; see docs/evaluate.md."""
FEW = (PROBES, SHORT)
"""Protocols of so few images that measuring the best batch size does not pay."""
CLASS_TEMPLATE = "a {class}"
PLAIN = "plain"  # kind of a prompt that says nothing but the subject


@dataclass(frozen=True)
class ImagePlan:
    """What a protocol asks of one subject; the tuples run in parallel, one entry per image."""

    labels: tuple[str, ...]
    """Short names."""
    requests: tuple[ImageRequest, ...]
    """Prompts, with the identifier, and seeds."""
    class_texts: tuple[str, ...]
    """The prompts without the identifier, which CLIP-T compares with."""
    templates: tuple[str, ...]
    """The prompts with placeholders. Images of one template are images of one prompt, whatever
    identifier stands in it."""
    kinds: tuple[str, ...]
    """The sort of each prompt, such as `setting`; empty text where none is given."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts, with the identifier."""
        return tuple(request.prompt for request in self.requests)


def protocol_name(protocol: str) -> str:
    """Return the protocol's name, which its rows and its folder bear: a file's own name.

    Raises:
        UserError: neither a protocol of ours nor a file of prompts, or a file whose name is taken.
    """
    if protocol in PROTOCOLS:
        return protocol
    if protocol in PROMPT_SETS or not Path(protocol).is_file():
        raise UserError(
            f"{protocol!r} is neither a protocol ({', '.join(PROTOCOLS)}) nor a file. Give one of "
            "these names or the path of a YAML file with a list of prompts."
        )
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", prompt_set(protocol).name).strip("-.")
    if not name or name in PROTOCOLS:
        raise UserError(
            f"{protocol}: the set of prompts is called {name!r}, which is taken or empty. Give it "
            "another `name:`."
        )
    return name


def make_plan(
    protocol: str, identifier: str, class_noun: str, seed: int, subject: str
) -> ImagePlan:
    """Plan a protocol's images of one subject.

    The probes are those of training, on training's seeds. The seed of any other image depends on
    the run's seed, the subject, the template and the number of the image alone, so that methods and
    identifiers are compared on the same noise.

    Args:
        protocol: one of `PROTOCOLS` or the path of a YAML file of prompts.
        identifier: the subject's rare word.
        class_noun: what the subject is.
        seed: of the run.
        subject: name of the subject, such as its folder's.

    Raises:
        UserError: as `protocol_name`; a file that does not read as a set of prompts.
    """
    protocol_name(protocol)
    if protocol == PROBES:
        return _probes_plan(identifier, class_noun, seed)
    for_live, for_objects = SETS.get(protocol, (protocol, protocol))
    prompts = prompt_set(for_live if is_live(class_noun) else for_objects)
    if protocol == SHORT:
        prompts = _every_other(prompts)
    return _plan_of(prompts, identifier, class_noun, seed, subject)


def class_plan(class_noun: str, seed: int, count: int) -> ImagePlan:
    """Plan `count` images of "a CLASS", without identifier: what PRES and drift are measured on.

    Their seeds are the same for every subject, so that runs are compared on the same noise.
    """
    prompt = fill(CLASS_TEMPLATE, None, class_noun)
    return ImagePlan(
        labels=tuple(f"class {k + 1}" for k in range(count)),
        requests=tuple(
            ImageRequest(prompt, image_seed(seed, "class image", k)) for k in range(count)
        ),
        class_texts=(prompt,) * count,
        templates=(CLASS_TEMPLATE,) * count,
        kinds=("class",) * count,
    )


def _every_other(prompts: PromptSet) -> PromptSet:
    return replace(
        prompts,
        prompts=prompts.prompts[::2],
        labels=prompts.labels[::2],
        kinds=prompts.kinds[::2],
        images_per_prompt=2,
    )


def _probes_plan(identifier: str, class_noun: str, seed: int) -> ImagePlan:
    """Four plain images of the subject from four seeds, then one of each probe prompt."""
    with_identifier = probe_requests(identifier, class_noun, seed)
    without = probe_requests("", class_noun, seed)
    probes = prompt_set(PROBES)
    plain = len(with_identifier) - len(probes.prompts)
    return ImagePlan(
        labels=tuple(label for label, _ in with_identifier),
        requests=tuple(request for _, request in with_identifier),
        class_texts=tuple(request.prompt for _, request in without),
        templates=(FIRST_IMAGE,) * plain + probes.prompts,
        kinds=(PLAIN,) * plain + probes.labels,
    )


def _plan_of(
    prompts: PromptSet, identifier: str, class_noun: str, seed: int, subject: str
) -> ImagePlan:
    count = prompts.images_per_prompt
    if count * len(prompts.prompts) > MAX_IMAGES:
        raise UserError(
            f"{prompts.name}: images_per_prompt: {count} images of each of {len(prompts.prompts)} "
            f"prompts are more than {MAX_IMAGES} in all. Lower it, or take fewer prompts."
        )
    rows = [
        (label if count == 1 else f"{label} {k + 1}", template, kind, k)
        for label, template, kind in zip(
            prompts.labels, prompts.prompts, prompts.kinds, strict=True
        )
        for k in range(count)
    ]
    return ImagePlan(
        labels=tuple(label for label, *_ in rows),
        requests=tuple(
            ImageRequest(
                fill(template, identifier, class_noun), image_seed(seed, subject, template, k)
            )
            for _, template, _, k in rows
        ),
        class_texts=tuple(fill(template, None, class_noun) for _, template, *_ in rows),
        templates=tuple(template for _, template, *_ in rows),
        kinds=tuple(kind for _, _, kind, _ in rows),
    )
