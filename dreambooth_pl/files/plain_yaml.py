"""YAML that users write, read strictly: a key stands once, and aliases cannot blow a file up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml import YAMLError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dreambooth_pl.errors import UserError

__all__ = ["YAMLError", "load_yaml", "read_yaml"]

_MAX_REPEATED = 100_000  # nodes that aliases may add to those that a file writes out
_MAX_BITS = 1024  # of whole numbers


def load_yaml(text: str) -> Any:
    """Return what a YAML document holds, in plain types.

    Args:
        text: the document.

    Raises:
        YAMLError: the document is not valid, a mapping has a key twice, aliases repeat too much or
            stand within themselves, or a value cannot be made. Names key and line where known.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of SafeLoader
    except RecursionError as error:
        raise YAMLError("it is nested too deeply") from error
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        # PyYAML's constructors raise these for dates, numbers and tags that make no sense.
        raise YAMLError(f"it holds a value that makes no sense: {error}") from error


def read_yaml(path: Path, name: str | None = None) -> Any:
    """Return what a YAML file holds, in plain types.

    Args:
        path: the file, in UTF-8.
        name: what messages call it; None for its path.

    Raises:
        UserError: the file cannot be read, or is not valid; see `load_yaml`.
    """
    name = name or str(path)
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror or error}.") from error
    except (YAMLError, ValueError) as error:  # ValueError: bytes that are no UTF-8, or a path's NUL
        raise UserError(f"{name} is not valid YAML: {error}") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the checks."""

    def get_single_node(self) -> Node | None:
        node = super().get_single_node()
        if node is not None:
            _check_aliases(node)
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        # Checked here, since merge keys (<<) later add pairs that may well be there already.
        node = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                continue
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in seen:
                raise YAMLError(
                    f"line {line}: the key {key.value!r} stands there a second time (first in line "
                    f"{seen[name]}), and would replace the first. Join the two, or remove one."
                )
            seen[name] = line
        return node

    def construct_yaml_int(self, node: ScalarNode) -> int:
        value = super().construct_yaml_int(node)
        if value.bit_length() > _MAX_BITS:
            raise YAMLError(f"line {node.start_mark.line + 1}: the number is too large.")
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _check_aliases(root: Node) -> None:
    """Raise YAMLError if aliases repeat too many nodes, or a node within itself."""
    sizes: dict[int, int] = {}
    inside: set[int] = set()

    def size(node: Node) -> int:
        """Return the number of nodes when every alias is written out."""
        if id(node) in inside:
            raise YAMLError(
                f"line {node.start_mark.line + 1}: an alias (*) stands within what it repeats. "
                "Write the values out."
            )
        if id(node) not in sizes:
            inside.add(id(node))
            parts: list[Node] = []
            if isinstance(node, SequenceNode):
                parts = node.value
            elif isinstance(node, MappingNode):
                parts = [part for pair in node.value for part in pair]
            sizes[id(node)] = 1 + sum(map(size, parts))
            inside.remove(id(node))
        return sizes[id(node)]

    repeated = size(root) - len(sizes)
    if repeated > _MAX_REPEATED:
        raise YAMLError(
            "its aliases (*) repeat far too much: written out, it would have over "
            f"{_MAX_REPEATED} values more. Write the values out."
        )
