"""PyTorch's own files, written so that a full disk is told as what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def save_torch_file(value: Any, path: str | Path) -> None:
    """Write what `torch.load` reads to a temporary path, such as `atomic_path` gives.

    Raises:
        OSError: it cannot be written. `torch.save` itself raises a RuntimeError about positions in
            the file, which says nothing about the reason.
    """
    with Path(path).open("wb") as file:
        try:
            torch.save(value, file)
        except RuntimeError as error:
            reason = error.__context__
            if isinstance(reason, OSError):
                raise OSError(reason.errno, reason.strerror) from error
            raise
