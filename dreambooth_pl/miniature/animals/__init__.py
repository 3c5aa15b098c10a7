"""Dogs and cats of the picture-book world."""

from __future__ import annotations

from functools import partial

from dreambooth_pl.miniature.animals.body import POSES, draw
from dreambooth_pl.miniature.animals.looks import sample_cat, sample_dog
from dreambooth_pl.miniature.look import SubjectClass

DOG = SubjectClass("dog", True, POSES, sample_dog, partial(draw, cat=False))
CAT = SubjectClass("cat", True, POSES, sample_cat, partial(draw, cat=True))
