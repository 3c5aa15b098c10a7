"""Imports run one way: a module imports only from its own layer or from those above it here."""

import ast
from pathlib import Path

import pytest

import dreambooth_pl

PACKAGE = Path(dreambooth_pl.__file__).parent
LAYERS = [
    # facts and pure functions
    {
        "command_line",
        "comparison",
        "contact_sheet",
        "diffusion",
        "errors",
        "folder_lock",
        "ldm_names",
        "losses",
        "paper",
        "plots",
        "png_metadata",
        "progress",
        "prompts",
        "dotted_keys",
        "randomness",
        "report_data",
        "run_folder",
        "score_sets",
        "scores",
        "text_table",
        "torchvision_import",
        "trainer_settings",
    },
    # the networks: training base, metric encoders, drawing
    {
        "base_families",
        "base_fingerprint",
        "base_location",
        "base_parts",
        "checkpoint_config",
        "clip_tokenizer",
        "conditioning",
        "distances",
        "image_origin",
        "encoder_checks",
        "encoders",
        "lora",
        "metrics",
        "models",
        "optimizers",
        "rare_tokens",
        "sampling",
        "single_file",
        "throughput",
    },
    {
        "checkpoint_contract",
        "identifier_trial",
        "protocols",
        "scoring",
        "subject_scorer",
        "view_cache",
    },
    # training and evaluation
    {"data", "dreambench", "module", "runs"},
    {
        "callbacks",
        "drawn_images",
        "evaluation",
        "evaluation_lines",
        "evaluation_record",
        "folder_evaluation",
        "group_scorer",
        "image_folder",
        "numbered_images",
        "run_images",
    },
    # what a user sees
    {
        "cli",
        "adapter_sources",
        "cli_evaluate",
        "cli_evaluate_options",
        "cli_export",
        "cli_generate",
        "cli_generate_options",
        "cli_test",
        "evaluation_output",
        "exports",
        "parser",
        "report",
        "reproduction",
        "resume",
        "run_parts",
    },
    {"benchmark", "cli_benchmark", "cli_identifiers"},
    {"export", "identifiers"},
]
LAYER_OF = {module: layer for layer, modules in enumerate(LAYERS) for module in modules}
OWN_WORLD = "miniature"  # makes the embedded base; nothing else may depend on it


def module_name(path: Path) -> str:
    """First part of the module's path in the package."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """Names of this package's modules that a file imports, without the package's own name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = (name.split(".") for name in found)
    modules = {name[1] for name in parts if name[0] == "dreambooth_pl" and len(name) > 1}
    return modules & (LAYER_OF.keys() | {OWN_WORLD})


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE / OWN_WORLD]
FILES = [path for path in FILES if OWN_WORLD not in path.parts and path.stem != "__init__"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_from_own_or_lower_layers(path: Path) -> None:
    name = module_name(path)
    assert name in LAYER_OF, f"put {name} into a layer of this test"
    for other in imported(path):
        assert other != OWN_WORLD, f"{name} depends on the miniature"
        assert LAYER_OF[other] <= LAYER_OF[name], f"{name} imports {other}, which is above it"


def test_every_module_of_the_table_exists() -> None:
    assert LAYER_OF.keys() == {module_name(path) for path in FILES}


def test_no_cycles() -> None:
    edges: dict[str, set[str]] = {}
    for path in FILES:
        edges.setdefault(module_name(path), set()).update(imported(path) - {module_name(path)})
    while edges:
        leaves = {name for name, others in edges.items() if not others & edges.keys()}
        assert leaves, f"these import each other: {sorted(edges)}"
        edges = {name: others for name, others in edges.items() if name not in leaves}


def test_module_knows_neither_callbacks_nor_metrics() -> None:
    seen, waiting = set(), {"module"}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        paths = [path for path in FILES if module_name(path) == name]
        waiting |= {other for path in paths for other in imported(path)} - seen
    assert not seen & {"callbacks", "metrics", "encoders", "scoring", "evaluation", "cli"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_library_code_does_not_print(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    prints = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
    assert not prints or module_name(path).startswith(("cli", "command_line"))
