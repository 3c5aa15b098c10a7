"""DreamBooth (arXiv 2208.12242) with LoRA on PyTorch Lightning."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

__version__ = "0.1.0"

_MISSING_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library = None  # a torch Library withdraws its definitions when it is collected


def _cuda_build(package: str) -> bool | None:
    """Return whether an installed torch or torchvision is a CUDA build; None without the package.

    Read off its version file, so that the package need not be imported.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    version = Path(spec.origin).with_name("version.py")
    return version.is_file() and bool(re.search(r"\+cu\d+", version.read_text(encoding="utf-8")))


class _BeforeTorchvision:
    """Has torchvision mended when it is imported: torch alone takes a second to import."""

    @classmethod
    def find_spec(cls, name: str, *_: object) -> None:
        """Find nothing, but mend torchvision before its own finder is asked."""
        if name == "torchvision" and cls in sys.meta_path:
            sys.meta_path.remove(cls)
            _let_torchvision_be_imported()


def _let_torchvision_be_imported() -> None:
    """Declare torchvision's operators where it is a CUDA build beside a CPU build of torch.

    The package index serves CUDA builds of torchvision for Linux. Beside a CPU build of torch their
    compiled half cannot load, and `import torchvision` fails on operators that it expects to be
    defined; timm, open_clip and diffusers, which need its Python half alone, fail with it.
    Declaring the operators' schemas is enough. A matching pair is left alone.
    """
    global _library
    if not _cuda_build("torchvision"):
        return
    import torch

    if torch.version.cuda is None and _library is None:
        _library = torch.library.Library("torchvision", "DEF")
        for schema in _MISSING_OPERATORS:
            _library.define(schema)


sys.meta_path.insert(0, _BeforeTorchvision)
