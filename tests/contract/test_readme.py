"""Every command in the README is one that the programs take."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest

from dreambooth_pl.benchmark.spec import read_benchmark
from dreambooth_pl.commands.benchmark import build_parser as build_benchmark_parser
from dreambooth_pl.commands.evaluate import build_parser, check
from dreambooth_pl.commands.export import build_parser as build_export_parser
from dreambooth_pl.commands.generate_options import build_parser as build_generate_parser
from dreambooth_pl.commands.generate_options import check_only_reproduces
from dreambooth_pl.commands.identifiers import build_parser as build_identifiers_parser
from dreambooth_pl.commands.train import main as train
from dreambooth_pl.evaluation.protocols import make_plan
from dreambooth_pl.miniature.attainable import build_parser as build_attainable_parser
from dreambooth_pl.miniature.pretrain.__main__ import parse as parse_pretrain
from dreambooth_pl.miniature.report import build_parser as build_report_parser
from dreambooth_pl.miniature.subjects import build_parser as build_subjects_parser
from dreambooth_pl.prompts import check_template

REPOSITORY = Path(__file__).parents[2]
TEXTS = ("README.md", "data/miniature/README.md")


def blocks(language: str) -> list[str]:
    text = "\n".join((REPOSITORY / name).read_text(encoding="utf-8") for name in TEXTS)
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    return [shlex.split(part) for line in lines for part in line.split("&&")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command_is_understood(words, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    match words:
        case ["python", "train.py", *arguments]:
            # A run's own files are there only after the run.
            arguments = [
                "configs/sks.yaml" if a.startswith("lightning_logs") and a.endswith(".yaml") else a
                for a in arguments
            ]
            with pytest.raises(SystemExit) as ended:
                train([*arguments, "--print_config"])
            assert ended.value.code == 0
        case ["python", "evaluate.py", *arguments]:
            check(build_parser().parse_args(arguments))
        case ["python", "generate.py", *arguments]:
            options = build_generate_parser().parse_args(arguments)
            if options.reproduce:
                check_only_reproduces(options)
            assert len(options.weights or options.adapters) == len(options.adapters)
            for template in options.prompt or ():
                check_template(template)
        case ["python", "benchmark.py", *arguments]:
            read_benchmark(build_benchmark_parser().parse_args(arguments).config)
        case ["python", "-m", "dreambooth_pl.miniature.pretrain", *arguments]:
            parse_pretrain(arguments)
        case ["python", "-m", "dreambooth_pl.export", *arguments]:
            build_export_parser().parse_args(arguments)
        case ["python", "-m", "dreambooth_pl.identifiers", *arguments]:
            build_identifiers_parser().parse_args(arguments)
        case ["python", script, *options] if script.startswith("benchmarks/"):
            source = (REPOSITORY / script).read_text()
            for option in options[::2]:
                assert f'add_argument("{option}"' in source
        case ["python", "-m", "dreambooth_pl.miniature.report", *arguments]:
            build_report_parser().parse_args(arguments)
        case ["python", "-m", "dreambooth_pl.miniature.attainable", *arguments]:
            build_attainable_parser().parse_args(arguments)
        case ["python", "-m", "dreambooth_pl.miniature.subjects", *arguments]:
            build_subjects_parser().parse_args(arguments)
        case ["pip", "install", "-c", constraints, "-e", what]:
            assert (REPOSITORY / constraints).is_file()
            assert what in (".", ".[dev]")
        case ["tensorboard", "--logdir", "lightning_logs"]:
            pass
        case ["python3", "-m", "venv", ".venv"] | [".", ".venv/bin/activate"] | ["pytest"]:
            pass
        case _:
            pytest.fail(f"no program known for {' '.join(words)}")


def test_python_examples_are_python():
    for block in blocks("python"):
        ast.parse(block)


def test_files_of_prompts_are_protocols(tmp_path):
    prompts = [block for block in blocks("yaml") if "images_per_prompt:" in block]
    assert prompts
    for block in prompts:
        path = tmp_path / "prompts.yaml"
        path.write_text(block)
        plan = make_plan(str(path), "sks", "dog", 42, "sks_dog")
        assert len(set(plan.kinds)) > 1, "kinds of prompt have columns"


def test_linked_files_are_there():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (REPOSITORY / target).exists(), target
