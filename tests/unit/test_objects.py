"""The object classes: drawings stay in the frame, are repeatable and use the look's colours."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from dreambooth_pl.miniature.canvas import Canvas
from dreambooth_pl.miniature.look import Anchors, Look, Pose, SubjectClass
from dreambooth_pl.miniature.objects import OBJECT_CLASSES

GROUND = (1, 255, 2)
"""A background colour that is in no palette."""
VIEWS = [(c, pose) for c in OBJECT_CLASSES for pose in c.poses]
NAMES = [f"{c.noun}-{pose}" for c, pose in VIEWS]
MOVES = ((0.0, 0.0), (-1.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (1.0, -1.0))
SIZE, SCALE = 192, 96


def _draw(subject: SubjectClass, look: Look, pose: Pose) -> tuple[np.ndarray, Anchors]:
    """Draw a subject on two by two local units, with the local origin at (1, 1.5)."""
    image = Image.new("RGB", (SIZE, SIZE), GROUND)
    frame = Canvas(image).frame(0.5, 0.75, SCALE / SIZE)
    found = subject.draw(frame, look, pose)
    return np.asarray(image).astype(int), found


def _looks(subject: SubjectClass, count: int) -> list[Look]:
    return [subject.sample_look(random.Random(seed)) for seed in range(count)]


def _covered(picture: np.ndarray) -> np.ndarray:
    return (picture != np.array(GROUND)).any(axis=2)


def test_all_object_nouns_of_dreambench_exist() -> None:
    nouns = [c.noun for c in OBJECT_CLASSES]
    assert nouns == [
        "backpack", "boot", "bowl", "can", "candle", "cartoon", "clock", "glasses", "sneaker",
        "stuffed animal", "teapot", "toy", "vase",
    ]  # fmt: skip
    assert not any(c.live for c in OBJECT_CLASSES)
    assert all(2 <= len(c.poses) <= 4 and len(set(c.poses)) == len(c.poses) for c in OBJECT_CLASSES)


@pytest.mark.parametrize(("subject", "pose"), VIEWS, ids=NAMES)
def test_drawing_stays_in_its_frame_and_fills_it(subject: SubjectClass, pose: str) -> None:
    for look in _looks(subject, 6):
        for turn, bend in MOVES:
            picture, found = _draw(subject, look, Pose(pose, turn, bend))
            rows, columns = np.nonzero(_covered(picture))
            x = columns / SCALE - 1.0
            y = rows / SCALE - 1.5
            where = f"{look.kind} turn {turn} bend {bend}"
            assert x.min() >= -0.76 and x.max() <= 0.76, f"{where}: {x.min()} to {x.max()}"
            assert y.min() >= -1.26 and y.max() <= 0.13, f"{where}: {y.min()} to {y.max()}"
            assert max(np.ptp(x), np.ptp(y)) >= 0.55, where
            assert y.max() > -0.2, f"{where}: floats above the ground"
            for name in ("head_top", "eyes", "neck", "chest", "belly", "rear"):
                px, py = found.points[name]
                assert -0.8 <= px <= 0.8 and -1.3 <= py <= 0.15, f"{where}: {name}"
                assert 0.02 < found.sizes[name] < 0.8


@pytest.mark.parametrize(("subject", "pose"), VIEWS, ids=NAMES)
def test_same_look_and_pose_give_the_same_picture_and_others_do_not(
    subject: SubjectClass, pose: str
) -> None:
    first, second = _looks(subject, 2)
    assert first == subject.sample_look(random.Random(0))
    picture = _draw(subject, first, Pose(pose))[0]
    np.testing.assert_array_equal(picture, _draw(subject, first, Pose(pose))[0])
    share = _covered(picture).sum()
    for other in (
        _draw(subject, second, Pose(pose))[0],
        _draw(subject, first, Pose(pose, turn=0.9))[0],
        _draw(subject, first, Pose(pose, bend=0.9))[0],
    ):
        assert (picture != other).any(axis=2).sum() > 0.02 * share


@pytest.mark.parametrize(("subject", "pose"), VIEWS, ids=NAMES)
def test_first_colour_is_visible_and_can_be_replaced(subject: SubjectClass, pose: str) -> None:
    red = (221, 17, 23)
    for look in _looks(subject, 6):
        picture = _draw(subject, look, Pose(pose, 0.3, 0.2))[0]
        covered = _covered(picture).sum()
        own = (picture == np.array(look.colours[0])).all(axis=2).sum()
        assert own > 0.05 * covered, f"{look.kind}: {own / covered:.3f} of the picture"
        recoloured = _draw(subject, look.with_colour(red), Pose(pose, 0.3, 0.2))[0]
        assert (recoloured == np.array(red)).all(axis=2).sum() >= 0.9 * own
        assert (recoloured != picture).any(axis=2).sum() > 0.05 * covered
