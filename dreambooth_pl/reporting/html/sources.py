"""What the report of an evaluation says, gathered from its results and from the images on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dreambooth_pl.evaluation.evaluate_folder import image_sets
from dreambooth_pl.evaluation.image_folder import INDEX, Words, image_paths, listed_files
from dreambooth_pl.evaluation.results import Result, without_scale
from dreambooth_pl.evaluation.run_images import BASE, TUNED, folder_of
from dreambooth_pl.metrics.encoders import EncoderSettings
from dreambooth_pl.reporting.html.pictures import Pair, read_pairs
from dreambooth_pl.runs.finished import Run
from dreambooth_pl.sampling.settings import SamplingSettings


def asked_of_runs(results: Sequence[Result], protocol: str) -> dict[str, str]:
    """Return what was asked of runs, for people: each fact once, however many runs share it."""
    runs = [result.run for result in results if result.run is not None]

    def of_runs(fact: Callable[[Run], object]) -> str:
        return _list(str(fact(run)) for run in runs)

    prompts = {
        template
        for result in results
        if result.run is not None
        for own in result.sets
        for template in own.templates
    }
    images = [result.image_count for result in results if result.run is not None]
    each = str(images[0]) if len(set(images)) == 1 else f"{min(images)} to {max(images)}"
    return {
        "runs": _list(dict.fromkeys(r.name for r in results if r.run is not None)),
        "prompts": f"protocol {protocol}: {len(prompts)} prompts, {each} images per run",
        "photos": of_runs(lambda run: run.instance_dir),
        "words": of_runs(lambda run: f"{run.identifier} {run.class_noun}".strip()),
        "base": of_runs(lambda run: run.base_spec.base),
        "sampler": of_runs(lambda run: _sampler(run.sampling)),
        "seed": of_runs(lambda run: run.seed),
        "encoders": of_runs(lambda run: encoder_names(run.encoders)),
    }


def encoder_names(encoders: EncoderSettings) -> str:
    """Return what scores are measured with, for people."""
    return f"CLIP {encoders.clip}, DINO {encoders.dino}"


def run_folders(results: Sequence[Result]) -> dict[str, Path]:
    """Return the folders of the runs, each once, by their names without a LoRA scale."""
    return {
        without_scale(result): result.run.folder for result in results if result.run is not None
    }


def saved_pairs(name: str, folder: Path) -> list[Pair]:
    """Return the images of a run that were saved with their scores, by `output.save_images`."""
    return _pairs(name, folder, folder / TUNED, folder / BASE)


def own_pairs(name: str, run: Run, protocol: str) -> list[Pair]:
    """Return the images of a run where its evaluation has left them."""
    tuned = folder_of(run, protocol)
    return _pairs(name, tuned.parent, tuned, folder_of(run, protocol, BASE))


def folder_pairs(name: str, folder: Path, words: Words, record: Path) -> list[Pair]:
    """Return the images of a folder that was scored.

    Args:
        name: of its row.
        folder: as for `evaluate_folder.score_folder`, which also says the rest.
        words: the same.
        record: folder that the scores were saved to.
    """
    tuned, base = image_sets(folder)
    of_base = None if base is None else image_paths(base, words)
    return read_pairs(name, record, image_paths(tuned, words), of_base)


def _pairs(name: str, record: Path, tuned: Path, base: Path) -> list[Pair]:
    of_tuned = [tuned / file for file in listed_files(tuned)]
    of_base = [base / file for file in listed_files(base)] if (base / INDEX).is_file() else None
    return read_pairs(name, record, of_tuned, of_base)


def _sampler(settings: SamplingSettings) -> str:
    steps, guidance = settings.num_inference_steps, settings.guidance_scale
    return f"{steps} steps, guidance {guidance:g}"


def _list(facts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(facts))
