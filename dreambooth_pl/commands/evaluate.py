"""The command `evaluate.py`: score runs or a folder of images, and print a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from pathlib import Path

from dreambooth_pl.commands.common import find_device, quiet_libraries, table_width
from dreambooth_pl.commands.evaluate_options import build_parser
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.comparison import Comparison, compare_results
from dreambooth_pl.evaluation.evaluate_folder import score_folder
from dreambooth_pl.evaluation.evaluate_runs import score_runs
from dreambooth_pl.evaluation.image_folder import Words
from dreambooth_pl.evaluation.protocols import protocol_name
from dreambooth_pl.evaluation.results import Result, averages, distance_notes
from dreambooth_pl.evaluation.run_images import generate_images
from dreambooth_pl.files.writable import check_writable
from dreambooth_pl.memory.exhausted import out_of_memory, tells_out_of_memory
from dreambooth_pl.metrics.encoders import EncoderSettings
from dreambooth_pl.progress import ProgressReporter
from dreambooth_pl.reporting.html.report import REPORT, Report, save_report
from dreambooth_pl.reporting.html.sources import (
    asked_of_runs,
    encoder_names,
    folder_pairs,
    run_folders,
    saved_pairs,
)
from dreambooth_pl.reporting.output import save_folder_record, save_images, save_plots, save_results
from dreambooth_pl.reporting.paper import PaperTable, paper_table
from dreambooth_pl.reporting.tables import render
from dreambooth_pl.reporting.verdict import verdict
from dreambooth_pl.runs.checkpoint_adapters import SUFFIX
from dreambooth_pl.runs.finished import (
    Run,
    at_scale,
    find_runs,
    read_run,
    run_of_checkpoint,
    run_of_config_file,
    run_of_lora_file,
    run_without_config,
    with_autocast,
)
from dreambooth_pl.runs.folder import CONFIG
from dreambooth_pl.start import tells_mistakes
from dreambooth_pl.stop_signals import advising


@tells_mistakes
@tells_out_of_memory(
    "Lower --class-images, images_per_prompt in the file of --protocol, or sampling.batch_size in "
    "the run's config.yaml."
)
def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: command-line arguments; None for those of the process.

    Returns:
        The exit status: 0 if everything was evaluated.
    """
    words = sys.argv[1:] if args is None else args
    options = build_parser().parse_args(words)
    command = ("python", "evaluate.py", *words)
    quiet_libraries()
    failures: list[str] = []
    try:
        check(options)
        if options.images:
            with advising("No table was made; start again with the same command."):
                _evaluate_images(options, command)
        else:
            with advising("Images made so far are kept; the same command goes on from there."):
                _evaluate_runs(options, command, failures)
    except UserError as error:
        if out_of_memory(error):
            raise
        failures.append(str(error))
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def check(options: argparse.Namespace) -> None:
    """Check that the options go together. Loads and writes nothing.

    Raises:
        UserError: names the options that do not.
    """
    find_device(options.device)
    of_runs = options.runs or options.compare or options.lora_scale or options.autocast
    if options.images and of_runs:
        raise UserError(
            "--images scores a folder; leave out RUN, --compare, --lora-scale and --autocast."
        )
    if options.share and (options.images or options.save):
        raise UserError(
            "--share generates images of runs and scores none; leave out --images and --save."
        )
    if not options.images and options.prompts:
        raise UserError("--prompts belongs to --images; for runs give --protocol.")
    if options.compare and options.lora_scale:
        raise UserError("--compare takes runs at their own scale; leave out --lora-scale.")
    if options.save:
        if options.save.exists() and not options.save.is_dir():
            raise UserError(f"--save: {options.save} is a file; give a folder.")
        check_writable(options.save, "--save")


def _evaluate_runs(
    options: argparse.Namespace, command: tuple[str, ...], failures: list[str]
) -> None:
    """Evaluate runs and write the results.

    An error in a run that the options name stops the command. Without named runs, all finished runs
    are evaluated, and their errors are added to `failures`.
    """

    def failed(_: Run | Path, error: UserError) -> None:
        failures.append(str(error))

    compared = [_runs_at(path, options) for path in options.compare or ()]
    runs = [run for path in options.runs for run in _run_at(path, options)]
    named = bool(runs or compared)
    runs += [run for own in compared for run in own]
    runs = runs or find_runs(options.logs, failed)
    if options.autocast:
        runs = [with_autocast(run, options.autocast) for run in runs]
        compared = [[with_autocast(run, options.autocast) for run in own] for own in compared]
    if options.lora_scale:
        runs = [at_scale(run, scale) for run in runs for scale in dict.fromkeys(options.lora_scale)]
    if options.share:
        generate_images(
            runs,
            options.protocol,
            device=find_device(options.device),
            reporter=ProgressReporter(),
            shard=options.share,
            class_images=options.class_images,
            measures=False,
        )
        return
    results = score_runs(
        runs,
        options.protocol,
        encoders=_encoders(options, None),
        device=find_device(options.device),
        reporter=ProgressReporter(),
        class_images=options.class_images,
        failed=None if named else failed,
    )
    if not results:
        return
    comparisons, notes = [], []
    if compared:
        sides = [[result for result in results if result.run in own] for own in compared]
        names = [str(path) for path in options.compare]
        if {len(side) for side in sides} == {1}:
            names = [side[0].name for side in sides]
        comparisons = [compare_results(names[0], sides[0], names[1], sides[1])]
        if len({result.run.seed for side in sides for result in side}) > 1:
            notes.append("Not all runs have the same seed: pairs share the prompt, not the noise.")
    results = [*averages(results), *results]
    _write(options, results, comparisons, notes)
    if options.save:
        folders = run_folders(results)
        saved = save_images(results, options.protocol, options.save)
        report = Report(
            title=f"Evaluation of {_several(folders)} on {protocol_name(options.protocol)}",
            command=command,
            asked=asked_of_runs(results, options.protocol),
            results=results,
            comparisons=comparisons,
            paper=_paper(options),
            notes=[*distance_notes(results), *notes],
            sheets={name: saved_pairs(name, folder) for name, folder in saved.items()},
            runs=folders,
        )
        _save_report(report, options.save)
    for path in save_plots(results, options.protocol, options.save):
        print(f"plot: {path}", file=sys.stderr)


