"""The benchmark file: a YAML file of subjects, variants and seeds, read and checked.

    protocol: probes                  # protocol of the evaluation
    configs: [configs/sks.yaml]       # config files of train.py, for every job
    set: {trainer.max_steps: 1300}    # single keys, for every job
    seeds: [42]
    subjects:                         # or {dataset: FOLDER, names: [...]}
      - {name: sks_dog, photos: data/sks_dog, class_noun: dog}
    variants:
      - name: text_encoder
        configs: [configs/options/text_encoder.yaml]
        set: {model.lora.rank: 8}
    resources: {cpus: 4, gpus: 0.25, memory_gb: 16}   # of a job, for the executors
    slurm: {partition: gpu}           # options of sbatch

Only `variants` and `configs` (at the top or in each variant) are required. A `set` may be nested.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from dreambooth_pl.benchmark.executors.call import Resources
from dreambooth_pl.bounds import Bounds, Seed
from dreambooth_pl.data.dreambench import subjects_folder
from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.protocols import PROBES, protocol_name
from dreambooth_pl.files.plain_yaml import read_yaml
from dreambooth_pl.prompts import SUBJECTS
from dreambooth_pl.start import with_home

DEFAULT_SEED = 42
_SEED = get_args(Seed)[1]
_KEYS = (
    *("protocol", "configs", "set", "seeds", "subjects", "variants"),
    *("resources", "slurm"),
)
_SUBJECT_KEYS = ("name", "photos", "class_noun")
_DATASET_KEYS = ("dataset", "names")
_VARIANT_KEYS = ("name", "configs", "set")
_RESOURCES = {
    "cpus": Bounds(0, 4096, open_low=True),
    "gpus": Bounds(0, 64, remedy="A part of one, such as 0.25, shares a card; 0 is for none."),
    "memory_gb": Bounds(0, 100_000, open_low=True),
    "minutes": Bounds(1, 1_000_000),
}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_RESERVED = {  # keys that the benchmark sets itself: what to do instead
    "seed_everything": "list the seeds under `seeds`",
    "data.instance_dir": "name the photos under `subjects`",
    "trainer.default_root_dir": "every job has its own folder, see --out",
    "ckpt_path": "interrupted jobs resume by themselves",
    "resume": "interrupted jobs resume by themselves",
    "config": "list config files under `configs`",
}


@dataclass(frozen=True)
class Subject:
    """A subject to train on."""

    name: str
    """Name in tables and folders."""
    photos: Path
    """Folder of its photos."""
    class_noun: str
    """Noun of its class, such as dog."""


@dataclass(frozen=True)
class Variant:
    """A way to train, compared with the other variants."""

    name: str
    """Name in tables and folders."""
    configs: tuple[Path, ...]
    """Config files; those of every job come first."""
    settings: Mapping[str, Any]
    """Dotted keys and values that override the subject and the config files."""


@dataclass(frozen=True)
class Benchmark:
    """The content of a checked benchmark file."""

    name: str
    """Name of the file without its suffix."""
    protocol: str
    """Name or file of the evaluation's protocol."""
    subjects: tuple[Subject, ...]
    """The subjects; empty for the one that the config files name."""
    variants: tuple[Variant, ...]
    """The variants, at least one."""
    seeds: tuple[int, ...]
    """The seeds, at least one, each 0 or more."""
    settings: Mapping[str, Any]
    """Dotted keys and values for every job."""
    dataset: Path | None = None
    """Folder of the dataset with the subjects; None if the file lists single subjects."""
    resources: Resources = field(default_factory=Resources)
    """What each job needs of a machine."""
    slurm: Mapping[str, Any] = field(default_factory=dict)
    """Options of SLURM's `sbatch`."""


