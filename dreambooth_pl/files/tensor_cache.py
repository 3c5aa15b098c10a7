"""Tensors that took time to compute, kept in a folder by the facts that they depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dreambooth_pl.files.atomic import atomic_path

_FACTS = "facts"  # in a file's metadata


class TensorCache:
    """A folder with a safetensors file for each result. Processes may share it.

    Args:
        folder: is made when the first result is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, facts: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """Return the tensors that were kept under equal facts, on the CPU; None without any.

        A file that cannot be read, or was kept under other facts and renamed, counts as none.
        """
        try:
            with safe_open(self._path(facts), "pt") as file:
                if (file.metadata() or {}).get(_FACTS) != _text(facts):
                    return None
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return None

    def put(self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors.

        Args:
            facts: everything that they depend on, in plain types.
            tensors: by name.

        Raises:
            WriteError: the file cannot be written.
        """
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with atomic_path(self._path(facts)) as path:
            save_file(kept, path, metadata={_FACTS: _text(facts)})

    def _path(self, facts: Mapping[str, Any]) -> Path:
        return self._folder / f"{sha256(_text(facts).encode()).hexdigest()[:32]}.safetensors"


def _text(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, sort_keys=True)
