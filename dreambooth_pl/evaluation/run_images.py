"""The images that an evaluation generates of runs: which, where they lie, at what batch size.

`RUN/evaluation/<protocol>/` contains

- `tuned/` and `base/`: the prompts' images by the run's adapter and by the untuned base,
- `class_tuned/` and `class_base/`: images of "a CLASS" by both.

Images at another LoRA scale than the run's own lie in `scale_S/` in that folder. The untuned base's
images do not depend on the scale and stay above.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from dreambooth_pl.adapters import remove_adapters
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.image_folder import write_index
from dreambooth_pl.evaluation.image_store import (
    GenerationRecipe,
    generate_missing,
    recorded_batch_size,
)
from dreambooth_pl.evaluation.protocols import (
    FEW,
    PROBES,
    ImagePlan,
    class_plan,
    make_plan,
    protocol_name,
)
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.runs.adapter_source import load_sources
from dreambooth_pl.runs.checkpoint_adapters import SUFFIX
from dreambooth_pl.runs.finished import Run
from dreambooth_pl.sampling.batch_size import settle_batch_size
from dreambooth_pl.sampling.memory import check_kept_images
from dreambooth_pl.sampling.settings import SamplingSettings

TUNED, BASE = "tuned", "base"
CLASS = "class_"  # before either: images of the class
SCALE = "scale_"  # folders of images at another scale than the run's own
CLASS_IMAGES = 8  # of "a CLASS", where no other number is asked for
_UNKNOWN = "unknown"

Failed = Callable[[Run, UserError], None]
"""Told of a run that cannot be evaluated; the rest goes on."""


class LoadedBase:
    """Keeps the last base loaded, because neighbouring runs mostly share it.

    It drops the old base before it loads the next, so that memory never holds two. Callers must not
    keep a reference to the old one.

    Args:
        device: where bases go.
    """

    def __init__(self, device: str | torch.device) -> None:
        self.device = device
        self._spec: BaseSpec | None = None
        self._base: Base | None = None

    def of(self, run: Run) -> Base:
        """Return the base of a run, with whatever adapters it was left with.

        Raises:
            UserError: it cannot be had.
        """
        if run.base_spec != self._spec:
            self._spec = self._base = None
            gc.collect()  # modules and pipelines refer to each other in circles
            self._base = load_base(run.base_spec).to(self.device)
            self._spec = run.base_spec
        return self._base


class ImageGenerator:
    """Generates the images of runs on one base, or one rank's share of them.

    Args:
        protocol: as `protocols.make_plan` takes it.
        base: without or with adapters, which are replaced.
        class_images: how many images of the class.
        reporter: shows how far it has come; None shows nothing.
        shard: this rank, and how many ranks share the work.
        measures: whether the best batch size is measured. Machines that share the work may each
            find another one, and then their images would not be of one kind.
    """

    def __init__(
        self,
        protocol: str,
        base: Base,
        class_images: int = CLASS_IMAGES,
        reporter: ProgressReporter | None = None,
        shard: tuple[int, int] = (0, 1),
        measures: bool = True,
    ) -> None:
        self.protocol = protocol
        self.base = base
        self.class_images = class_images
        self.reporter = reporter
        self.shard = shard
        self.measures = measures
        self._adapter: str | None = _UNKNOWN  # hash of what the base holds; None for nothing

    def plan(self, run: Run, of_class: bool = False) -> ImagePlan:
        """Return what is asked of the run: the protocol's images, or those of the class."""
        if of_class:
            return class_plan(run.class_noun, run.seed, self.class_images)
        return plan_of(run, self.protocol)

    def settings(self, run: Run) -> SamplingSettings:
        """Return the run's sampler at the batch size of images that are there, else at the best.

        Few images keep the batch size of training, and the probes come out as they did then.
        """
        size = None
        if self.protocol not in FEW:
            folders = (folder_of(run, self.protocol, what) for what in (TUNED, BASE))
            own = run.sampling.batch_size
            fixed = SamplingSettings.batch_size if own == "auto" else own
            best = "auto" if self.measures else fixed
            size = next(filter(None, map(recorded_batch_size, folders)), best)
        settings = replace(run.sampling, batch_size=size or run.sampling.batch_size)
        return settle_batch_size(self.base, settings, len(self.plan(run).requests))

    def untuned_recipe(self, run: Run, of_class: bool = False) -> GenerationRecipe:
        """Return what `untuned` generates."""
        plan = self.plan(run, of_class)
        settings = replace(self.settings(run), lora_scale_unet=0.0, lora_scale_text_encoder=0.0)
        return GenerationRecipe(plan.requests, plan.labels, settings, adapter_sha256=None)

    def untuned(self, run: Run, of_class: bool = False) -> list[Image.Image | None]:
        """Generate the run's prompts and seeds with the untuned base."""
        if self._adapter is not None:
            remove_adapters(self.base)
            self._adapter = None
        return self._generate(run, self.untuned_recipe(run, of_class), BASE, of_class)

    def tuned(self, run: Run, of_class: bool = False) -> list[Image.Image | None]:
        """Generate the run's prompts and seeds with its adapter."""
        plan, adapter = self.plan(run, of_class), weights_hash(run.lora_file)
        if self._adapter != adapter:
            self._adapter = _UNKNOWN  # should loading fail in the middle
            load_sources(self.base, [(run.lora_file, 1.0)])
            self._adapter = adapter
        recipe = GenerationRecipe(plan.requests, plan.labels, self.settings(run), adapter)
        return self._generate(run, recipe, TUNED, of_class)

    def all_of(self, run: Run, untuned: bool = True) -> None:
        """Generate all images of a run, or only those by its adapter."""
        for generate_set in (self.tuned, self.untuned) if untuned else (self.tuned,):
            generate_set(run)
            if self.class_images:
                generate_set(run, of_class=True)

    def _generate(
        self, run: Run, recipe: GenerationRecipe, what: str, of_class: bool
    ) -> list[Image.Image | None]:
        side = recipe.settings.resolution or self.base.resolution
        lower = "--class-images" if of_class else "images_per_prompt in the file of --protocol"
        check_kept_images(len(recipe.requests), side, f"Lower {lower}.")
        folder = folder_of(run, self.protocol, CLASS + what if of_class else what)
        title = f"{protocol_name(self.protocol)} of {run.name if what == TUNED else 'base'}"
        if of_class:
            title += ", class"
        with _progress(self.reporter, title, len(recipe.requests)) as progress:
            images = generate_missing(self.base, recipe, folder, progress, self.shard)
        if self.shard[0] == 0:
            write_index(folder, recipe.file_names(), self.plan(run, of_class))
        return images