def _evaluate_images(options: argparse.Namespace, command: tuple[str, ...]) -> None:
    config = None
    if options.config:
        config = run_of_config_file(options.config)
    photos = options.photos or (config and config.instance_dir)
    if not photos:
        raise UserError("--images needs --photos, the folder of the subject's photos.")
    words = Words(
        options.prompts,
        options.identifier or (config and config.identifier),
        options.class_noun or (config and config.class_noun),
    )
    encoders = _encoders(options, config) or EncoderSettings()
    results, scored = score_folder(
        options.images, photos, words, encoders, device=find_device(options.device)
    )
    _write(options, results)
    if options.save:
        record = save_folder_record(results, scored, options.save)
        name = str(options.images)
        report = Report(
            title=f"Evaluation of {name}",
            command=command,
            asked={
                "images": name,
                "prompts": options.prompts or "those that the folder names",
                "photos": str(photos),
                "encoders": encoder_names(encoders),
            },
            results=results,
            paper=_paper(options),
            notes=distance_notes(results),
            sheets={name: folder_pairs(name, options.images, words, record)},
        )
        _save_report(report, options.save)


def _save_report(report: Report, folder: Path) -> None:
    save_report(report, folder / REPORT, ProgressReporter())
    print(f"report: {folder / REPORT}", file=sys.stderr)


def _several(names: Collection[str]) -> str:
    """Name a run, or count several."""
    return next(iter(names)) if len(names) == 1 else f"{len(names)} runs"


def _paper(options: argparse.Namespace) -> list[PaperTable]:
    return [paper_table("fidelity")] if options.paper else []


def _runs_at(path: Path, options: argparse.Namespace) -> list[Run]:
    """Return the run at a path, or the runs below it."""
    if path.is_dir() and not (path / CONFIG).is_file():
        return find_runs(path)
    return _run_at(path, options)


def _run_at(path: Path, options: argparse.Namespace) -> list[Run]:
    """Return the run at a path, with values from the options in place of its config's."""
    if path.is_file() and path.suffix == SUFFIX:
        run = run_of_checkpoint(path)
    elif path.is_file():
        if options.config is not None:
            run = run_of_lora_file(path, options.config)
        elif options.photos and options.class_noun:
            run = run_without_config(path, options.base, options.photos, options.class_noun)
        else:
            raise UserError(
                f"{path} is a file: which base, photos and words belong to it? Give a run's "
                "--config lightning_logs/NAME/version_N/config.yaml, or --base, --photos, "
                "--class-noun and --identifier."
            )
    else:
        run = read_run(path)
    other_base = options.base is not None
    given = {
        "base_spec": replace(run.base_spec, base=options.base) if other_base else None,
        "instance_dir": options.photos,
        "identifier": options.identifier,
        "class_noun": options.class_noun,
    }
    return [replace(run, **{key: value for key, value in given.items() if value is not None})]


def _encoders(options: argparse.Namespace, config: Run | None) -> EncoderSettings | None:
    """Return the encoders that the options or the config name; None if neither names any."""
    given = {field.name: getattr(options, field.name) for field in fields(EncoderSettings)}
    given = {name: value for name, value in given.items() if value is not None}
    own = config and config.encoders
    return replace(own or EncoderSettings(), **given) if given else own


def _write(
    options: argparse.Namespace,
    results: Sequence[Result],
    comparisons: Sequence[Comparison] = (),
    more_notes: Sequence[str] = (),
) -> None:
    rows = [result.row for result in results]
    paper = _paper(options)
    notes = [*distance_notes(results), *more_notes, verdict(results)]
    more = {"comparisons": comparisons, "paper": paper, "notes": notes}
    sys.stdout.write(render(rows, options.format, table_width(), **more))
    if options.save:
        save_results(results, options.save, comparisons, paper, notes)
