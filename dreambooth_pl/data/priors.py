"""Class images for the prior-preservation loss (arXiv 2208.12242, section 3.2), and their manifest.

A folder of drawn class images holds `manifest.json`: the recipe they were drawn after, and each
file's seed and SHA-256. Only what the manifest vouches for is used. It is replaced atomically after
every image, so that whatever interrupts the drawing, the next run goes on from there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from dreambooth_pl.bases.base import Base
from dreambooth_pl.data.photos import vet_folder
from dreambooth_pl.data.sidecars import is_picture
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.folder_lock import taking_turns
from dreambooth_pl.files.png_metadata import read_png_metadata, save_png
from dreambooth_pl.randomness import stable_hash
from dreambooth_pl.sampling.generation import Progress, generate
from dreambooth_pl.sampling.image_metadata import image_metadata, settings_metadata
from dreambooth_pl.sampling.requests import ImageRequest, image_seed
from dreambooth_pl.sampling.settings import SamplingSettings

MANIFEST = "manifest.json"
CACHE = Path("data/class_images")

_RECIPE_SETTINGS = ("steps", "guidance_scale", "scheduler", "negative_prompt", "resolution")
_KEY = "data.class_dir"
_NAME = re.compile(r"\d{5,}\.png")


def default_class_dir(
    base: Base, class_noun: str, prompt: str, sampling: SamplingSettings, seed: int
) -> Path:
    """Return the cache folder for a recipe: `data/class_images/<class>-<hash of the recipe>`."""
    recipe = _recipe(base, prompt, sampling, seed)
    slug = re.sub(r"\W+", "_", class_noun.strip().lower())[:40]
    return CACHE / f"{slug}-{stable_hash(json.dumps(recipe, sort_keys=True)):016x}"


def ensure_class_images(
    base: Base,
    prompt: str,
    count: int,
    sampling: SamplingSettings,
    folder: str | Path,
    seed: int,
    progress: Progress | None = None,
) -> list[Path]:
    """Return `count` class images in `folder`, drawing those that are missing.

    Images are drawn by the untuned base (adapters at strength 0), image i from a seed keyed by
    (seed, prompt, i). Existing ones are kept when the manifest's recipe is this one; when base,
    prompt, sampler, resolution or seed differ, the images that the manifest lists are replaced.
    A folder with pictures but without manifest is taken for the user's own class images: they are
    used as they are, and never touched.

    Args:
        base: draws; how strong its adapters are does not matter.
        prompt: what to draw, such as "a dog".
        count: how many images to return; more that are there already stay unused.
        sampling: sampler settings; strengths of adapters are ignored.
        folder: where the images lie or go; made when needed.
        seed: keys the images' seeds.
        progress: called after each batch with images drawn and images that were missing.

    Raises:
        UserError: the folder holds too few pictures of the user's own, has files of the user's in
            the way, or cannot be written.
    """
    assert count > 0, "no class images wanted"
    folder = Path(folder)
    if _holds_own_images(folder):
        return _own_images(folder, count)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with taking_turns(folder):
            _draw_missing(base, prompt, count, sampling, folder, seed, progress)
    except OSError as error:
        raise UserError(
            f"{_KEY}: cannot write class images to {str(folder)!r}: {error.strerror or error}."
        ) from error
    return [folder / _name(index) for index in range(count)]


def _draw_missing(
    base: Base,
    prompt: str,
    count: int,
    sampling: SamplingSettings,
    folder: Path,
    seed: int,
    progress: Progress | None,
) -> None:
    recipe = _recipe(base, prompt, sampling, seed)
    manifest = _open_manifest(folder, recipe)
    missing = [i for i in range(count) if _name(i) not in manifest["files"]]
    _check_not_in_the_way(folder, missing)
    settings = replace(sampling, lora_scale_unet=0.0, lora_scale_text_encoder=0.0)
    requests = [ImageRequest(prompt, image_seed(seed, "class", prompt, i)) for i in missing]
    images = generate(base, requests, settings, progress)
    for index, request, image in zip(missing, requests, images, strict=True):
        path = folder / _name(index)
        save_png(image, path, image_metadata(base, request, settings, class_image=index))
        manifest["files"][path.name] = {"seed": request.seed, "sha256": _sha256(path)}
        _write_manifest(folder, manifest)


def _recipe(base: Base, prompt: str, sampling: SamplingSettings, seed: int) -> dict[str, Any]:
    """Return everything that the images' content depends on.

    Not the batch size: it changes an image by rounding errors at most.
    """
    settings = settings_metadata(base, sampling)
    return {
        "prompt": prompt,
        "base_fingerprint": base.fingerprint,
        **{key: settings[key] for key in _RECIPE_SETTINGS},
        "seed": seed,
    }


def _name(index: int) -> str:
    return f"{index:05d}.png"


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _holds_own_images(folder: Path) -> bool:
    """Whether there is something of the user's in the folder, and no manifest of ours."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise UserError(f"{_KEY}: {str(folder)!r} is a file; give a folder.")
    visible = any(not path.name.startswith(".") for path in folder.iterdir())
    return visible and not (folder / MANIFEST).is_file()


