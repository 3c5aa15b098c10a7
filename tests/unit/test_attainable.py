"""The right answers to prompts: what they show, how they are kept, what their scores are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.image_folder import Words, read_image_folder
from dreambooth_pl.evaluation.protocols import make_plan
from dreambooth_pl.miniature import attainable, subjects, world
from dreambooth_pl.prompts import prompt_set

BASE = Path(__file__).parents[2] / "data" / "miniature"


@pytest.mark.parametrize(
    ("template", "changes"),
    [
        ("a {identifier} {class}", {}),
        ("A {identifier} {class} in red t-shorts.", {"outfit": "in red t-shorts"}),
        ("a {identifier} {class} in the style of van gogh.", {"style": "in the style of van gogh"}),
        ("A {identifier} {class}  driving car.", {"action": "driving car"}),
        ("a cube shaped {identifier} {class}", {"finish": "cube shaped"}),
        (
            "a {identifier} {class} on top of a purple rug in a forest",
            {"setting": "purple_rug_in_forest"},
        ),
        (
            "a {identifier} {class} with the Eiffel Tower in the background",
            {"setting": "eiffel_tower"},
        ),
        (
            "a wet {identifier} {class} wearing a red hat on the beach, in the style of van gogh",
            {
                "finish": "wet",
                "outfit": "wearing a red hat",
                "setting": "beach",
                "style": "in the style of van gogh",
            },
        ),
    ],
)
def test_prompts_are_read(template, changes):
    assert attainable.changes_of(template) == changes


@pytest.mark.parametrize("name", ["dreambench_live", "dreambench_object", "probes"])
def test_every_prompt_of_the_protocols_asks_for_one_thing(name):
    found = [attainable.changes_of(template) for template in prompt_set(name).prompts]
    assert all(len(changes) == 1 for changes in found)
    assert len({tuple(changes.items()) for changes in found}) == len(found)


@pytest.mark.parametrize(
    ("template", "part"),
    [("a striped {identifier} {class}", "striped"), ("a {identifier} {class} on mars", "on mars")],
)
def test_what_the_world_does_not_know_is_named(template, part):
    with pytest.raises(UserError, match=part):
        attainable.changes_of(template)


def test_answers_show_the_subject_in_many_views():
    template = "a {identifier} {class} on the beach"
    scenes = [attainable.answer("dog6", template, number) for number in range(8)]
    photo = subjects.photos("dog6")[0]
    for scene in scenes:
        assert (scene.noun, scene.look, scene.setting) == ("dog", photo.look, "beach")
        assert scene.plain() == scene
    assert len({(scene.pose, scene.x, scene.size) for scene in scenes}) == 8
    red = attainable.answer("dog6", "a red {identifier} {class}", 0)
    assert red.tint == "red" and red.setting in subjects.SETTINGS
    assert replace(red, tint=None).plain() == replace(red, tint=None)


def test_the_images_are_those_of_the_protocol(tmp_path):
    plan, images = attainable.render_answers("can", tmp_path / "can")
    read, files = read_image_folder(tmp_path / "can", Words())  # as any tool's images are read
    expected = make_plan("dreambench", "sks", "can", 42, "can")
    for one in (plan, read):
        assert one.templates == expected.templates and one.kinds == expected.kinds
    assert len(files) == 100
    for ours, theirs in zip(images, files, strict=True):
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    second = plan.templates[4]
    by_hand = world.render(attainable.answer("can", second, 2))
    assert np.array_equal(np.asarray(files[6]), np.asarray(by_hand))


def test_the_table_is_the_mean_over_subjects(tmp_path, capsys):
    arguments = [str(tmp_path), "can", "dog6", "--base", str(BASE), "--format", "json"]
    assert attainable.main(arguments) == 0
    rows = {row["run"]: row for row in json.loads(capsys.readouterr().out)}
    photos, mean, can, dog = (rows[n] for n in ("real photos", "rendered as asked", "can", "dog6"))
    for score in ("dino", "clip_i", "clip_t", "div"):
        average = (can[score]["mean"] + dog[score]["mean"]) / 2
        assert mean[score]["mean"] == pytest.approx(average, abs=1e-5)
    assert mean["n_images"] == 200 and photos["n_images"] == 10
    # In other places, clothes and colours even the subject itself is less like its photos.
    assert 0.4 < mean["dino"]["mean"] < photos["dino"]["mean"]
    assert (tmp_path / "can.png").is_file() and (tmp_path / "dog6.png").is_file()


def test_any_protocol_of_known_words_has_answers(tmp_path, capsys):
    plan, images = attainable.render_answers("sks_dog", tmp_path / "probes", "probes")
    assert len(images) == 8 and plan == make_plan("probes", "sks", "dog", 42, "sks_dog")
    assert len({image.tobytes() for image in images}) == 8  # the four plain ones differ, too
    own = tmp_path / "own.yaml"
    own.write_text("- a {identifier} {class} at sea\n")
    arguments = [str(tmp_path / "sea"), "dog", "--base", str(BASE), "--protocol", str(own)]
    assert attainable.main(arguments) == 1
    assert "the picture-book world has no picture of 'at sea'" in capsys.readouterr().err
    assert not (tmp_path / "sea").exists()


def test_mistakes_are_told(tmp_path, capsys):
    arguments = [str(tmp_path / "out"), "can", "--base", str(tmp_path / "nowhere")]
    assert attainable.main(arguments) == 1
    assert "--base" in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
