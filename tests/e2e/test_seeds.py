"""Seeds beyond 32 bits: taken whole, kept in the run's config, and telling runs apart."""

from __future__ import annotations

import torch
import yaml

from dreambooth_pl.adapters import adapter_state_dict

SEED = 6958252186108282


def test_a_run_takes_a_seed_beyond_lightnings(fit) -> None:
    short = {"trainer__max_steps": 1, "probe__every_n_steps": 0, "data__num_class_images": 0}
    runs = [fit.run(seed_everything=seed, **short) for seed in (SEED, SEED % 2**32)]
    config = yaml.safe_load((runs[0].run_folder / "config.yaml").read_text())
    assert config["seed_everything"] == SEED
    assert runs[0].model.settings.seed == runs[0].datamodule.seed == SEED
    first, second = (adapter_state_dict(run.model.base_model) for run in runs)
    assert any(not torch.equal(first[name], second[name]) for name in first)
