"""Scenes of the picture-book world: their contents, random or chosen, and their rendering."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageChops

from dreambooth_pl.miniature import effects
from dreambooth_pl.miniature.animals import CAT, DOG
from dreambooth_pl.miniature.canvas import Canvas, Colour, shade
from dreambooth_pl.miniature.look import Look, Pose, SubjectClass
from dreambooth_pl.miniature.objects import OBJECT_CLASSES
from dreambooth_pl.miniature.outfits import OUTFITS, PURPLE, RED
from dreambooth_pl.miniature.settings import SETTINGS

CLASSES: dict[str, SubjectClass] = {c.noun: c for c in (DOG, CAT, *OBJECT_CLASSES)}
TINTS: dict[str, Colour] = {"red": RED, "purple": PURPLE}
FINISHES = ("shiny", "wet", "cube shaped")
STYLES = ("in the style of van gogh",)
ACTIONS = ("driving car",)

_OVERSAMPLING = 2
_AFLOAT = ("water", "milk")
_CAR_COLOURS: tuple[Colour, ...] = (
    (212, 48, 44),
    (44, 110, 200),
    (246, 190, 40),
    (60, 160, 90),
    (120, 190, 220),
    (240, 130, 50),
)


@dataclass(frozen=True)
class Scene:
    """Everything that a picture shows. `render` depends on nothing else."""

    noun: str
    look: Look
    pose: Pose
    setting: str
    x: float = 0.5
    """Horizontal centre of the subject, 0 to 1."""
    y: float = 0.9
    """Ground under the subject, 0 (top) to 1 (bottom)."""
    size: float = 0.7
    """Length of the subject's local unit, in picture widths."""
    flip: bool = False
    tint: str | None = None
    finish: str | None = None
    outfit: str | None = None
    style: str | None = None
    action: str | None = None
    seed: int = 0
    """Seed of the scenery and of random details: clouds, drops, brush strokes."""

    def plain(self) -> Scene:
        """Return the scene without clothing, tint, finish, style and action."""
        return replace(self, tint=None, finish=None, outfit=None, style=None, action=None)


def sample_pose(rng: random.Random, subject_class: SubjectClass) -> Pose:
    """Sample a pose of a subject of this class."""
    return Pose(rng.choice(subject_class.poses), rng.uniform(-1, 1), rng.uniform(-1, 1))


def sample_view(rng: random.Random, scene: Scene) -> Scene:
    """Return the scene with another random pose, size, position, light and scenery."""
    subject_class = CLASSES[scene.noun]
    pose = sample_pose(rng, subject_class)
    portrait = pose.name == "portrait"
    return replace(
        scene,
        pose=pose,
        x=0.5 + rng.uniform(-0.07, 0.07),
        y=1.0 if portrait else rng.uniform(0.87, 0.94),
        size=rng.uniform(0.72, 0.9) if portrait else rng.uniform(0.64, 0.86),
        flip=rng.random() < 0.5,
        seed=rng.getrandbits(48),
    )


def sample_scene(
    rng: random.Random,
    nouns: Sequence[str] = tuple(CLASSES),
    settings: Sequence[str] = tuple(SETTINGS),
) -> Scene:
    """Sample a scene.

    Args:
        rng: the source of randomness.
        nouns: class nouns to choose from. A repeated noun is more frequent.
        settings: names of settings to choose from.
    """
    noun = rng.choice(nouns)
    subject_class = CLASSES[noun]
    scene = Scene(noun, subject_class.sample_look(rng), Pose("standing"), rng.choice(settings))
    scene = sample_view(rng, scene)
    return replace(scene, **sample_changes(rng, subject_class))


def sample_changes(rng: random.Random, subject_class: SubjectClass) -> dict[str, str]:
    """Sample clothing, tint, finish, style and action, as fields of `Scene`; often none."""
    changes: dict[str, str] = {}
    if rng.random() < (0.36 if subject_class.live else 0.06):
        changes["outfit"] = rng.choice(
            (*OUTFITS, *(["in red t-shorts"] * 3)) if subject_class.live else ("in red t-shorts",)
        )
    lucky = rng.random()
    if lucky < 0.11:
        changes["tint"] = rng.choice(tuple(TINTS))
    elif lucky < 0.23:
        changes["finish"] = rng.choice(FINISHES)
    if rng.random() < 0.12:
        changes["style"] = rng.choice(STYLES)
    if rng.random() < 0.12:
        changes["action"] = rng.choice(ACTIONS)
    return changes


