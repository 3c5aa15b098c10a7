"""Classes that configs of `train.py` name: only those of known packages are imported.

LightningCLI imports the module of a class before it looks at the class. A config from elsewhere
could thereby run any code that lies in the working folder. Its classes are therefore checked first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dreambooth_pl.errors import UserError
from dreambooth_pl.files.plain_yaml import YAMLError, load_yaml

VARIABLE = "DREAMBOOTH_PL_ALLOW_CLASSES"
"""Environment variable that names further packages, with commas between them."""
PACKAGES = ("torch", "lightning", "bitsandbytes", "prodigyopt", "dreambooth_pl")
"""Packages whose classes a config may name."""
_CLASS = "class_path"
_PARTS = ("accelerator", "callbacks", "logger", "plugins", "profiler", "strategy")
_CLASS_KEYS = ("model.optimizer", *(f"trainer.{part}" for part in _PARTS))
_GROUPS = ("data", "fidelity", "model", "model.lora", "probe", "sampling", "test", "trainer")
"""Groups of keys. In place of their keys, the name of another config file may stand."""
_COMMANDS = ("fit.", "test.")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def check_words(arguments: Sequence[str]) -> None:
    """Check the classes that the command line names.

    Args:
        arguments: command-line arguments, such as `--model.optimizer=torch.optim.SGD`.

    Raises:
        UserError: a class is of a package that is not allowed.
    """
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        option, equals, value = argument.partition("=")
        if option.startswith("--"):
            value = value if equals else following
            _Check("the command line", Path()).string(option.removeprefix("--"), value)


def check_config(path: Path, content: Any) -> None:
    """Check the classes that a config file names, and those of the config files that it names.

    Args:
        path: the file.
        content: what it holds.

    Raises:
        UserError: a class is of a package that is not allowed, or a file that the config names is
            not valid.
    """
    _Check(str(path), path.parent).value("", content)


class _Check:
    """Checks the values of one source.

    Args:
        source: name of the source, for messages.
        folder: to which names of files in the source may be relative.
        seen: files that were checked already.
    """

    def __init__(self, source: str, folder: Path, seen: frozenset[Path] = frozenset()) -> None:
        self._source = source
        self._folder = folder
        self._seen = seen

    def value(self, key: str, value: Any) -> None:
        """Check a value under a dotted key."""
        if isinstance(value, Mapping):
            for name, part in value.items():
                self.value(f"{key}.{name}" if key else str(name), part)
        elif isinstance(value, list):
            for part in value:
                self.value(key, part)
        elif isinstance(value, str):
            self.string(key, value)

    def string(self, key: str, text: str) -> None:
        """Check a text: the name of a class or of a config file, or YAML in a text."""
        key = key.removesuffix("+")
        for command in _COMMANDS:
            key = key.removeprefix(command)
        names_class = key.rpartition(".")[2] == _CLASS or _is_class_key(key)
        if names_class or key in _GROUPS:
            self._file(key, text)
        if names_class and _DOTTED.fullmatch(text.strip()):
            self._class(key, text.strip())
        elif names_class or key in _GROUPS or _CLASS in text:
            try:
                content = load_yaml(text)
            except YAMLError as error:
                raise UserError(f"{self._source}: {key}: is not valid YAML: {error}") from error
            if not isinstance(content, str):
                self.value(key, content)

    def _class(self, key: str, name: str) -> None:
        package = name.partition(".")[0]
        more = [part.strip() for part in os.environ.get(VARIABLE, "").split(",")]
        if not _can_be_imported(package):
            return  # no code that could run: a text with dots, or a package that is not installed
        if package not in (*PACKAGES, *more):
            raise UserError(
                f"{self._source}: {key}: {name} is of the package {package}. Only classes of "
                f"{', '.join(PACKAGES)} are imported unasked, since an import runs the package's "
                f"code. If you trust it, set the environment variable {VARIABLE}={package}."
            )

    def _file(self, key: str, text: str) -> None:
        """Check the config file that a text names, if it does."""
        for path in (Path(text), self._folder / text):
            try:
                path = path.resolve()
                if path in self._seen or not path.is_file():
                    continue
                content = load_yaml(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):  # no name of a file, or no text in it
                continue
            except YAMLError as error:
                raise UserError(f"{path} is not valid YAML: {error}") from error
            _Check(str(path), path.parent, self._seen | {path}).value(key, content)


def _is_class_key(key: str) -> bool:
    """Return whether the key is that of a class, within one, or short for one."""
    is_group = key in _GROUPS or not key
    return any(
        key == own or key.startswith(f"{own}.") or (not is_group and own.startswith(key))
        for own in _CLASS_KEYS
    )


def _can_be_imported(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return True
