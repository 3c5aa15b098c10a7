"""Imports run one way: a room imports only from the rooms above its own line here."""

import ast
from pathlib import Path

import pytest

import dreambooth_pl

PACKAGE = Path(dreambooth_pl.__file__).parent
ROOMS = [
    "errors",
    "bounds",
    "randomness",
    "progress",
    "stop_signals",
    "start",
    "distributed",
    "memory",
    "files",
    "prompts",
    "bases",
    "adapters",
    "sampling",
    "metrics",
    "data",
    "training",
    "runs",
    "evaluation",
    "training/callbacks",
    "forecast",
    "reporting",
    "identifiers",
    "export",
    "benchmark",
    "commands",
    "studio",
]
"""Modules and folders of the package, from the ground up."""
OWN_WORLD = "miniature"  # makes the embedded base; nothing else may depend on it
FLOOR = {room: floor for floor, room in enumerate(ROOMS)}
MAX_LINES = 300
MAX_FILES = 15
LONGER: dict[str, str] = {}
"""Files above `MAX_LINES`, each with its reason."""


def room_of(parts: tuple[str, ...]) -> str:
    """The room that a module lies in, by the parts of its path or dotted name."""
    return "/".join(parts[:2]) if "/".join(parts[:2]) in FLOOR else parts[0]


def imported(path: Path) -> set[str]:
    """Rooms of this package that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    names = (tuple(name.split(".")[1:]) for name in found if name.startswith("dreambooth_pl."))
    return {room_of(name) for name in names if name[0] in {r.split("/")[0] for r in ROOMS}} | (
        {OWN_WORLD} if any(f"dreambooth_pl.{OWN_WORLD}" in name for name in found) else set()
    )


ALL_FILES = sorted(PACKAGE.rglob("*.py"))
PRODUCT = [path for path in ALL_FILES if OWN_WORLD not in path.parts]
# `python -m dreambooth_pl.export` is a command: its __main__ calls what is above its room
FILES = [path for path in PRODUCT if path.parent != PACKAGE and path.name != "__main__.py"]
FILES += [path for path in PRODUCT if path.parent == PACKAGE and path.name != "__init__.py"]


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def own_room(path: Path) -> str:
    return room_of(path.relative_to(PACKAGE).with_suffix("").parts)


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_only_from_own_room_or_those_above(path: Path) -> None:
    room = own_room(path)
    assert room in FLOOR, f"put {room} into this test's list of rooms"
    for other in imported(path):
        assert other != OWN_WORLD, f"{room} depends on the miniature"
        assert FLOOR[other] <= FLOOR[room], f"{room} imports {other}, which comes later"


def test_every_room_is_there() -> None:
    assert {own_room(path) for path in FILES} == set(ROOMS)


def test_training_knows_neither_callbacks_nor_metrics() -> None:
    seen, waiting = set(), {"training"}
    while waiting:
        room = waiting.pop()
        seen.add(room)
        paths = [path for path in FILES if own_room(path) == room]
        waiting |= {other for path in paths for other in imported(path)} - seen
    assert not seen & {"training/callbacks", "metrics", "evaluation", "reporting", "commands"}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_library_code_does_not_print(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    prints = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
    assert not prints or own_room(path) in ("commands", "start")


def test_no_file_is_long_without_a_reason() -> None:
    lengths = {relative(path): len(path.read_text().splitlines()) for path in ALL_FILES}
    assert {name for name, length in lengths.items() if length > MAX_LINES} == LONGER.keys()


def test_no_folder_is_crowded() -> None:
    folders = [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]
    counts = {folder.name: len(list(folder.glob("*.py"))) for folder in folders}
    assert not {name for name, count in counts.items() if count > MAX_FILES}
