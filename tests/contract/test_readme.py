"""Every command in the README and in docs/ is one that the programs take; every link leads on."""

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
from dreambooth_pl.studio.command import build_parser as build_studio_parser
from dreambooth_pl.studio.command import check as check_studio

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
TEXTS = [README, REPOSITORY / "data/miniature/README.md", *PAGES]
MAX_README_LINES = 210
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
FIT_OPTIONS = (REPOSITORY / "tests/golden/fit_options.txt").read_text(encoding="utf-8").split()
LINK = re.compile(r"\]\(([^)\s]+)\)")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def blocks(language: str) -> list[str]:
    fences = [fence for path in TEXTS for fence in FENCE.findall(read(path))]
    return [block for its_language, block in fences if its_language == language]


def commands() -> list[tuple[str, ...]]:
    """Each command once, though several texts may say it."""
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    parts = [part for line in lines for part in line.split("&&")]
    return list(dict.fromkeys(tuple(shlex.split(part)) for part in parts))


def spans(path: Path) -> list[str]:
    """What the prose of a text sets in `backticks`."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", read(path)))


def options_in_prose() -> list[str]:
    found = [span for path in TEXTS for span in spans(path) if re.match(r"--[a-z]", span)]
    return list(dict.fromkeys(found))


def keys_in_prose() -> list[str]:
    """Keys of train.py's configs, such as `data.crop` or `data.crop random`."""
    groups = "data|model|trainer|sampling|probe|fidelity|validation"
    pattern = re.compile(rf"({groups})(\.[a-z_]+)+( \S+|: \S+)?")
    found = [span for path in TEXTS for span in spans(path) if pattern.fullmatch(span)]
    return list(dict.fromkeys(re.split(r"[: ]", span)[0] for span in found))


def anchors(text: str) -> set[str]:
    """Return what GitHub calls the headings of a text in links."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command_is_understood(words, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    match words:
        case ["python", "train.py", *arguments]:
            # A run's own files are there only after the run; --resume reads its config.yaml.
            if "--resume" in arguments:
                arguments[arguments.index("--resume") : arguments.index("--resume") + 2] = [
                    "--config",
                    "configs/sks.yaml",
                ]
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
        case ["python", "studio.py", *arguments]:
            check_studio(build_studio_parser().parse_args(arguments))
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
            own, fit = options, []
            if "--" in options:  # options of train.py fit follow
                own, fit = options[: options.index("--")], options[options.index("--") + 1 :]
            assert {word.split("=")[0] for word in fit} <= {*FIT_OPTIONS}
            for option in (word for word in own if word.startswith("--")):
                assert f'add_argument("{option}"' in source
        case ["python", "-m", "dreambooth_pl.miniature.report", *arguments]:
            build_report_parser().parse_args(arguments)
        case ["python", "-m", "dreambooth_pl.miniature.attainable", *arguments]:
            build_attainable_parser().parse_args(arguments)
        case ["python", "-m", "dreambooth_pl.miniature.subjects", *arguments]:
            build_subjects_parser().parse_args(arguments)
        case ["pip", "uninstall", "-y", "torch", "torchvision"]:
            pass
        case ["pip", "install", "torch", "torchvision", "--index-url", index]:
            assert index.startswith("https://download.pytorch.org/whl/")
        case ["pip", "install", "-c", constraints, "-e", what]:
            assert (REPOSITORY / constraints).is_file()
            assert what in (".", ".[dev]", ".[ray]", ".[slurm]", ".[studio]")
        case ["ray", "start", "--head", "--port=6379"] | ["ray", "stop"]:
            pass
        case ["ray", "start", "--address=10.0.0.1:6379"]:
            pass
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


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_fences_are_of_a_language_that_is_tested(path):
    text = read(path)
    assert len(re.findall(r"^```", text, flags=re.MULTILINE)) == 2 * len(FENCE.findall(text))
    assert {language for language, _ in FENCE.findall(text)} <= {"bash", "python", "yaml"}


@pytest.mark.parametrize("span", options_in_prose())
def test_option_in_prose_is_one_of_a_program(span, monkeypatch):
    option, *values = shlex.split(span)
    if option in FIT_OPTIONS and not values:
        return
    if "." in option and not values:
        assert option in FIT_OPTIONS
        return
    if "." in option:
        monkeypatch.chdir(REPOSITORY)
        monkeypatch.setattr(sys, "argv", ["train.py"])
        with pytest.raises(SystemExit) as ended:
            train(["fit", "--config", "configs/sks.yaml", option, *values, "--print_config"])
        assert ended.value.code == 0
        return
    parsers = [
        build_attainable_parser(),
        build_benchmark_parser(),
        build_export_parser(),
        build_generate_parser(),
        build_identifiers_parser(),
        build_parser(),
        build_report_parser(),
        build_studio_parser(),
        build_subjects_parser(),
    ]
    scripts = [*(REPOSITORY / "benchmarks").glob("*.py")]
    scripts.append(REPOSITORY / "dreambooth_pl/miniature/pretrain/__main__.py")
    sources = "".join(read(script) for script in scripts)
    known = {known for parser in parsers for known in parser._option_string_actions}
    assert option in {*known, "--help"} or f'"{option}"' in sources


@pytest.mark.parametrize("key", keys_in_prose())
def test_key_in_prose_is_one_of_the_configs(key):
    assert f"--{key}" in FIT_OPTIONS


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_links_lead_somewhere(path):
    for target in LINK.findall(read(path)):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(read(linked)), target


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_files_in_prose_are_there(path):
    named = [
        span for span in spans(path) if re.fullmatch(r"(tests|benchmarks|configs)/\S+\.\w+", span)
    ]
    assert [span for span in named if not (REPOSITORY / span).exists()] == []


def test_readme_is_short():
    assert len(read(README).splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_readme_leads_to_every_page(page):
    assert f"]({name(page)})" in read(README)
