"""Writing of PyTorch files with clear errors, such as for a full disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def save_torch_file(value: Any, path: str | Path) -> None:
    """Write a file for `torch.load` to a temporary path, such as that of `atomic_path`.

    Raises:
        OSError: the file cannot be written. `torch.save` itself raises a RuntimeError about
            positions in the file, which does not name the reason.
    """
    with Path(path).open("wb") as file:
        try:
            torch.save(value, file)
        except RuntimeError as error:
            reason = error.__context__
            if isinstance(reason, OSError):
                raise OSError(reason.errno, reason.strerror) from error
            raise
