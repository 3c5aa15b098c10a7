"""No step of a run is chosen on what the run is judged by."""

import re

import pytest

from dreambooth_pl.errors import UserError
from dreambooth_pl.miniature.settings import SETTINGS
from dreambooth_pl.prompts import PROMPT_SETS, fill, prompt_set
from dreambooth_pl.training.callbacks.validation import ValidationSettings, validation_prompts

JUDGED = [name for name in PROMPT_SETS if name != "validation"]
SMALL_WORDS = {"a", "an", "the", "in", "on", "at", "under", "against", "of", "with", "top", "to"}


def words(template: str) -> set[str]:
    """What a prompt says besides identifier and class."""
    return set(re.findall(r"[a-z-]+", fill(template, None, "").lower())) - SMALL_WORDS


def test_evaluations_are_the_others() -> None:
    assert set(JUDGED) >= {"probes", "dreambench_live", "dreambench_object"}


@pytest.mark.parametrize("name", JUDGED)
def test_validation_shares_no_word_with_an_evaluation(name: str) -> None:
    judged = set().union(*(words(prompt) for prompt in prompt_set(name).prompts))
    for prompt in prompt_set("validation").prompts:
        assert words(prompt)
        assert not words(prompt) & judged, prompt


def test_the_picture_book_world_knows_every_validation_prompt() -> None:
    phrases = {phrase for setting in SETTINGS.values() for phrase in setting.phrases}
    for prompt in prompt_set("validation").prompts:
        assert prompt.removeprefix("a {identifier} {class} ") in phrases


def test_no_prompt_of_an_evaluation_slips_in(tmp_path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("- a {identifier} {class} in a tent\n")
    assert validation_prompts(ValidationSettings(prompts=str(own))).prompts == (
        "a {identifier} {class} in a tent",
    )
    own.write_text("- A {identifier} {class} in the snow.\n")
    with pytest.raises(UserError, match="in the snow"):
        validation_prompts(ValidationSettings(prompts=str(own)))
