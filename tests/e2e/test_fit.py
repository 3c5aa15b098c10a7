"""From photos to a run's folder to a table of scores."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from dreambooth_pl.bases.load import load_base
from dreambooth_pl.commands import evaluate as cli_evaluate
from dreambooth_pl.data.photos import read_photo
from dreambooth_pl.files.png_metadata import read_png_metadata
from dreambooth_pl.metrics.encoders import EncoderSettings, load_encoders
from dreambooth_pl.prompts import fill, prompt_set
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest, image_seed
from dreambooth_pl.sampling.settings import SamplingSettings
from dreambooth_pl.training.callbacks.validation import curve_names

GOLDEN = Path(__file__).parents[1] / "golden" / "loss_trace.txt"


def read_metrics(run_folder: Path, column: str) -> list[float]:
    with (run_folder / "metrics.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


def test_a_runs_folder(fit, tiny_base_dir, capfd) -> None:
    command = fit.run()
    run = command.run_folder
    assert run == Path("lightning_logs/default/version_0")

    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["resolution"] == 32
    assert config["seed_everything"] == 42

    checkpoints = sorted(p.name for p in (run / "checkpoints").iterdir())
    assert checkpoints == ["best.ckpt", "last.ckpt"]
    assert (run / "checkpoints/last.ckpt").stat().st_size < 1_000_000  # adapters only

    with safe_open(run / "lora/pytorch_lora_weights.safetensors", "pt") as lora:
        metadata = json.loads(lora.metadata()["lora_adapter_metadata"])
        assert {key.split(".")[0] for key in lora.keys()} == {"unet"}  # noqa: SIM118
    assert metadata["unet.r"] == 8
    assert metadata["unet.lora_alpha"] == 8.0

    sheets = sorted(p.name for p in (run / "probes").glob("*.png"))
    assert sheets == ["step_000000.png", "step_000003.png", "step_000006.png"]
    singles = sorted((run / "probes/step_000006").iterdir())
    assert len(singles) == 8
    described = read_png_metadata(singles[0])
    assert described["step"] == 6
    assert described["prompt"] == "A sks dog"
    assert described["lora_scale_unet"] == 0.4

    assert len(read_metrics(run, "train/loss")) == 6
    for name in ("dino", "clip_i", "clip_t"):
        values = read_metrics(run, f"fidelity/{name}")
        floors = read_metrics(run, f"fidelity/{name}_floor")
        assert len(values) == 3
        assert set(floors) == {values[0]}, "the first probes are the untuned base's"
    assert len(read_metrics(run, "fidelity/dino_ceiling")) == 3

    sheets = sorted(p.name for p in (run / "validation").iterdir())
    assert sheets == ["step_000000.png", "step_000003.png", "step_000006.png"]
    for name in ("dino", "clip_i", "clip_t"):
        values = read_metrics(run, f"validation/{name}")
        assert len(values) == 3
        assert set(read_metrics(run, f"validation/{name}_floor")) == {values[0]}

    events = EventAccumulator(str(run), size_guidance={"images": 0})
    events.Reload()
    assert {"train/loss", "fidelity/dino", "fidelity/clip_t_floor"} <= set(events.Tags()["scalars"])
    for pictures in ("probes", "validation"):
        assert [event.step for event in events.Images(pictures)] == [0, 3, 6]

    printed = capfd.readouterr().err
    assert f"tensorboard --logdir {run.parent}" in printed
    assert f"python evaluate.py {run}" in printed


def test_validation_curves_drawn_and_measured_another_way(finished, tiny_base_dir) -> None:
    """The last round, image by image through the public path, with cosines written out."""
    run, tuned = finished.run, finished.model.base_model
    encoders = load_encoders(
        EncoderSettings(
            clip=f"local-dir:{tiny_base_dir / 'clip'}", dino=f"local-dir:{tiny_base_dir / 'dino'}"
        )
    )
    settings = SamplingSettings(num_inference_steps=2)

    def draw(base, prompt: str, *key: str | int) -> Image.Image:
        (image,) = generate(
            base, [ImageRequest(prompt, image_seed(42, "validation", *key))], settings
        )
        return image

    real = encoders.dino.encode_images([read_photo(p) for p in sorted(finished.photos.iterdir())])
    templates = prompt_set("validation").prompts
    dino, clip_t = [], []
    for template in templates:
        image = draw(tuned, fill(template, "sks", "dog"), template)
        (features,) = encoders.dino.encode_images([image])
        dino += [float(features @ photo) for photo in real]
        (seen,) = encoders.clip.encode_images([image])
        (text,) = encoders.clip.encode_texts([fill(template, None, "dog")])
        clip_t.append(float(seen @ text))
    drift = []
    untuned = load_base(str(tiny_base_dir))
    for index in range(2):
        pair = [draw(base, "a dog", "class", index) for base in (untuned, tuned)]
        before, after = encoders.dino.encode_images(pair)
        drift.append(1 - float(before @ after))

    assert len(templates) == 6
    logged = {name: read_metrics(run, f"validation/{name}") for name in curve_names()}
    assert logged["dino"][-1] == pytest.approx(np.mean(dino), abs=1e-5)
    assert logged["clip_t"][-1] == pytest.approx(np.mean(clip_t), abs=1e-5)
    assert logged["drift"][-1] == pytest.approx(np.mean(drift), abs=1e-5)
    assert logged["drift"][0] == pytest.approx(0.0, abs=1e-6)


def test_the_best_checkpoint_is_the_best_by_the_curve(fit) -> None:
    run = fit.run(validation__best_by="dino", probe__every_n_steps=2).run_folder
    scores = read_metrics(run, "validation/dino")
    assert read_metrics(run, "validation/score") == scores
    best = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    assert best["global_step"] == 2 * (1 + int(np.argmax(scores[1:])))


def test_runs_compare_in_tensorboards_hparams(fit) -> None:
    run = fit.run(model__learning_rate=0.002).run_folder
    events = EventAccumulator(str(run))
    events.Reload()
    contents = {
        tag: HParamsPluginData.FromString(content)
        for tag, content in events.PluginTagToContent("hparams").items()
    }
    settings = contents["_hparams_/session_start_info"].session_start_info.hparams
    assert settings["model.learning_rate"].number_value == 0.002
    assert settings["data.identifier"].string_value == "sks"
    assert settings["model.train_text_encoder"].bool_value is False
    assert settings["trainer.max_steps"].number_value == 6
    assert "trainer.accelerator" not in settings
    assert contents["_hparams_/session_end_info"].session_end_info.status == 1  # success
    metrics = contents["_hparams_/experiment"].experiment.metric_infos
    tags = {metric.name.tag for metric in metrics}
    assert tags == {"train/loss", *(f"validation/{name}" for name in curve_names())}
    for tag in tags:  # the tab shows the last point of the scalar of this name
        assert events.Scalars(tag)[-1].value == pytest.approx(read_metrics(run, tag)[-1])


def test_validation_left_out(fit) -> None:
    run = fit.run(validation__prompts="null").run_folder
    assert not (run / "validation").exists()
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["last.ckpt"]


def test_frozen_weights_stay_bit_identical(fit, tiny_base_dir) -> None:
    command = fit.run(model__train_text_encoder=True, probe__every_n_steps=0)
    before = load_base(str(tiny_base_dir))
    changed = 0
    for name, module in command.model.base_model.modules.items():
        frozen = dict(before.modules[name].named_parameters())
        for key, value in module.named_parameters():
            if "lora_" in key:
                changed += bool(value.requires_grad and value.abs().sum() > 0)
            else:
                assert torch.equal(frozen.pop(key.replace(".base_layer", "")), value), key
        assert not frozen
    assert changed


def test_evaluate_reads_the_run(finished, capsys) -> None:
    assert cli_evaluate.main(["--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in rows] == ["real photos", "base", "default/version_0"]
    assert [row["n_images"] for row in rows] == [5, 26, 26]
    for row in rows:
        for score in ("dino", "clip_i"):
            assert row[score]["low"] <= row[score]["mean"] <= row[score]["high"]


def test_evaluate_agrees_with_the_last_probes(finished, capsys) -> None:
    run = finished.run
    assert cli_evaluate.main([str(run), "--protocol", "probes", "--format", "json"]) == 0
    ceiling, floor, tuned = json.loads(capsys.readouterr().out)
    for name in ("dino", "clip_i", "clip_t"):
        logged = read_metrics(run, f"fidelity/{name}")
        assert tuned[name]["mean"] == pytest.approx(logged[-1], abs=1e-5)
        assert floor[name]["mean"] == pytest.approx(logged[0], abs=1e-5)
    logged = read_metrics(run, "fidelity/dino_ceiling")[0]
    assert ceiling["dino"]["mean"] == pytest.approx(logged, abs=1e-5)


def test_a_probe_is_drawn_again_from_its_metadata(finished) -> None:
    path = sorted((finished.run / "probes/step_000006").iterdir())[4]
    described = read_png_metadata(path)
    settings = SamplingSettings(
        num_inference_steps=described["steps"],
        guidance_scale=described["guidance_scale"],
        scheduler=described["scheduler"],
        lora_scale_unet=described["lora_scale_unet"],
        lora_scale_text_encoder=described["lora_scale_text_encoder"],
        batch_size=described["batch_size"],
    )
    request = ImageRequest(described["prompt"], described["seed"])
    (again,) = generate(finished.model.base_model, [request], settings)
    assert again.tobytes() == Image.open(path).convert("RGB").tobytes()


def test_no_probes_at_all(fit) -> None:
    run = fit.run(probe__every_n_steps=0, fidelity__dino="local-dir:nowhere").run_folder
    assert not (run / "probes").exists()
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["last.ckpt"]


def test_no_prior(fit) -> None:
    command = fit.run(model__prior_loss_weight=0, probe__every_n_steps=0)
    assert not (fit.cwd / "data").exists(), "class images nobody learns from"
    assert "train/loss_prior" not in (command.run_folder / "metrics.csv").read_text()


def test_versions_count_up_and_class_images_are_reused(fit) -> None:
    first = fit.run(probe__every_n_steps=0)
    drawn = {path: path.stat().st_mtime_ns for path in fit.cwd.glob("data/**/*.png")}
    assert len(drawn) == 3
    second = fit.run(probe__every_n_steps=0)
    assert (first.run_folder.name, second.run_folder.name) == ("version_0", "version_1")
    assert drawn == {path: path.stat().st_mtime_ns for path in fit.cwd.glob("data/**/*.png")}


def test_a_saved_config_makes_the_same_run(fit, checkpoint) -> None:
    first = fit.run(probe__every_n_steps=0)
    saved = first.run_folder / "config.yaml"
    again = type(first)(["fit", "--config", str(saved)])
    assert again.run_folder == Path("lightning_logs/default/version_1")
    for name, weights in checkpoint(first)["state_dict"].items():
        assert torch.equal(weights, checkpoint(again)["state_dict"][name])


def test_losses_are_those_of_the_golden_trace(fit, update_golden) -> None:
    run = fit.run(probe__every_n_steps=0, model__train_text_encoder=True).run_folder
    names = ("train/loss", "train/loss_instance", "train/loss_prior", "train/grad_norm_unet")
    trace = list(zip(*(read_metrics(run, name) for name in names), strict=True))
    if update_golden:
        lines = ["# " + " ".join(names)]
        lines += [" ".join(f"{value:.6f}" for value in row) for row in trace]
        GOLDEN.write_text("\n".join(lines) + "\n")
    lines = GOLDEN.read_text().splitlines()[1:]
    golden = [tuple(float(value) for value in line.split()) for line in lines]
    assert len(trace) == len(golden)
    for row, expected in zip(trace, golden, strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-5)
