"""The picture-book world: rendering depends only on the scene, and captions are true."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPTokenizer

from dreambooth_pl.bases.clip_tokenizer import write_clip_tokenizer
from dreambooth_pl.miniature import subjects, world
from dreambooth_pl.miniature.captions import caption, rare_tokens
from dreambooth_pl.miniature.look import Pose
from dreambooth_pl.miniature.outfits import OUTFITS
from dreambooth_pl.prompts import IDENTIFIERS, SUBJECTS

REPOSITORY = Path(__file__).parents[2]


def plain_scene(noun: str = "dog", pose: str = "standing") -> world.Scene:
    look = world.CLASSES[noun].sample_look(random.Random(3))
    return world.Scene(noun, look, Pose(pose, 0.2, 0.1), "plain_wall", seed=5)


def pixels(scene: world.Scene) -> np.ndarray:
    return np.asarray(world.render(scene, 64)).astype(int)


def test_a_scene_is_rendered_the_same_every_time():
    scene = world.sample_scene(random.Random(1))
    assert (pixels(scene) == pixels(scene)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"tint": "red"},
        {"tint": "purple"},
        {"finish": "shiny"},
        {"finish": "wet"},
        {"finish": "cube shaped"},
        {"style": "in the style of van gogh"},
        {"action": "driving car"},
        {"flip": True},
        {"setting": "beach"},
        {"seed": 6},
    ],
)
@pytest.mark.parametrize("noun", ["dog", "teapot"])
def test_every_part_of_a_scene_is_visible(noun, change):
    scene = plain_scene(noun, world.CLASSES[noun].poses[0])
    assert np.abs(pixels(scene) - pixels(replace(scene, **change))).mean() > 0.5


def test_the_mask_marks_the_visible_subject():
    scene = plain_scene()
    picture, mask = world.render_with_mask(scene)
    assert mask.size == picture.size and mask.mode == "L"
    inside = np.asarray(mask) == 255
    # another look of the same build changes the picture on the subject only
    other = np.asarray(
        world.render(replace(scene, look=scene.look.with_colour((9, 9, 9), (9, 9, 9))))
    )
    changed = np.abs(np.asarray(picture).astype(int) - other).sum(2) > 8
    assert changed.sum() > 500
    assert (changed & (np.asarray(mask) == 0)).sum() == 0
    assert 0.05 < inside.mean() < 0.6


def test_the_mask_excludes_what_stands_in_front_of_the_subject():
    seated = replace(plain_scene(pose="sitting"), action="driving car")
    _, mask = world.render_with_mask(seated)
    covered = np.asarray(mask)[100:]
    assert covered.max() == 0  # the car's body and wheels
    assert np.asarray(mask)[:80].max() == 255


def test_a_red_dog_is_red():
    box = np.s_[24:48, 20:44]
    red, green, _ = pixels(replace(plain_scene(), tint="red"))[box].mean((0, 1))
    plain_red, plain_green, _ = pixels(plain_scene())[box].mean((0, 1))
    assert red - green > plain_red - plain_green + 30


@pytest.mark.parametrize("outfit", OUTFITS)
@pytest.mark.parametrize("noun", ["dog", "cat"])
def test_outfits_are_visible_in_every_pose_and_cover_only_a_part(noun, outfit):
    for pose in world.CLASSES[noun].poses:
        scene = plain_scene(noun, pose)
        changed = np.abs(pixels(scene) - pixels(replace(scene, outfit=outfit))).sum(-1) > 30
        assert changed.mean() > 0.004, pose
        assert changed.mean() < 0.4, pose


def test_photos_show_one_subject_in_different_poses_and_places():
    for name in ("sks_dog", *SUBJECTS):
        scenes = subjects.photos(name)
        assert 4 <= len(scenes) <= 6
        assert len({id(s.look) for s in scenes}) == 1
        assert len({s.setting for s in scenes}) == len(scenes)
        assert len({s.pose.name for s in scenes}) > 1
        assert all(s.noun == SUBJECTS.get(name, "dog") for s in scenes)


def test_the_default_subject_is_what_the_command_renders(tmp_path):
    rendered = subjects.write("sks_dog", tmp_path)
    committed = sorted((REPOSITORY / "data" / "sks_dog").glob("*.png"))
    assert [p.name for p in rendered] == [p.name for p in committed]
    for ours, theirs in zip(rendered, committed, strict=True):
        difference = np.asarray(Image.open(ours)).astype(int) - np.asarray(Image.open(theirs))
        assert np.abs(difference).mean() < 1


def test_subjects_are_not_mixed_with_other_pictures(tmp_path, capsys):
    theirs = tmp_path / "dog" / "00.jpg"
    theirs.parent.mkdir()
    Image.new("RGB", (9, 9)).save(theirs)
    before = theirs.read_bytes()
    assert subjects.main([str(tmp_path), "can", "dog"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {theirs} is not one of the rendered photos of dog")
    assert list(theirs.parent.iterdir()) == [theirs] and theirs.read_bytes() == before


def test_a_subject_that_was_changed_is_not_overwritten(tmp_path, capsys):
    assert subjects.main([str(tmp_path), "can"]) == 0
    changed = tmp_path / "can" / "02.png"
    Image.open(changed).rotate(90).save(changed)
    (tmp_path / "can" / "00.mask.png").write_bytes(b"a mask of the user's")
    before = {path: path.read_bytes() for path in changed.parent.iterdir()}
    assert subjects.main([str(tmp_path), "can"]) == 1
    assert "02.png is not one of the rendered photos of can" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in changed.parent.iterdir()} == before
    changed.unlink()
    assert subjects.main([str(tmp_path), "can"]) == 0  # the missing photo is rendered again
    assert len(list(changed.parent.glob("0?.png"))) == 5


def test_an_unknown_subject_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        subjects.main([str(tmp_path / "out"), "unicorn"])
    assert "no subject is called 'unicorn'; there are sks_dog, backpack," in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_captions_name_the_class_and_only_what_is_there():
    rng = random.Random(0)
    for _ in range(400):
        scene = world.sample_scene(rng)
        text = caption(scene, rng)
        words = re.findall(r"[a-z]+", text.lower())
        assert scene.noun in text
        assert not set(words) & set(IDENTIFIERS)
        assert ("van gogh" in text) <= (scene.style is not None)
        assert ("driving car" in text) <= (scene.action is not None)
        for outfit in OUTFITS:
            assert (outfit in text) <= (scene.outfit == outfit)
        for tint in world.TINTS:
            # A purple rug or a red hat is not a tint of the subject.
            said = re.search(rf"\b{tint} (\w+ )?{scene.noun}", text)
            assert (said is not None) <= (scene.tint == tint)


def test_rare_tokens_are_single_tokens_and_not_identifiers(tmp_path):
    tokenizer = write_clip_tokenizer(tmp_path, 40)
    tokens = rare_tokens()
    assert len(tokens) > 5_000
    assert not set(tokens) & set(IDENTIFIERS)
    for token in random.Random(0).sample(tokens, 200):
        assert len(tokenizer(token).input_ids) == 3, token


def test_the_tokenizer_is_clips(tmp_path):
    import open_clip

    tokenizer = write_clip_tokenizer(tmp_path, 40)
    assert isinstance(tokenizer, CLIPTokenizer)
    assert len(tokenizer) == 49408
    theirs = open_clip.SimpleTokenizer(context_length=40)
    for text in ("A sks dog in red t-shorts.", "a photo of a cat, in the style of van gogh", ""):
        ids = tokenizer(text).input_ids
        assert ids == theirs([text])[0][: len(ids)].tolist()


@pytest.mark.parametrize("name", sorted({*subjects.KINDS, *subjects.COLOURS}))
def test_a_subject_is_what_its_name_says(name):
    sampled = world.CLASSES[SUBJECTS[name]].sample_look(random.Random(0))
    for scene in subjects.photos(name):
        assert subjects.KINDS.get(name, {}).items() <= scene.look.kind.items()
        assert scene.look.kind.keys() == sampled.kind.keys()  # only traits that the class has
        if name in subjects.COLOURS:
            assert scene.look.colours[0] == subjects.COLOURS[name]