def remarks_on_own_images(folder: Path, photos: Path, count: int) -> tuple[str, ...]:
    """Return a line on pictures of the user's own that are more than `count`, which stay unused.

    Args:
        folder: of class images.
        photos: the folder of the subject's photos.
        count: how many class images a run takes.

    Raises:
        UserError: both are the same folder.
    """
    if folder.resolve() == photos.resolve():
        raise UserError(
            f"{_KEY}: {str(folder)!r} is the folder of the photos, data.instance_dir. Class images "
            "show others of the class; give another folder, or null to have them generated."
        )
    try:
        own = sum(map(is_picture, folder.iterdir())) if _holds_own_images(folder) else 0
    except OSError as error:
        raise UserError(
            f"{_KEY}: {str(folder)!r} cannot be read ({error.strerror or error})."
        ) from error
    if own <= count:
        return ()
    return (
        f"class images: the first {count} by name of {own} pictures in {folder}; set "
        f"data.num_class_images to {own} for all",
    )


def _own_images(folder: Path, count: int) -> list[Path]:
    used = vet_folder(folder, _KEY).used
    if len(used) < count:
        raise UserError(
            f"{_KEY}: {str(folder)!r} holds {len(used)} pictures of your own, but "
            f"data.num_class_images is {count}. Lower it to {len(used)}, add pictures, or give an "
            "empty folder to have class images drawn."
        )
    return list(used[:count])


def _open_manifest(folder: Path, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the folder's manifest, made to fit the recipe; it lists only files that are there.

    Files of another recipe are struck off first and then removed, so that an interruption leaves
    none that is listed and stale.
    """
    path = folder / MANIFEST
    manifest: dict[str, Any] = {"recipe": recipe, "files": {}}
    stale: list[str] = []
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            old_recipe, files = found["recipe"], dict(found["files"])
            if not all(_NAME.fullmatch(name) for name in files):
                raise ValueError("it lists files that class images are not called")
            present = {name: entry for name, entry in files.items() if (folder / name).is_file()}
            changed = [n for n, entry in present.items() if _sha256(folder / n) != entry["sha256"]]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: is not a manifest of class images ({error}). Delete the file to use the "
                f"folder's pictures as your own class images, or set {_KEY} to another folder."
            ) from error
        if changed:
            raise UserError(
                f"{folder / changed[0]}: is not the picture that {MANIFEST} lists. Delete the "
                f"picture to have it drawn again, or delete {MANIFEST} to use the folder's "
                "pictures as your own class images."
            )
        if old_recipe == recipe:
            manifest["files"] = present
        else:
            stale = list(present)
        if found == manifest:
            return manifest
    _write_manifest(folder, manifest)
    for name in stale:
        (folder / name).unlink()
    return manifest


def _check_not_in_the_way(folder: Path, missing: Sequence[int]) -> None:
    """Refuse to overwrite what is not ours; a drawn image that was not listed yet is."""
    for path in (folder / _name(index) for index in missing):
        if not path.exists():
            continue
        try:
            ours = "class_image" in read_png_metadata(path)
        except UserError:
            ours = False
        if not ours:
            raise UserError(f"{path}: is in the way of a class image; move it elsewhere.")


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    unfinished = folder / f".{MANIFEST}.{os.getpid()}.tmp"
    unfinished.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(folder / MANIFEST)
