"""Probes of training are drawn again, bit for bit, from what their files say."""

import shutil

import numpy as np
import pytest
from PIL import Image

from dreambooth_pl.commands import generate as cli_generate
from dreambooth_pl.training.callbacks.checkpoints import Checkpoints


def test_probes_are_drawn_again(fit, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    save = Checkpoints._save

    def save_and_keep(self: Checkpoints, trainer) -> None:
        save(self, trainer)
        shutil.copy(self.folder / "last.ckpt", fit.cwd / f"{trainer.global_step}.ckpt")

    monkeypatch.setattr(Checkpoints, "_save", save_and_keep)
    run = fit.run(model__train_text_encoder="true").run_folder
    (run / "checkpoints/best.ckpt").unlink(missing_ok=True)
    capsys.readouterr()
    out = fit.cwd / "again"

    def reproduce(step: int, *places: str) -> int:
        image = sorted((run / f"probes/step_{step:06d}").iterdir())[5]
        shutil.rmtree(out, ignore_errors=True)
        status = cli_generate.main([*places, "--reproduce", str(image), "--out", str(out)])
        if status == 0:
            (again,) = out.iterdir()
            assert np.array_equal(np.asarray(Image.open(again)), np.asarray(Image.open(image)))
        return status

    assert reproduce(0) == 0
    assert reproduce(6) == 0
    assert "identical" in capsys.readouterr().out
    assert reproduce(3) == 1
    assert "the adapter of step 3 is gone" in capsys.readouterr().err
    assert reproduce(3, str(fit.cwd / "3.ckpt")) == 0
    assert "identical" in capsys.readouterr().out
