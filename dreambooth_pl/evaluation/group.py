"""Generate and score the images of a group's runs: those that share base, subject and encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.image_folder import write_index
from dreambooth_pl.evaluation.image_store import GenerationRecipe, copy_images
from dreambooth_pl.evaluation.loaded_base import BaseKey
from dreambooth_pl.evaluation.protocols import ImagePlan, protocol_name
from dreambooth_pl.evaluation.record import save_record
from dreambooth_pl.evaluation.results import BASE, REAL_PHOTOS, Result, Role
from dreambooth_pl.evaluation.run_images import BASE as BASE_IMAGES
from dreambooth_pl.evaluation.run_images import (
    CLASS,
    TUNED,
    ImageGenerator,
    folder_of,
    weights_hash,
)
from dreambooth_pl.evaluation.score_set import ScoreSet
from dreambooth_pl.evaluation.subject import ClassImages, ScoredImages, SubjectScorer
from dreambooth_pl.metrics.encoders import EncoderSettings
from dreambooth_pl.runs.finished import Run
from dreambooth_pl.sampling.settings import SamplingSettings

Failed = Callable[[Run, UserError], None]
"""Told of a run that cannot be evaluated; the rest goes on."""


@dataclass(frozen=True)
class Group:
    """What runs must share to share ceiling and floor."""

    base: BaseKey
    """What they adapt."""
    subject: Path
    """Folder of the photos."""
    encoders: EncoderSettings
    """What measures them."""


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
            group=(self.group.base, self.group.encoders),
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
