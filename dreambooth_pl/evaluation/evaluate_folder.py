"""Score a folder of images of any tool against a folder of photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from dreambooth_pl.data.photos import Photos, vet_folder
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.image_folder import (
    UNKNOWN_SEED,
    Words,
    read_image_folder,
    read_plain_folder,
)
from dreambooth_pl.evaluation.protocols import CLASS_TEMPLATE, ImagePlan, protocol_name
from dreambooth_pl.evaluation.results import BASE, REAL_PHOTOS, Result
from dreambooth_pl.evaluation.run_images import BASE as BASE_IMAGES
from dreambooth_pl.evaluation.run_images import CLASS, SCALE, TUNED
from dreambooth_pl.evaluation.subject import ClassImages, ScoredImages, SubjectScorer
from dreambooth_pl.metrics.distances import load_measure
from dreambooth_pl.metrics.encoders import EncoderSettings
from dreambooth_pl.prompts import is_live
from dreambooth_pl.sampling.requests import ImageRequest

OWN_PROTOCOL = "images"  # what rows call the prompts where only the folder knows them


def score_folder(
    folder: Path,
    photos: Path,
    words: Words,
    encoders: EncoderSettings,
    device: str | torch.device = "cpu",
) -> tuple[list[Result], dict[str, ScoredImages]]:
    """Score a folder of images, laid out as `image_folder` says.

    The folder may instead hold such folders by the names that our evaluations use: `tuned`, and
    where there are such images `base` (the untuned base on the same prompts and seeds), and
    `class_tuned` and `class_base` (images of "a CLASS", each of the first with a partner of its
    name in the second), for PRES and drift.

    Args:
        folder: of images.
        photos: of the subject.
        words: its prompts, identifier and class noun, as far as the folder does not say them.
        encoders: what is measured with.
        device: where images are encoded.

    Returns:
        Ceiling, floor if there are images of the base, and the folder's result; and the scored
        images by `tuned` and `base`.

    Raises:
        UserError: an image is missing, black or of no prompt; photos or encoders cannot be had.
    """
    protocol = OWN_PROTOCOL if words.prompts is None else protocol_name(words.prompts)
    own, base_folder = image_sets(folder)
    plan, images = read_image_folder(own, words)
    if len({image.size for image in images}) > 1:
        sizes = sorted({f"{image.width} x {image.height}" for image in images})
        raise UserError(f"The images in {own} differ in size: {', '.join(sizes)} pixels.")
    floor = None
    if base_folder is not None:
        floor = read_image_folder(base_folder, words)
        if floor[0].templates != plan.templates:
            raise UserError(f"{base_folder} and {own} are not of the same prompts.")
    of_base = _above_scales(folder)
    class_own = _class_images(folder / (CLASS + TUNED)) if own != folder else {}
    class_base = _class_images(of_base / (CLASS + BASE_IMAGES)) if own != folder else {}
    if class_own and class_base:
        lacking = [name for name in class_own if name not in class_base]
        if lacking:
            raise UserError(
                f"{of_base / (CLASS + BASE_IMAGES)} has no image {lacking[0]}, which "
                f"{folder / (CLASS + TUNED)} has. They are compared by their names: add it, or "
                "remove the other."
            )
        class_base = {name: class_base[name] for name in class_own}
    used = vet_folder(photos, "--photos").used
    measure = load_measure(encoders, device)
    scorer = SubjectScorer(
        measure,
        Photos(used),
        photos.absolute().name,
        is_live(words.class_noun or ""),
    )
    scored: dict[str, ScoredImages] = {}
    of_class = None
    if class_own:
        base = list(class_base.values()) or None
        of_class = ClassImages(_class_plan(class_own), list(class_own.values()), base)
    scored[TUNED] = scorer.images(plan, images, of_class)
    if floor:
        of_class = replace(of_class, own=of_class.base, base=None) if class_base else None
        scored[BASE_IMAGES] = scorer.images(*floor, of_class)
    ceiling = scorer.photos()
    results = [Result("ceiling", REAL_PHOTOS, protocol, (ceiling,) if ceiling else (), len(used))]
    if floor:
        results.append(Result("floor", BASE, protocol, (scored[BASE_IMAGES].by_prompt,)))
    results.append(Result("run", str(folder), protocol, (scored[TUNED].by_prompt,)))
    return [replace(result, distance=measure.distance.name) for result in results], scored


def image_sets(folder: Path) -> tuple[Path, Path | None]:
    """Return where a folder's images are, and where those of the untuned base; None without any."""
    if not (folder / TUNED).is_dir():
        return folder, None
    base = _above_scales(folder) / BASE_IMAGES
    return folder / TUNED, base if base.is_dir() else None


def _above_scales(folder: Path) -> Path:
    """Return where the base's images lie, which do not depend on the LoRA scale."""
    return folder.parent if folder.name.startswith(SCALE) else folder


def _class_images(folder: Path) -> dict[str, Image.Image]:
    return read_plain_folder(folder) if folder.is_dir() else {}


def _class_plan(images: dict[str, Image.Image]) -> ImagePlan:
    count = len(images)
    return ImagePlan(
        labels=tuple(images),
        requests=(ImageRequest(CLASS_TEMPLATE, UNKNOWN_SEED),) * count,
        class_texts=(CLASS_TEMPLATE,) * count,
        templates=(CLASS_TEMPLATE,) * count,
        kinds=("class",) * count,
    )
