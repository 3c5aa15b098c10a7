"""Words that will not do, and settings without effect: an error or one line, with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dreambooth_pl.adapters import AdapterSettings, add_adapters
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.commands.train_notes import check_with_base, training_notes
from dreambooth_pl.data.settings import DataSettings
from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import check_template
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.settings import ModelSettings


@pytest.fixture(scope="module")
def base(tiny_base_dir: Path) -> Base:
    return load_base(str(tiny_base_dir))


@pytest.fixture()
def notes(base: Base, photo_dir: Path) -> Callable[..., list[str]]:
    def notes(data: dict | None = None, model: dict | None = None, **sampling) -> list[str]:
        return training_notes(
            base,
            tuple(sorted(photo_dir.glob("*.png"))),
            DataSettings(**(data or {})),
            replace(ModelSettings(lora=AdapterSettings(rank=2)), **(model or {})),
            SamplingSettings(**sampling),
        )

    return notes


MISTAKES = {
    "empty": ({"identifier": ""}, "data.identifier: is empty; give a rare word"),
    "blank": ({"identifier": "  "}, "data.identifier: is empty"),
    "the noun itself": ({"identifier": "Dog"}, "data.identifier: 'Dog' is data.class_noun as well"),
    "not in the prompt": (
        {"instance_prompt": "a {class}"},
        "data.instance_prompt: 'a dog' does not say the identifier",
    ),
    "only within a word": ({"instance_prompt": "a skster"}, "data.instance_prompt"),
    "broken brace": (
        {"instance_prompt": "a {identifier {class}"},
        "data.instance_prompt: .*brace without its partner",
    ),
    "other broken brace": ({"class_prompt": "a class}"}, "data.class_prompt: .*brace"),
    "in the class's prompt": (
        {"class_prompt": "a SKS dog"},
        "data.class_prompt: .*subject's alone",
    ),
    "no class prompt": ({"class_prompt": " "}, "data.class_prompt: is empty"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_words_that_cannot_work_are_refused(case) -> None:
    settings, message = MISTAKES[case]
    with pytest.raises(UserError, match=message):
        DataSettings(**settings)


def test_case_does_not_matter_and_captions_bring_their_own_words() -> None:
    DataSettings(instance_prompt="A photo of SKS, a {class}.")
    DataSettings(instance_prompt="a photo", captions="files")


@pytest.mark.parametrize("template", ["a {", "}", "{identifier}}", "{{class}"])
def test_braces_go_in_pairs(template) -> None:
    with pytest.raises(UserError, match="brace"):
        check_template(template)


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        ("sks", None),
        ("ohwx", None),
        ("zwx", None),
        ("cute", "knows well"),
        ("zebra", "knows well"),
        ("Table", "knows well"),
        ("quokka", "3 tokens"),
        ("<my-new-word>", "tokens to the base"),
        ("two words", "is not one word"),
    ],
)
def test_unfortunate_identifiers_are_told_in_a_line(notes, identifier, message) -> None:
    found = notes({"identifier": identifier})
    assert len(found) == (message is not None), found
    if message:
        assert found[0].startswith(f"data.identifier: {identifier!r} is")
        assert message in found[0] and "dreambooth_pl.identifiers" in found[0]


IDLE = {
    "data.num_crops": ({"num_crops": 3}, {}),
    "data.bucket_step": ({"bucket_step": 16}, {}),
    "data.mask_background_weight": ({"mask_background_weight": 0.1}, {}),
    "data.class_dir": ({"class_dir": "mine"}, {"prior_loss_weight": 0.0}),
    "data.class_prompt": ({"class_prompt": "one {class}"}, {"prior_loss_weight": 0.0}),
    "data.num_class_images": ({"num_class_images": 7}, {"prior_loss_weight": 0.0}),
    "model.prior_loss_weight": ({"num_class_images": 0}, {"prior_loss_weight": 0.5}),
    "model.text_encoder_learning_rate": ({}, {"text_encoder_learning_rate": 1e-5}),
    "model.lora.text_encoder_target_modules": (
        {},
        {"lora": AdapterSettings(rank=2, text_encoder_target_modules="attention")},
    ),
    "model.weight_decay": ({}, {"weight_decay": 0.1, "optimizer": torch.optim.SGD}),
    "model.adam_betas": ({}, {"adam_betas": (0.9, 0.99), "optimizer": torch.optim.SGD}),
    "model.lora.alpha": ({}, {"adapter": "oft", "lora": AdapterSettings(rank=2, alpha=4)}),
}


@pytest.mark.parametrize("key", IDLE)
def test_settings_without_effect_are_told_in_a_line(notes, key) -> None:
    (line,) = notes(*IDLE[key])
    assert line.startswith(f"{key} has no effect: ")


def test_settings_with_effect_are_not(notes, photo_dir) -> None:
    assert notes() == []
    assert notes({"crop": "random", "num_crops": 3}) == []
    assert notes({"num_class_images": 0}, {"prior_loss_weight": 0.0}) == []
    assert notes({}, {"train_text_encoder": True, "text_encoder_learning_rate": 1e-5}) == []
    assert notes(negative_prompt="blurry") == []


def test_a_negative_prompt_without_guidance_is_told(notes) -> None:
    (line,) = notes(negative_prompt="blurry", guidance_scale=1)
    assert "negative prompt has no effect" in line and "guidance" in line


def test_a_rank_above_the_width_of_some_layers_is_told(notes) -> None:
    assert notes({}, {"lora": AdapterSettings(rank=16)}) == []
    (line,) = notes({}, {"lora": AdapterSettings(rank=20)})
    assert line.startswith("model.lora.rank: 20 is more than the width of")


def test_a_rank_above_the_width_of_all_layers_is_refused(tiny_base_dir) -> None:
    with pytest.raises(UserError, match=r"model\.lora\.rank: 500 is more than the width of every"):
        add_adapters(load_base(str(tiny_base_dir)), AdapterSettings(rank=500), False, 0)


def test_images_far_larger_than_the_base_was_made_for_are_refused(base) -> None:
    check_with_base(base, DataSettings(resolution=128), SamplingSettings())
    for data, sampling, key in ((136, None, "data"), (32, 136, "sampling")):
        with pytest.raises(UserError, match=rf"{key}\.resolution: 136 px is more than 4 times"):
            check_with_base(
                base, DataSettings(resolution=data), SamplingSettings(resolution=sampling)
            )