def read_benchmark(path: Path) -> Benchmark:
    """Read and check a benchmark file.

    Args:
        path: the YAML file. Paths in it are relative to the working directory.

    Raises:
        UserError: the file cannot be read, or a key is wrong; the message names the key.
    """
    content = read_yaml(path, f"--config: {str(path)!r}")
    try:
        return _benchmark(path.stem, content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _benchmark(name: str, content: Any) -> Benchmark:
    content = _mapping(content, "the file", _KEYS)
    configs = _config_files(content.get("configs", []), "configs")
    items = _list(content.get("variants"), "variants")
    variants = [_variant(item, f"variants[{i}]", configs) for i, item in enumerate(items)]
    _check_names([v.name for v in variants], "variants")
    seeds = _list(content.get("seeds", [DEFAULT_SEED]), "seeds")
    for seed in seeds:
        _SEED.check("seeds", seed, whole=True)
    _check_distinct(seeds, "seeds")
    protocol = content.get("protocol", PROBES)
    if not isinstance(protocol, str):
        raise UserError(f"protocol: {protocol!r} is no name, such as probes.")
    try:
        protocol_name(protocol)
    except UserError as error:
        raise UserError(f"protocol: {error}") from error
    subjects = content.get("subjects")
    return Benchmark(
        name=name,
        protocol=protocol,
        subjects=_subjects(subjects) if "subjects" in content else (),
        variants=tuple(variants),
        seeds=tuple(seeds),
        settings=_settings(content.get("set", {}), "set"),
        dataset=Path(with_home(subjects["dataset"])) if isinstance(subjects, Mapping) else None,
        resources=_resources(content.get("resources", {})),
        slurm=_slurm(content.get("slurm", {})),
    )


def _variant(item: Any, key: str, common: tuple[Path, ...]) -> Variant:
    item = _mapping(item, key, _VARIANT_KEYS)
    configs = common + _config_files(item.get("configs", []), f"{key}.configs")
    if not configs:
        raise UserError(f"{key}.configs: name at least one config file, such as configs/sks.yaml.")
    return Variant(_name(item, key), configs, _settings(item.get("set", {}), f"{key}.set"))


def _subjects(content: Any) -> tuple[Subject, ...]:
    if isinstance(content, Mapping):
        return _dataset(_mapping(content, "subjects", _DATASET_KEYS))
    subjects = []
    for i, item in enumerate(_list(content, "subjects")):
        key = f"subjects[{i}]"
        item = _mapping(item, key, _SUBJECT_KEYS)
        name = _name(item, key)
        noun = item.get("class_noun", SUBJECTS.get(name))
        if not isinstance(noun, str) or not noun.strip():
            raise UserError(f"{key}.class_noun: say what {name} is, such as dog.")
        photos = item.get("photos")
        if not isinstance(photos, str):
            raise UserError(f"{key}.photos: name the folder of its photos.")
        subjects.append(Subject(name, Path(with_home(photos)), noun))
    _check_names([subject.name for subject in subjects], "subjects")
    return tuple(subjects)


def _dataset(content: Mapping[str, Any]) -> tuple[Subject, ...]:
    """Return subjects of the DreamBooth dataset, from a folder in the dataset's own layout."""
    folder = content.get("dataset")
    if not isinstance(folder, str):
        raise UserError("subjects.dataset: name the folder that holds a folder per subject.")
    names = _list(content.get("names", list(SUBJECTS)), "subjects.names")
    for name in names:
        if name not in SUBJECTS:
            near = difflib.get_close_matches(str(name), SUBJECTS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UserError(f"subjects.names: the dataset has no subject {name!r}.{hint}")
    _check_distinct(names, "subjects.names")
    root = subjects_folder(folder)
    return tuple(Subject(name, root / name, SUBJECTS[name]) for name in names)


def _settings(content: Any, key: str) -> dict[str, Any]:
    """Flatten nested settings to dotted keys."""
    if not isinstance(content, Mapping):
        raise UserError(f"{key}: needs keys with values, such as model.lora.rank: 8.")
    settings: dict[str, Any] = {}
    for dotted, value in _leaves(content):
        if dotted in settings:
            raise UserError(f"{key}: {dotted} stands there twice.")
        if dotted in _RESERVED:
            raise UserError(f"{key}: {dotted} cannot be set here: {_RESERVED[dotted]}.")
        settings[dotted] = value
    return settings


def _leaves(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; a mapping with `class_path` stays one value."""
    for name, value in content.items():
        if isinstance(value, Mapping) and value and "class_path" not in value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _resources(content: Any) -> Resources:
    content = _mapping(content, "resources", tuple(_RESOURCES))
    for name, value in content.items():
        _RESOURCES[name].check(f"resources.{name}", value, whole=False)
    gpus = content.get("gpus", 0)
    if gpus > 1 and gpus != int(gpus):
        raise UserError(f"resources.gpus: {gpus} is neither a part of a GPU nor a whole number.")
    return Resources(**content)


def _slurm(content: Any) -> Mapping[str, Any]:
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, (str, int)) for name, value in content.items()
    ):
        raise UserError("slurm: needs options of sbatch with their values, such as partition: gpu.")
    return content


def _config_files(content: Any, key: str) -> tuple[Path, ...]:
    if not isinstance(content, list) or not all(isinstance(path, str) for path in content):
        raise UserError(f"{key}: needs a list of config files, such as [configs/sks.yaml].")
    paths = tuple(Path(with_home(path)) for path in content)
    for path in paths:
        if not path.is_file():
            raise UserError(f"{key}: there is no file {str(path)!r}.")
    return paths


def _mapping(content: Any, key: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise UserError(f"{key}: needs keys, of {', '.join(known)}.")
    for name in content:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
            where = "" if key == "the file" else f"{key}."
            raise UserError(f"Unknown key {where}{name}. {hint}")
    return content


def _list(content: Any, key: str) -> list[Any]:
    if not isinstance(content, list) or not content:
        raise UserError(f"{key}: needs a list with at least one entry.")
    return content


def _name(item: Mapping[str, Any], key: str) -> str:
    name = item.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"{key}.name: {name!r} is no name for a folder; use letters, digits and _ . + -."
        )
    return name


def _check_names(names: Sequence[str], key: str) -> None:
    """Check that names differ without regard to case, since some file systems ignore case."""
    _check_distinct([name.lower() for name in names], key)


def _check_distinct(values: Sequence[Any], key: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"{key}: {value} stands there twice.")