def tinted(look: Look, colour: Colour) -> Look:
    """Return the look with a tint as main colour and a darker or lighter one as second.

    The second colour stays darker than the main one if it was darker, else it is lighter.
    """
    darker_second = sum(look.colours[1]) < sum(look.colours[0])
    return look.with_colour(colour, shade(colour, 0.55 if darker_second else 1.45))


def render(scene: Scene, size: int = 128) -> Image.Image:
    """Render a scene as an RGB picture of `size` x `size` pixels."""
    return render_with_mask(scene, size)[0]


def render_with_mask(scene: Scene, size: int = 128) -> tuple[Image.Image, Image.Image]:
    """Render a scene and the mask of its subject.

    Returns:
        The picture, RGB, and the mask, mode "L", 255 where the subject is visible; both of `size` x
        `size` pixels.
    """
    rng = random.Random(scene.seed)
    pixels = size * _OVERSAMPLING
    image = Image.new("RGB", (pixels, pixels))
    canvas = Canvas(image)
    front = SETTINGS[scene.setting].draw(canvas, rng)
    image = canvas.image
    if scene.action == "driving car":
        colour = rng.choice(_CAR_COLOURS)
        ground = rng.uniform(0.93, 0.98)
        effects.car(image, rng, True, colour, ground)
        seated = replace(scene, x=0.46 + rng.uniform(-0.03, 0.03), y=ground - 0.2, size=0.66)
        mask, _ = _draw_subject(image, seated, rng, grounded=False)
        subject = image.copy()
        effects.car(image, rng, False, colour, ground)
    else:
        mask, box = _draw_subject(image, scene, rng, grounded=scene.setting not in _AFLOAT)
        subject = image.copy()
        if front is not None:
            front(Canvas(image), box)
    seen = ImageChops.subtract(mask, effects.subject_mask(subject, image))
    image = effects.light(image, rng)
    if scene.style == "in the style of van gogh":
        image = effects.van_gogh(image, rng)
    small = (size, size)
    return image.resize(small, Image.Resampling.BOX), seen.resize(small, Image.Resampling.BOX)


def _draw_subject(
    image: Image.Image, scene: Scene, rng: random.Random, grounded: bool
) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """Draw the subject with its clothing and finish into `image`.

    Returns:
        The subject's mask and its box (left, top, right, bottom), 0 to 1.
    """
    subject_class = CLASSES[scene.noun]
    look = tinted(scene.look, TINTS[scene.tint]) if scene.tint else scene.look
    pose = scene.pose
    if scene.action == "driving car" and subject_class.live:
        pose = replace(pose, name="sitting")
    before = image.copy()
    if grounded and pose.name != "portrait":
        effects.shadow(before, scene.x, scene.y, scene.size * 0.45)
        image.paste(before)
    frame = Canvas(image).frame(scene.x, scene.y, scene.size, flip=scene.flip)
    anchors = subject_class.draw(frame, look, pose)
    if scene.outfit:
        OUTFITS[scene.outfit](frame, anchors)
    mask = effects.subject_mask(before, image)
    left, top, right, bottom = mask.getbbox() or (0, 0, 1, 1)
    box = tuple(v / image.width for v in (left, top, right, bottom))
    if scene.finish == "cube shaped":
        plain = image.copy()
        image.paste(before)
        edge = scene.size * 0.46
        box = (scene.x - edge, scene.y - 2 * edge, scene.x + edge, scene.y)
        effects.cube(image, plain, mask, look.colours[0], box)
        mask = effects.subject_mask(before, image)
    elif scene.finish == "shiny":
        effects.shiny(image, mask, box, rng)
    elif scene.finish == "wet":
        effects.wet(image, mask, box, rng)
    return mask, box
