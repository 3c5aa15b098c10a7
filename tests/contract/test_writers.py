"""Only the atomic writer gives files their final names: nothing else is ever seen half written."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import dreambooth_pl

PACKAGE = Path(dreambooth_pl.__file__).parent
ATOMIC = {"atomic_path", "atomic_folder"}
"""What a block that writes by itself stands in."""
METHODS = {"rename", "save", "save_file", "save_pretrained", "savefig", "write_bytes", "write_text"}
"""Methods that write what they are called with, whatever they are called on."""
FUNCTIONS = {
    "np": {"save", "savetxt", "savez", "savez_compressed"},
    "os": {"link", "rename", "renames", "replace", "symlink"},
    "shutil": {"copy", "copy2", "copyfile", "copytree", "move"},
    "torch": {"save"},
}
NAMES = {"save_file", "save_torch_file"}
"""Functions that are imported by name."""
WRITING_MODES = set("wax+")

IN_ATOMIC_FOLDER = "fills the folder that `write_export` has from `atomic_folder`"
TEMPORARY = "fills a temporary folder that a base is loaded from"
WITHOUT_PACKAGE = "runs beside a training as a file of its own, and imports nothing of the package"
INTERMEDIATE = "makes the embedded base; a stage that was interrupted is run again"
ALLOWED = {
    ("bases/single_file_config.py", "save_pretrained"): TEMPORARY,
    ("bases/single_file_config.py", "write_text"): TEMPORARY,
    ("benchmark/executors/attempt.py", "open"): "a log that grows",
    ("benchmark/executors/parcel.py", "open"): "beside its place; nodes have no atomic writer",
    ("benchmark/executors/parcel.py", "replace"): "gives a file that is whole its name",
    ("benchmark/executors/ray_executor.py", "open"): "a log that grows",
    ("benchmark/executors/ray_node.py", "rename"): "gives a folder that is whole its name",
    ("commands/together/train.py", "open"): "a log that grows",
    ("export/kohya.py", "save"): "to memory, for a hash",
    ("export/merged.py", "save_file"): IN_ATOMIC_FOLDER,
    ("export/merged.py", "save_pretrained"): IN_ATOMIC_FOLDER,
    ("export/model_card.py", "write_bytes"): IN_ATOMIC_FOLDER,
    ("export/model_card.py", "write_text"): IN_ATOMIC_FOLDER,
    ("export/peft.py", "save_file"): IN_ATOMIC_FOLDER,
    ("export/peft.py", "save_pretrained"): IN_ATOMIC_FOLDER,
    ("export/kohya.py", "save_file"): IN_ATOMIC_FOLDER,
    ("files/folder_lock.py", "open"): "an empty file to lock",
    ("files/leftovers.py", "rename"): "gives a folder its place back",
    ("files/lease.py", "open"): "beside its place, where a link or a rename puts it",
    ("files/lease.py", "rename"): "takes a stale lease away",
    ("files/lease.py", "link"): "exclusively, which no atomic writer offers",
    ("files/torch_file.py", "open"): "writes to a temporary path, as its name for it says",
    ("files/torch_file.py", "save"): "writes to a temporary path, as its name for it says",
    ("reporting/html/pictures.py", "save"): "to memory, for a page",
    ("studio/jobs/job_queue.py", "open"): "a log that grows",
    ("studio/jobs/run_job.py", "replace"): WITHOUT_PACKAGE,
    ("studio/jobs/run_job.py", "write_text"): WITHOUT_PACKAGE,
    ("studio/views/photo_cards.py", "save"): "to memory, for the page",
    ("miniature/pretrain/stages.py", "save"): INTERMEDIATE,
    ("miniature/pretrain/stages.py", "save_pretrained"): INTERMEDIATE,
    ("miniature/pretrain/assemble.py", "save"): INTERMEDIATE,
    ("miniature/pretrain/assemble.py", "save_pretrained"): INTERMEDIATE,
    ("miniature/pretrain/assemble.py", "write_text"): INTERMEDIATE,
}
"""Calls outside such a block, each with its reason."""


def writes(call: ast.Call) -> str | None:
    """The name of a call that writes files, else None."""
    function = call.func
    if isinstance(function, ast.Name):
        is_open = function.id == "open" and _opens_to_write(call.args[1:], call.keywords)
        return function.id if is_open or function.id in NAMES else None
    if not isinstance(function, ast.Attribute):
        return None
    name, owner = function.attr, function.value
    if isinstance(owner, ast.Name) and owner.id in FUNCTIONS:
        return name if name in FUNCTIONS[owner.id] else None
    if name == "open":
        return name if _opens_to_write(call.args, call.keywords) else None
    if name == "replace":  # of a path; a string's takes two arguments, a dataclass's keywords
        return name if len(call.args) == 1 and not call.keywords else None
    return name if name in METHODS and call.args else None


def _opens_to_write(args: list[ast.expr], keywords: list[ast.keyword]) -> bool:
    modes = [*args[:1], *(keyword.value for keyword in keywords if keyword.arg == "mode")]
    texts = [mode.value for mode in modes if isinstance(mode, ast.Constant)]
    return any(isinstance(text, str) and bool(WRITING_MODES & set(text)) for text in texts)


def _is_atomic(node: ast.AST) -> bool:
    """Whether a node is a `with` block of the atomic writer's, however it is entered."""
    if not isinstance(node, ast.With):
        return False
    calls = [n for item in node.items for n in ast.walk(item) if isinstance(n, ast.Call)]
    return any(isinstance(call.func, ast.Name) and call.func.id in ATOMIC for call in calls)


def unsafe_writes(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Name and line of each writing call that stands in no such block."""
    if _is_atomic(node):
        return
    if isinstance(node, ast.Call) and (name := writes(node)):
        yield name, node.lineno
    for child in ast.iter_child_nodes(node):
        yield from unsafe_writes(child)


def found(path: Path) -> list[tuple[str, int]]:
    return list(unsafe_writes(ast.parse(path.read_text(encoding="utf-8"))))


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "files" / "atomic.py"]


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_are_written_by_the_atomic_writer(path: Path) -> None:
    for name, line in found(path):
        assert (relative(path), name) in ALLOWED, (
            f"{relative(path)}:{line}: {name} writes a file directly; use files/atomic.py"
        )


def test_every_exception_is_still_one() -> None:
    made = {(relative(path), name) for path in FILES for name, _ in found(path)}
    assert made >= ALLOWED.keys()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("os.replace(a, b)", "replace"),
        ("a.replace(b)", "replace"),
        ("open(path, 'w')", "open"),
        ("path.open(mode='ab')", "open"),
        ("path.write_text(text)", "write_text"),
        ("save_file(weights, path)", "save_file"),
        ("safetensors.torch.save_file(weights, path)", "save_file"),
        ("torch.save(state, path)", "save"),
        ("image.save(path)", "save"),
        ("with atomic_path(path) as part:\n    part.write_text(text)\npart.rename(b)", "rename"),
        ("text.replace('a', 'b')", None),
        ("replace(settings, seed=1)", None),
        ("open(path)", None),
        ("path.open('rb')", None),
        ("write_text(path, text)", None),
        ("with a, atomic_path(path) as part:\n    image.save(part)", None),
        ("with atomic_folder(path) as part:\n    for i in x:\n        save_file(i, part)", None),
    ],
)
def test_what_counts_as_writing(code: str, name: str | None) -> None:
    names = [found for found, _ in unsafe_writes(ast.parse(code))]
    assert names == ([name] if name else [])
