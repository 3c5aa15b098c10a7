"""Lets torchvision be imported where torch is a CPU build and torchvision a CUDA build.

The package index serves CUDA builds of torchvision for Linux. Beside a CPU build of torch their
compiled half cannot load, and `import torchvision` then fails on operators that it expects to be
defined - and with it timm, open_clip and diffusers, which only want its Python half. Declaring
those operators' schemas is enough. A matching pair of torch and torchvision is left alone.

`setup.cfg` registers `define_missing_operators` in torch's `torch.backends` entry point group, so
that it also holds for programs that import diffusers or open_clip without this package.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library = None  # a torch Library withdraws its definitions when it is collected


def define_missing_operators() -> None:
    """Declare the operators' schemas if torchvision's compiled half cannot load. Idempotent."""
    # Importing torch calls this function, by the entry point: look at _library after that.
    import torch

    global _library
    if _library is not None:
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    version_file = Path(spec.origin).with_name("version.py")
    if not version_file.is_file() or not re.search(r"\+cu\d+", version_file.read_text()):
        return
    if torch.version.cuda is not None:
        return
    _library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        _library.define(schema)
