"""Plans against counts of the paper, seeds written down once, and prompts read by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth_pl.errors import UserError
from dreambooth_pl.evaluation.protocols import class_plan, make_plan, protocol_name
from dreambooth_pl.prompts import prompt_set
from dreambooth_pl.sampling.requests import image_seed, probe_requests


def test_probes_are_those_of_training() -> None:
    plan = make_plan("probes", "sks", "dog", 42, "sks_dog")
    assert list(plan.requests) == [request for _, request in probe_requests("sks", "dog", 42)]
    assert plan.class_texts[:5] == ("A dog",) * 4 + ("A dog in red t-shorts.",)
    assert plan.kinds == ("plain",) * 4 + ("clothing", "style", "place", "action")
    assert len(set(plan.templates)) == 5


@pytest.mark.parametrize(
    ("noun", "kinds"),
    [
        ("dog", {"setting": 10, "accessory": 10, "property": 5}),
        ("teapot", {"setting": 20, "property": 5}),
    ],
)
def test_dreambench_is_25_prompts_of_the_class_by_4(noun: str, kinds: dict[str, int]) -> None:
    plan = make_plan("dreambench", "sks", noun, 42, "it")
    assert len(plan.requests) == 100 and len(set(plan.requests)) == 100
    assert len({request.seed for request in plan.requests}) == 100
    templates = dict.fromkeys(zip(plan.templates, plan.kinds, strict=True))
    assert len(templates) == 25
    counted = [kind for _, kind in templates]
    assert {kind: counted.count(kind) for kind in counted} == kinds
    assert plan.prompts[0] == f"a sks {noun} in the jungle"
    assert plan.class_texts[0] == f"a {noun} in the jungle"
    assert all(plan.templates.count(template) == 4 for template in plan.templates)


def test_seeds_depend_on_seed_subject_template_and_number_alone() -> None:
    plan = make_plan("dreambench", "sks", "dog", 42, "dog6")
    other_words = make_plan("dreambench", "hta", "cat", 42, "dog6")
    assert [r.seed for r in plan.requests] == [r.seed for r in other_words.requests]
    template = "a {identifier} {class} in the snow"
    first = plan.templates.index(template)
    expected = [image_seed(42, "dog6", template, k) for k in range(4)]
    assert [request.seed for request in plan.requests[first : first + 4]] == expected
    for seed, subject in ((43, "dog6"), (42, "dog7")):
        others = make_plan("dreambench", "sks", "dog", seed, subject)
        assert not {r.seed for r in plan.requests} & {r.seed for r in others.requests}


def test_class_images_are_of_the_class_alone() -> None:
    plan = class_plan("dog", 42, 3)
    assert plan.prompts == plan.class_texts == ("a dog",) * 3
    assert len({request.seed for request in plan.requests}) == 3
    assert class_plan("dog", 42, 5).requests[:3] == plan.requests
    assert [r.seed for r in class_plan("cat", 42, 3).requests] == [r.seed for r in plan.requests]


def test_a_users_own_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: My trial!\nimages_per_prompt: 2\nprompts:\n"
        "  place:\n    - a {identifier} {class} at sea\n    - a {identifier} {class} at home\n"
        "  colour: ['a blue {identifier} {class}']\n"
    )
    assert protocol_name(str(path)) == "My-trial"
    plan = make_plan(str(path), "sks", "dog", 1, "it")
    assert plan.labels == ("at sea 1", "at sea 2", "at home 1", "at home 2", "blue 1", "blue 2")
    assert plan.kinds == ("place",) * 4 + ("colour",) * 2
    assert plan.class_texts[-1] == "a blue dog"
    path.write_text("- a {identifier} {class} at sea\n")
    assert protocol_name(str(path)) == "mine"
    assert make_plan(str(path), "sks", "dog", 1, "it").kinds == ("",) * 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: probes\nprompts: ['a {class}']", "taken"),
        ("images_per_prompt: 0\nprompts: ['a {class}']", "images_per_prompt"),
        ("- a {class}\n- a {class}", "twice"),
        ("a: {b: {c: d}}", "not text"),
    ],
)
def test_mistakes_in_a_users_file_are_told(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=rf"mine\.yaml.*{message}"):
        make_plan(str(path), "sks", "dog", 1, "it")


@pytest.mark.parametrize("name", ["probe", "dreambench_live", "nowhere.yaml"])
def test_an_unknown_protocol_is_told(name: str) -> None:
    with pytest.raises(UserError, match="neither a protocol"):
        protocol_name(name)


def test_both_lists_share_settings_and_properties() -> None:
    live, of_object = prompt_set("dreambench_live"), prompt_set("dreambench_object")
    shared = (
        dict(zip(live.prompts, live.kinds, strict=True)).items()
        & dict(zip(of_object.prompts, of_object.kinds, strict=True)).items()
    )
    assert [kind for _, kind in sorted(shared, key=lambda item: item[1])] == (
        ["property"] * 5 + ["setting"] * 10
    )


def test_short_is_every_other_prompt_of_dreambench_on_the_same_seeds() -> None:
    for noun in ("dog", "teapot"):
        whole, short = (make_plan(name, "sks", noun, 42, "it") for name in ("dreambench", "short"))
        images = list(zip(whole.templates, whole.kinds, whole.requests, strict=True))
        expected = [own for i, own in enumerate(images) if i // 4 % 2 == 0 and i % 4 < 2]
        assert list(zip(short.templates, short.kinds, short.requests, strict=True)) == expected
        assert len(short.requests) == 26 and len(set(short.templates)) == 13
