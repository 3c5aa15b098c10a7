"""Running out of memory, for real, in every command: one message that names what to lower."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SCRIPT = """
import json, os, resource, sys
import dreambooth_pl
from dreambooth_pl.commands import evaluate, export, generate, identifiers, train
from diffusers import StableDiffusionPipeline  # what is imported late is no part of the test

def in_use():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSize"))

for name, megabytes, check, words in json.load(sys.stdin):
    os.environ["DREAMBOOTH_PL_MEMORY_CHECK"] = check
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (in_use() + megabytes * 2**20, hard))
    try:
        status = globals()[name].main(words)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    print(f"status {status}", file=sys.stderr, flush=True)
"""


def told(cases: list[tuple[str, int, str, list[str]]]) -> list[str]:
    """Run commands one after another in a process, each with so many megabytes left.

    Returns:
        The last line that each wrote to standard error.
    """
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=300,
    )
    parts = done.stderr.split("status 1\n")
    assert len(parts) == len(cases) + 1 and not parts[-1], done.stderr
    assert "Traceback" not in done.stderr
    assert all(part.count("error: ") == 1 for part in parts[:-1])
    return [part.splitlines()[-1] for part in parts[:-1]]


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_every_command_names_what_to_lower(finished) -> None:
    run, base = finished.run, finished.model.settings.base
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["sampling"] |= {"batch_size": 512, "resolution": 128}
    Path("large.yaml").write_text(yaml.safe_dump(config))
    fit = ["fit", "--config", "large.yaml", "--probe.every_n_steps", "0"]
    large = [*fit, "--data.resolution=128", "--data.batch_size=512", "--data.num_class_images=0"]
    # the run's own config says how an evaluation generates
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    before = set(Path.cwd().rglob("*"))
    words = ["--class", "dog", "--base", base, "--draw", "words", "--batch-size", "512"]
    identifiers, export, refused, training, images, scores = told(
        [  # the least first: what others have freed would be enough
            ("identifiers", 10, "off", [*words, "--count", "0"]),
            ("export", 2, "off", [str(run), "--format", "merged", "--out", "merged"]),
            ("train", 400, "on", large),
            ("train", 400, "off", large),
            ("generate", 300, "off", [str(run), "--num-images", "512", "--out", "generated"]),
            ("evaluate", 300, "off", [str(run), "--protocol", "probes"]),
        ]
    )
    assert refused.startswith(
        "error: Training on batches of 512 photos of 128 x 128 px takes about"
    )
    assert "this process (ulimit -v) has" in refused and "GB of memory" in refused
    keys = "data.batch_size (512), data.resolution (128), sampling.batch_size (512)"
    assert f"Lower {keys}" in refused and "DREAMBOOTH_PL_MEMORY_CHECK" in refused
    for text, lower in {
        training: "Lower data.batch_size, data.resolution or sampling.batch_size",
        images: "Lower --batch-size, --resolution or --num-images.",
        scores: "Lower --class-images, images_per_prompt in the file of --protocol, or sampling.",
        identifiers: "Lower --batch-size, --images or --count.",
        export: "Take another --format than merged",
    }.items():
        assert text.startswith("error: Out of memory on the CPU") and lower in text
    left = set(Path.cwd().rglob("*")) - before
    assert not [path for path in left if "evaluation" not in path.parts or path.is_file()]