def generate_images(
    runs: Sequence[Run],
    protocol: str = PROBES,
    device: str | torch.device = "cpu",
    reporter: ProgressReporter | None = None,
    shard: tuple[int, int] = (0, 1),
    class_images: int = CLASS_IMAGES,
    measures: bool = True,
) -> None:
    """Generate this rank's share of what `score_runs` wants of the same runs; keep it on disk.

    When all ranks are through, `score_runs` finds every image there, verifies it, and generates
    none.

    Args:
        runs: as for `score_runs`.
        protocol: as for `score_runs`.
        device: where images are generated.
        reporter: shows how far it has come; None shows nothing.
        shard: this rank, and how many ranks share the work.
        class_images: as for `score_runs`.
        measures: as for `ImageGenerator`.

    Raises:
        UserError: as `score_runs`.
    """
    bases = LoadedBase(device)
    floors: set[Hashable] = set()  # `score_runs` copies what the untuned base has made for others
    for run in runs:
        with telling(None, run):
            generator = ImageGenerator(
                protocol, bases.of(run), class_images, reporter, shard, measures
            )
            recipe = generator.untuned_recipe(run)
            floor = (run.base_spec, run.instance_dir, recipe.requests, recipe.settings)
            generator.all_of(run, untuned=floor not in floors)
            floors.add(floor)
            del generator  # it holds the base, and the next run may load another


def settle_batch_sizes(
    runs: Sequence[Run], protocol: str = PROBES, device: str | torch.device = "cpu"
) -> None:
    """Measure what `generate_images` would, so that ranks which share the work need not and agree.

    For one rank, before the others begin: what is measured is kept on disk.

    Args:
        runs: as for `generate_images`.
        protocol: as for `generate_images`.
        device: as for `generate_images`.
    """
    bases = LoadedBase(device)
    for run in runs:
        with telling(None, run):
            ImageGenerator(protocol, bases.of(run)).settings(run)


@contextmanager
def telling(failed: Failed | None, run: Run) -> Iterator[None]:
    """Say in a user's error which run it is about; raise it, or tell `failed` and go on."""
    try:
        yield
    except UserError as error:
        named = UserError(f"Run {run.adapter or run.folder}: {error}")
        if failed is None:
            raise named from error
        failed(run, named)


def plan_of(run: Run, protocol: str) -> ImagePlan:
    """Return what a protocol asks of a run; see `protocols.make_plan`."""
    return make_plan(protocol, run.identifier, run.class_noun, run.seed, run.instance_dir.name)


def folder_of(run: Run, protocol: str, what: str = TUNED) -> Path:
    """Return where a set of a run's images lies."""
    folder = run.evaluation / protocol_name(protocol)
    if run.scale is not None and what.endswith(TUNED):
        folder = folder / f"{SCALE}{run.scale:g}"
    return folder / what


def weights_hash(path: Path) -> str:
    """Return the SHA-256 of what a safetensors file says and holds, or of a checkpoint's bytes.

    It is not of a safetensors file's bytes, as its header's entries are in any order.
    """
    content = path.read_bytes()
    if path.suffix == SUFFIX:
        return hashlib.sha256(content).hexdigest()
    end = 8 + int.from_bytes(content[:8], "little")
    digest = hashlib.sha256(json.dumps(json.loads(content[8:end]), sort_keys=True).encode())
    digest.update(memoryview(content)[end:])  # a full fine-tuning's file is too large to copy
    return digest.hexdigest()


@contextmanager
def _progress(
    reporter: ProgressReporter | None, description: str, total: int
) -> Iterator[Callable[[int, int], None] | None]:
    if reporter is None:
        yield None
        return
    with reporter.task(description, total) as task:
        yield task.update
