"""Other adapters than LoRA, and none: from training to resuming, drawing, scores and export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dreambooth_pl.adapters import TUNED_NAME, WEIGHTS_NAME, adapter_scale, load_adapters
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.commands import (
    evaluate as cli_evaluate,
)
from dreambooth_pl.commands import (
    export as cli_export,
)
from dreambooth_pl.commands import (
    generate as cli_generate,
)

FULL = {"model__adapter": "full", "model__train_text_encoder": True, "model__learning_rate": 1e-3}
SCALES = {"sampling__lora_scale_unet": 1, "sampling__lora_scale_text_encoder": 1}


def test_full_fine_tuning(fit, checkpoint, tmp_path, capsys):
    whole = fit.run(**FULL, **SCALES)
    run = Path(whole.run_folder).resolve()
    assert not (run / "lora").exists()
    tuned = load_file(run / "tuned" / TUNED_NAME)
    base = load_base(str(fit.base))
    names = {
        f"{c}.{n}" for c in ("unet", "text_encoder") for n, _ in base.modules[c].named_parameters()
    }
    assert tuned.keys() == names
    assert checkpoint(whole)["state_dict"].keys() == names
    before = {
        f"{c}.{n}": p.clone() for c, m in base.adaptable.items() for n, p in m.named_parameters()
    }
    moved = [name for name, tensor in tuned.items() if not torch.equal(tensor, before[name])]
    assert len(moved) == len(names), "all of the networks has learned"
    load_adapters(base, run / "tuned")
    with adapter_scale(base, denoiser=0, text_encoder=0):
        assert torch.equal(base.denoiser.conv_in.weight, before["unet.conv_in.weight"])

    # stopped half-way and gone on, it ends in the same weights
    half = fit.run(**FULL, **SCALES, trainer__max_steps=3)
    again = fit.run(**FULL, **SCALES, ckpt_path=half.run_folder / "checkpoints" / "last.ckpt")
    resumed = load_file(again.run_folder / "tuned" / TUNED_NAME)
    assert all(torch.equal(resumed[name], tuned[name]) for name in names)

    assert cli_evaluate.main([str(run), "--class-images", "0", "--protocol", "probes"]) == 0
    out = tmp_path / "drawn"
    command = [str(run), "--num-images", "1", "--no-grid", "--out", str(out)]
    assert cli_generate.main(command) == 0
    assert len(list(out.glob("*.png"))) == 1
    probe = next((run / "probes" / "step_000003").glob("*.png"))
    assert cli_generate.main([str(half.run_folder), "--reproduce", str(probe)]) == 0
    assert "identical" in capsys.readouterr().out
    assert cli_export.main([str(run), "--format", "merged", "--out", str(tmp_path / "model")]) == 0
    merged = load_base(str(tmp_path / "model"))
    assert torch.equal(merged.denoiser.conv_in.weight, tuned["unet.conv_in.weight"])


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"model__lora__use_dora": True}, "lora_magnitude_vector"),
        ({"model__adapter": "lokr", "model__lora__target_modules": "attention_ff_conv"}, "lokr_w1"),
        ({"model__adapter": "oft", "model__lora__rank": 4}, "oft_R"),
    ],
)
def test_other_adapters(fit, capsys, keys, part):
    command = fit.run(**keys, trainer__max_steps=2, probe__every_n_steps=2)
    with safe_open(command.run_folder / "lora" / WEIGHTS_NAME, "pt") as file:
        assert any(part in key.split(".") for key in file.keys())  # noqa: SIM118
    said = capsys.readouterr()
    told = "can be exported as" in said.out + said.err
    assert told == ("model__adapter" in keys)
