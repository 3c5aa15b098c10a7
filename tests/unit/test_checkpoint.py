from pathlib import Path

import pytest
import torch

from dreambooth_pl.errors import UserError
from dreambooth_pl.training.checkpoint import CONFIG_KEY, check_same_config, load_checkpoint

CONFIG = {
    "seed_everything": 42,
    "model": {"lora": {"rank": 8}, "allow_changed_settings": False},
    "data": {"identifier": "sks"},
    "trainer": {"max_steps": 10, "accumulate_grad_batches": 1},
    "probe": {"every_n_steps": 5},
}
CHECKPOINT = {CONFIG_KEY: CONFIG}


def test_the_same_config_passes() -> None:
    check_same_config(CHECKPOINT, CONFIG)


def test_more_steps_and_other_probes_are_no_difference() -> None:
    trainer = {"max_steps": 20, "accumulate_grad_batches": 1}
    check_same_config(CHECKPOINT, CONFIG | {"trainer": trainer, "probe": {"every_n_steps": 0}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed_everything": 1}, "seed_everything is 1, was 42"),
        ({"model": {"lora": {"rank": 4}}}, "model.lora.rank is 4, was 8"),
        ({"data": {"identifier": "hta"}}, "data.identifier is 'hta', was 'sks'"),
        ({"data": {}}, "data.identifier is None, was 'sks'"),
        (
            {"trainer": {"max_steps": 10, "accumulate_grad_batches": 4}},
            "trainer.accumulate_grad_batches is 4, was 1",
        ),
    ],
)
def test_what_shapes_training_must_agree(change, message) -> None:
    with pytest.raises(UserError, match=message) as raised:
        check_same_config(CHECKPOINT, CONFIG | change)
    assert str(raised.value).count(" was ") == 1


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(UserError, match="not written by train.py"):
        load_checkpoint(str(path))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save({CONFIG_KEY: Path("x")}, path)  # needs code of its class to be loaded
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(str(path))
