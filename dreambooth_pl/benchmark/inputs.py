"""What the jobs of a benchmark read, to be sent to machines that do not share its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dreambooth_pl.benchmark.jobs import Job
from dreambooth_pl.benchmark.spec import Benchmark
from dreambooth_pl.data.class_images import CACHE, class_slug

_LOCAL_DIR = "local-dir:"  # in front of an encoder's folder


def common_inputs(benchmark: Benchmark, jobs: Sequence[Job]) -> list[Path]:
    """Return files and folders that the jobs read, by relative paths.

    They are the config files, the protocol, what the configs name and is there, and class images of
    the same class that earlier runs have made. What a config names by an absolute path is expected
    on every machine.

    Args:
        benchmark: the benchmark.
        jobs: all its jobs.
    """
    found: dict[Path, None] = {}
    for job in jobs:
        config = job.config()
        for path in (*job.variant.configs, *_named(config)):
            found[path] = None
        slug = class_slug(str(config.get("data.class_noun", "")))
        for path in sorted(CACHE.glob(f"{slug}-*")) if slug else ():
            found[path] = None
    found |= {path: None for path in _named({"protocol": benchmark.protocol})}
    return list(found)


def _named(config: dict[str, Any]) -> Iterator[Path]:
    """Yield the relative paths that a config names and that are there."""
    for value in config.values():
        if not isinstance(value, str) or not value or "\n" in value or len(value) > 1024:
            continue
        path = Path(value.removeprefix(_LOCAL_DIR))
        if not path.is_absolute() and path != Path() and path.exists():
            yield path
