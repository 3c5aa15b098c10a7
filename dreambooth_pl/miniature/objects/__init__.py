"""The thirteen object classes of DreamBench in the picture-book world."""

from __future__ import annotations

from dreambooth_pl.miniature.look import SubjectClass
from dreambooth_pl.miniature.objects.backpack import BACKPACK
from dreambooth_pl.miniature.objects.cartoon import CARTOON
from dreambooth_pl.miniature.objects.footwear import BOOT, SNEAKER
from dreambooth_pl.miniature.objects.plush import STUFFED_ANIMAL
from dreambooth_pl.miniature.objects.tableware import BOWL, TEAPOT
from dreambooth_pl.miniature.objects.things import CLOCK, GLASSES
from dreambooth_pl.miniature.objects.toys import TOY
from dreambooth_pl.miniature.objects.vessels import CAN, CANDLE, VASE

OBJECT_CLASSES: tuple[SubjectClass, ...] = (
    BACKPACK, BOOT, BOWL, CAN, CANDLE, CARTOON, CLOCK, GLASSES, SNEAKER, STUFFED_ANIMAL, TEAPOT,
    TOY, VASE,
)  # fmt: skip
"""The object classes, ordered by noun."""
