"""DreamBooth (arXiv 2208.12242) with LoRA on PyTorch Lightning."""

from dreambooth_pl.torchvision_import import define_missing_operators

__version__ = "0.1.0"

define_missing_operators()
