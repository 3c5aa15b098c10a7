"""Jobs of a benchmark: one training run for each subject, variant and seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth_pl.benchmark.spec import Benchmark, Subject, Variant
from dreambooth_pl.data.dreambench import DreamBench
from dreambooth_pl.data.photos import vet_folder
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.dotted_keys import flatten
from dreambooth_pl.files.plain_yaml import read_yaml
from dreambooth_pl.runs.resume import OPTION as RESUME

RUNS = "runs"  # in a benchmark's folder


@dataclass(frozen=True)
class Job:
    """One training run."""

    name: str
    """Unique in the benchmark; stays the same when the benchmark grows."""
    subject: Subject | None
    """The subject; None for the one that the config files name."""
    variant: Variant
    """The variant, which names the config files."""
    seed: int
    """The value of `seed_everything`."""
    folder: Path
    """Folder of the job's runs, log and recorded config."""
    settings: Mapping[str, Any]
    """Dotted keys and values that override the config files, in this order."""

    def arguments(self, run: Path | None = None) -> list[str]:
        """Return the command-line arguments of `train.py`.

        Args:
            run: folder of the job's run to resume, whose own config holds; None to start one.
        """
        if run is not None:
            return ["fit", RESUME, str(run)]
        words = ["fit"]
        for path in self.variant.configs:
            words += ["--config", str(path)]
        words += [f"--{key}={_word(value)}" for key, value in self.settings.items()]
        return [*words, f"--trainer.default_root_dir={self.folder}"]

    def config(self) -> dict[str, Any]:
        """Return the values of config files and settings under dotted keys; later values win.

        Raises:
            UserError: a config file cannot be read.
        """
        merged: dict[str, Any] = {}
        for path in self.variant.configs:
            content = read_yaml(path)
            if not isinstance(content, dict):
                raise UserError(f"{path} holds no keys, such as `data:` and `model:`.")
            merged |= flatten(content)
        return merged | dict(self.settings)


def expand(benchmark: Benchmark, out: Path) -> list[Job]:
    """Return the jobs of a benchmark, ordered by variant, then subject, then seed.

    Later values win, in this order: config files, settings of every job, subject, seed, settings of
    the variant.

    Args:
        benchmark: the checked benchmark.
        out: the benchmark's folder.

    Raises:
        UserError: two jobs would have the same name.
    """
    jobs: list[Job] = []
    names: set[str] = set()
    for variant in benchmark.variants:
        for subject in benchmark.subjects or (None,):
            for seed in benchmark.seeds:
                settings = dict(benchmark.settings)
                if subject is not None:
                    settings["data.instance_dir"] = str(subject.photos)
                    settings["data.class_noun"] = subject.class_noun
                settings["seed_everything"] = seed
                settings |= variant.settings
                parts = [subject.name] if subject else []
                name = "-".join([*parts, variant.name, f"seed{seed}"])
                if name in names:
                    raise UserError(
                        f"Two jobs would be called {name}; rename the subject or the variant."
                    )
                names.add(name)
                folder = out / RUNS / name
                jobs.append(Job(name, subject, variant, seed, folder, settings))
    return jobs


def check_photos(benchmark: Benchmark) -> None:
    """Check that every subject has photos.

    Raises:
        UserError: names the first subject without photos.
    """
    if benchmark.dataset is not None:
        names = [subject.name for subject in benchmark.subjects]
        dataset = DreamBench(benchmark.dataset, names=names)
        lacking = [name for name in names if name not in dataset]
        if lacking:
            raise UserError(
                f"subjects: {dataset.folder} lacks {len(lacking)} of {len(names)} "
                f"subjects, {lacking[0]} first. To render the miniature's: python -m "
                f"dreambooth_pl.miniature.subjects {dataset.folder}; or list under `names` the "
                "subjects that exist."
            )
    for subject in benchmark.subjects:
        vet_folder(subject.photos, f"subject {subject.name}: photos")


def _word(value: Any) -> str:
    """Return a value as the command line takes it: strings unchanged, all else as JSON.

    JSON is also YAML, which the parser reads.

    >>> _word("a {identifier}"), _word(None), _word([0.9, True])
    ('a {identifier}', 'null', '[0.9, true]')
    """
    return value if isinstance(value, str) else json.dumps(value)
