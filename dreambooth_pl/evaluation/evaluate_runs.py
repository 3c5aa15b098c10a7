"""Runs to results: generate a protocol's images, score them beside ceiling and floor.

The ceiling is the real photos against each other, the floor is the untuned base on the same prompts
and seeds. Runs that share base, subject and encoders form a group and share both. What is generated
and scored stays in `RUN/evaluation/<protocol>/` (see `run_images` and `record`), and an interrupted
evaluation goes on from there. Nothing is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from dreambooth_pl.bases.spec import BaseSpec
from dreambooth_pl.data.photos import Photos, vet_folder
from dreambooth_pl.evaluation.image_folder import write_index
from dreambooth_pl.evaluation.image_store import GenerationRecipe, copy_images
from dreambooth_pl.evaluation.protocols import PROBES, ImagePlan, protocol_name
from dreambooth_pl.evaluation.record import save_record
from dreambooth_pl.evaluation.results import BASE, REAL_PHOTOS, Result, Role, short_names
from dreambooth_pl.evaluation.run_images import BASE as BASE_IMAGES
from dreambooth_pl.evaluation.run_images import (
    CLASS,
    CLASS_IMAGES,
    TUNED,
    Failed,
    ImageGenerator,
    LoadedBase,
    folder_of,
    telling,
    weights_hash,
)
from dreambooth_pl.evaluation.score_set import ScoreSet
from dreambooth_pl.evaluation.subject import ClassImages, ScoredImages, SubjectScorer
from dreambooth_pl.metrics.distances import load_measure
from dreambooth_pl.metrics.encoders import EncoderSettings
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.prompts import is_live
from dreambooth_pl.runs.adapter_source import load_sources
from dreambooth_pl.runs.finished import Run
from dreambooth_pl.sampling.settings import SamplingSettings


@dataclass(frozen=True)
class Group:
    """What runs must share to share ceiling and floor."""

    base_spec: BaseSpec
    """What they adapt."""
    subject: Path
    """Folder of the photos."""
    encoders: EncoderSettings
    """What measures them."""


def score_runs(
    runs: Sequence[Run],
    protocol: str = PROBES,
    encoders: EncoderSettings | None = None,
    device: str | torch.device = "cpu",
    reporter: ProgressReporter | None = None,
    class_images: int = CLASS_IMAGES,
    failed: Failed | None = None,
    measures: bool = True,
) -> list[Result]:
    """Generate and score the images of runs under a protocol.

    Args:
        runs: at least one; a run named twice counts once.
        protocol: `probes`, `dreambench` or the path of a YAML file of prompts.
        encoders: measure all runs with these instead of each with its own.
        device: where images are generated and encoded.
        reporter: shows how far it has come; None shows nothing.
        class_images: how many images of "a CLASS" by run and base, for PRES and drift; 0 for
            neither.
        failed: is told of runs that cannot be evaluated, which are left out; None to raise.
        measures: as for `ImageGenerator`.

    Returns:
        For each group of runs with the same base, subject and encoders: `real photos` (ceiling; no
        CLIP-T), `base` (floor, over the distinct prompts and seeds of the group's runs) and a
        result per run, in the order given. With more than one group the first two carry in
        parentheses what tells the groups apart.

    Raises:
        UserError: there is no such protocol; a run's base, photos, encoders or adapter cannot be
            had.
    """
    assert runs, "nothing to evaluate"
    protocol_name(protocol)
    runs = list({(run.folder.resolve(), run.adapter, run.scale): run for run in runs}.values())
    with_photos: dict[Run, list[Path]] = {}
    for run in runs:  # before anything slow begins
        with telling(failed, run):
            with_photos[run] = vet_folder(run.instance_dir).used
    groups: dict[Group, list[Run]] = {}
    for run in with_photos:
        key = Group(run.base_spec, run.instance_dir.absolute(), encoders or run.encoders)
        groups.setdefault(key, []).append(run)
    names = short_names(runs, lambda run: run.name, _long_name)
    subjects = short_names([group.subject for group in groups], lambda path: path.name)
    bases = LoadedBase(device)
    load_measure_once = lru_cache(maxsize=1)(lambda settings: load_measure(settings, device))

    # A function, so that nothing of it refers to a group's base when the next group's is loaded.
    def score_group(group: Group, suffix: str) -> list[Result]:
        members: list[Run] = []
        for run in groups[group]:  # tell of an adapter that does not fit before generating
            with telling(failed, run):
                measure = load_measure_once(group.encoders)
                load_sources(bases.of(run), [(run.lora_file, 1.0)])
                members.append(run)
        if not members:
            return []
        photos = with_photos[members[0]]
        scorer = SubjectScorer(
            measure,
            Photos(photos),
            subjects[group.subject],
            is_live(members[0].class_noun),
        )
        generator = ImageGenerator(
            protocol, bases.of(members[0]), class_images, reporter, measures=measures
        )
        return GroupScorer(generator, scorer, group, suffix).results(members, names, photos, failed)

    suffixes = _distinguish(list(groups))
    return [
        result
        for group, suffix in zip(groups, suffixes, strict=True)
        for result in score_group(group, suffix)
    ]


class GroupScorer:
    """Generates and scores the images of one group's runs.

    Args:
        generator: generates them.
        scorer: scores them against the group's subject.
        group: what the runs share.
        suffix: follows the names of ceiling and floor.
    """

    def __init__(
        self, generator: ImageGenerator, scorer: SubjectScorer, group: Group, suffix: str
    ) -> None:
        self.generator = generator
        self.scorer = scorer
        self.group = group
        self.suffix = suffix
        self._floors: dict[tuple[ImagePlan, SamplingSettings], ScoredImages] = {}

    def results(
        self,
        runs: Sequence[Run],
        names: dict[Run, str],
        photos: Sequence[Path],
        failed: Failed | None,
    ) -> list[Result]:
        """Score the runs and keep their records.

        Args:
            runs: of the group.
            names: what the runs are called.
            photos: files of the subject's photos.
            failed: is told of runs that cannot be evaluated; None to raise.

        Returns:
            Ceiling, floor and a result per run; nothing if no run could be evaluated.
        """
        ceiling = self.scorer.photos()
        floors: list[ScoredImages] = []
        results = []
        for run in runs:
            with telling(failed, run):
                floor = self._floor(run)
                own = self._tuned(run, floor)
                facts = self._facts(run, names[run]) | {"photos": [path.name for path in photos]}
                folder = folder_of(run, self.generator.protocol).parent
                save_record(folder, facts, {TUNED: own, BASE_IMAGES: floor}, ceiling)
                floors.append(floor)
                results.append(self._result("run", names[run], (own.by_prompt,), run=run))
        if not results:
            return []
        distinct = {id(floor): floor.by_prompt for floor in floors}
        sets = (ceiling,) if ceiling else ()
        above = self._result("ceiling", REAL_PHOTOS, sets, n_images=len(photos))
        return [above, self._result("floor", BASE, tuple(distinct.values())), *results]

    def _result(self, role: Role, name: str, sets: tuple[ScoreSet, ...], **more: Any) -> Result:
        return Result(
            role,
            name if role == "run" else name + self.suffix,
            protocol_name(self.generator.protocol),
            sets,
            group=(self.group.base_spec, self.group.encoders),
            distance=self.scorer.measure.distance.name,
            **more,
        )

    def _floor(self, run: Run) -> ScoredImages:
        """Score the untuned base on the run's prompts and seeds; the same object for the same."""
        generator = self.generator
        plan, recipe = generator.plan(run), generator.untuned_recipe(run)
        key = (plan, recipe.settings)
        if key not in self._floors:
            images = generator.untuned(run)
            of_class = None
            if generator.class_images:
                of_class = ClassImages(generator.plan(run, True), generator.untuned(run, True))
            self._floors[key] = self.scorer.images(plan, images, of_class)
            return self._floors[key]
        floor = self._floors[key]
        self._copy(run, floor.images, recipe, plan, BASE_IMAGES)
        if floor.class_images:
            recipe = generator.untuned_recipe(run, True)
            images, plan = floor.class_images.own, floor.class_images.plan
            self._copy(run, images, recipe, plan, CLASS + BASE_IMAGES)
        return floor

    def _copy(
        self,
        run: Run,
        images: Sequence[Image.Image],
        recipe: GenerationRecipe,
        plan: ImagePlan,
        what: str,
    ) -> None:
        folder = folder_of(run, self.generator.protocol, what)
        copy_images(images, self.generator.base, recipe, folder)
        write_index(folder, recipe.file_names(), plan)

    def _tuned(self, run: Run, floor: ScoredImages) -> ScoredImages:
        generator = self.generator
        images = generator.tuned(run)
        of_class = None
        if floor.class_images:
            own = generator.tuned(run, True)
            of_class = ClassImages(floor.class_images.plan, own, floor.class_images.own)
        return self.scorer.images(generator.plan(run), images, of_class)

    def _facts(self, run: Run, name: str) -> dict[str, Any]:
        """Return what the run's scores depend on besides prompts and seeds."""
        measure = self.scorer.measure
        clip, dino = measure.encoders.clip, measure.encoders.dino
        return {
            "run": name,
            "protocol": protocol_name(self.generator.protocol),
            "identifier": run.identifier,
            "class_noun": run.class_noun,
            "base": {
                "name": self.generator.base.name,
                "fingerprint": self.generator.base.fingerprint,
            },
            "adapter_sha256": weights_hash(run.lora_file),
            "sampling": asdict(self.generator.settings(run)),
            "encoders": {
                "clip": {"name": clip.name, "fingerprint": clip.fingerprint()},
                "dino": {"name": dino.name, "fingerprint": dino.fingerprint()},
            },
            "distance": measure.distance.name,
        }


def _long_name(run: Run) -> str:
    """Name a run by its whole path."""
    name = str(run.adapter or run.folder)
    return name if run.scale is None else f"{name}, scale {run.scale:g}"


def _distinguish(groups: Sequence[Group]) -> list[str]:
    """Return for each group what tells it apart from the others, ` (so)`; empty if there is one.

    Only the aspects in which groups differ are named: subject, base, encoders.
    """
    aspects: list[tuple[list[Hashable], Callable[[Any], str]]] = [
        ([g.subject for g in groups], lambda subject: subject.name),
        ([g.base_spec for g in groups], lambda spec: Path(spec.base).name),
        ([g.encoders for g in groups], lambda encoders: f"{encoders.clip} and {encoders.dino}"),
    ]
    parts: list[list[str]] = [[] for _ in groups]
    for values, short in aspects:
        if len(set(values)) > 1:
            names = short_names(values, short)
            for part, value in zip(parts, values, strict=True):
                part.append(names[value])
    return [f" ({', '.join(part)})" if part else "" for part in parts]
