"""The pretraining's stages on a few pictures: their parts, and formats read back."""

from __future__ import annotations

import json

import numpy as np
import open_clip
import pytest
import timm
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file

from dreambooth_pl.miniature import world
from dreambooth_pl.miniature.pretrain import (
    clip,
    pictures,
    text_to_image,
    vae,
)
from dreambooth_pl.miniature.pretrain.__main__ import main
from dreambooth_pl.miniature.pretrain.loop import (
    Limits,
)
from dreambooth_pl.randomness import stable_hash

CPU = torch.device("cpu")


def test_classes_are_sampled_equally_often_but_dogs_twice():
    nouns = ["dog"] * 6 + ["cat"] * 3 + ["vase"]
    shares = text_to_image.sampling_shares(nouns)
    assert shares.sum() == pytest.approx(1)
    assert shares[:6].sum() == pytest.approx(0.5)
    assert shares[6:9].sum() == shares[9] == pytest.approx(0.25)


def test_an_error_on_the_subject_weighs_three_times_one_on_the_scenery():
    masks = np.zeros((2, 32, 32), np.uint8)
    masks[0, :16] = 255  # the upper half; the second picture shows no subject
    for weights in (
        vae.pixel_weights(torch.from_numpy(masks))[:, 0].numpy(),
        text_to_image.cell_weights(masks).astype(float),
    ):
        half = weights.shape[1] // 2
        assert weights[0, :half] == pytest.approx(1.5)
        assert weights[0, half:] == pytest.approx(0.5)
        assert weights[1] == pytest.approx(1)


def test_pictures_and_their_weights_are_cropped_to_the_same_square():
    places = torch.arange(128 * 128.0).view(1, 1, 128, 128)  # each pixel says where it was
    pixels = torch.cat([places + 0.25 * channel for channel in range(3)], 1).repeat(60, 1, 1, 1)
    weights = places.repeat(60, 1, 1, 1)
    pieces, theirs = vae.random_crop(pixels, weights, 64, np.random.default_rng(0))
    assert pieces.shape == (60, 3, 64, 64) and theirs.shape == (60, 1, 64, 64)
    corners = set()
    for piece, weight in zip(pieces, theirs, strict=True):
        y, x = divmod(int(weight[0, 0, 0]), 128)
        corners.add((y, x))
        cut = Image.fromarray(places[0, 0].numpy()).crop((x, y, x + 64, y + 64))
        assert np.array_equal(weight[0].numpy(), np.asarray(cut))
        for channel in range(3):
            assert torch.equal(piece[channel], weight[0] + 0.25 * channel)
    for side in zip(*corners, strict=True):
        assert set(side) == {0, 8, 16, 24, 32, 40, 48, 56, 64}


def test_the_middle_timesteps_are_sampled_most():
    sampled = torch.cat(
        [text_to_image.random_timesteps(64, torch.Generator().manual_seed(i)) for i in range(200)]
    )
    assert sampled.min() >= 0 and sampled.max() <= 999
    # P(t < 1000 p) is the normal distribution's at logit(p) - 0.2
    for share in (0.25, 0.5, 0.75):
        logit = torch.tensor(share).logit() - 0.2
        expected = float(torch.distributions.Normal(0, 1).cdf(logit))
        assert float((sampled < 1000 * share).float().mean()) == pytest.approx(expected, abs=0.02)


def few_pictures(count, scene_of=pictures.scene):
    images, masks, texts = [], [], []
    for index in range(count):
        scene, rng = scene_of(0, index)
        picture, mask = world.render_with_mask(scene)
        images.append(np.asarray(picture))
        masks.append(np.asarray(mask.reduce(4)))
        texts.append([pictures.caption(scene, rng) for _ in range(4)])
    return pictures.Pictures(np.stack(images), np.stack(masks), texts)


def test_a_locked_encoder_stays_and_the_decoder_learns(tmp_path):
    torch.manual_seed(0)
    model = vae.build()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    limits = Limits(tmp_path, CPU)
    vae.fit(few_pictures(4), [], 2, 0, limits, lambda text: None, model, lock_encoder=True)
    for name, now in model.named_parameters():
        locked = name.startswith(("encoder.", "quant_conv."))
        assert torch.equal(before[name], now) == locked, name


def test_an_autoencoder_from_nothing_trains_its_last_steps_once_more(tmp_path, monkeypatch):
    """Eight steps at once, and by hand: seven, then one at three tenths of the rates."""
    monkeypatch.setattr(vae, "BATCH", 2)
    few, at_once, by_hand = few_pictures(4), tmp_path / "at_once", tmp_path / "by_hand"
    at_once.mkdir()
    by_hand.mkdir()
    (at_once / "vae-after-7.pt").write_text("of another autoencoder, whose vae.pt was deleted")
    told = []
    model = vae.fit(few, [], 8, 0, Limits(at_once, CPU), told.append)
    assert [line.split()[:2] for line in told] == [["vae:", "7/7"], ["vae-after-7:", "1/1"]]

    torch.manual_seed(stable_hash(0, "vae", "init"))
    data = tuple(torch.from_numpy(a) for a in (few.images, few.masks, few.images[:0]))
    limits = Limits(by_hand, CPU)
    begun = vae._train(lambda: data, "one", vae.build(), 7, 3, limits, seed=0, report=told.append)
    slower = Limits(by_hand, CPU, pace=0.3)
    again = vae.fit(few, [], 1, 0, slower, lambda text: None, start=begun)
    weights, expected = model.state_dict(), again.state_dict()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    untrained = vae.fit(few, [], 0, 0, Limits(tmp_path, CPU), lambda text: None)
    assert not torch.equal(weights["decoder.conv_in.weight"], untrained.decoder.conv_in.weight)

    # The same command again has nothing left to do.
    same = vae.fit(few, [], 8, 0, Limits(at_once, CPU), lambda text: None)
    assert all(torch.equal(weights[key], value) for key, value in same.state_dict().items())


def test_an_untrained_encoders_signal_is_above_its_own_noise():
    torch.manual_seed(0)
    pixels = torch.from_numpy(few_pictures(4).images).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        posterior = vae.build().encode(pixels).latent_dist
    assert posterior.mean.std() > 2 * posterior.std.mean()


def test_photo_crops(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.jpg")
    (photo,) = vae.load_photos([tmp_path])
    assert photo.shape == (200, 300, 3)
    assert vae.photo_crop([photo], np.random.default_rng(0)).shape == (128, 128, 3)


def test_stages_write_a_base_that_the_libraries_load(tmp_path, capsys):
    """Two steps a stage: what matters is that every format is read back by its real reader."""
    for name, scene_of in pictures.SETS.items():
        few = few_pictures(16, scene_of)
        folder = tmp_path / "work" / name
        folder.mkdir(parents=True)
        np.save(folder / "0000000.npy", few.images)
        with (folder / "0000000.masks").open("wb") as file:
            np.save(file, few.masks)
        (folder / "0000000.json").write_text(json.dumps(few.captions))
    out = tmp_path / "base"
    steps = [f"--{stage}-steps=2" for stage in ("vae", "clip", "dino")]
    arguments = ["vae", "clip", "dino", "text-to-image", *steps, "--steps=2", "--device=cpu"]
    assert main([*arguments, f"--work={tmp_path / 'work'}", f"--out={out}"]) == 0

    pipeline = StableDiffusionPipeline.from_pretrained(out)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.tokenizer.model_max_length == clip.CONTEXT
    image = pipeline("a sks dog", num_inference_steps=2).images[0]
    assert image.size == (128, 128)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{out / 'clip'}")
    assert model.encode_image(preprocess(image)[None]).shape == (1, 128)
    backbone = timm.create_model(f"local-dir:{out / 'dino'}", pretrained=True, num_classes=0)
    assert backbone(torch.zeros(1, 3, 128, 128)).shape == (1, 192)

    # Going on from that base: what is not trained anew is taken over as it is, and so is the UNet,
    # whose average does not begin before the learning rate is warm.
    for left in (tmp_path / "work").glob("*.pt"):
        left.unlink()
    again = tmp_path / "again"
    arguments = ["text-to-image", "--steps=1", f"--start={out}", "--device=cpu"]
    assert main([*arguments, f"--work={tmp_path / 'work'}", f"--out={again}"]) == 0
    files = sorted(path.relative_to(out) for path in out.rglob("*.safetensors"))
    assert len(files) == 5
    for file in files:
        before, after = load_file(out / file), load_file(again / file)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before), file

    # A UNet of another shape is no start.
    narrow = UNet2DConditionModel.from_config(
        pipeline.unet.config, block_out_channels=(32, 64, 64), time_embedding_dim=64
    )
    narrow.save_pretrained(again / "unet")
    for left in (tmp_path / "work").glob("*.pt"):
        left.unlink()
    arguments = ["text-to-image", "--steps=1", f"--start={again}", "--device=cpu"]
    assert main([*arguments, f"--work={tmp_path / 'work'}", f"--out={again}"]) == 0
    assert "UNet2DConditionModel in" in capsys.readouterr().out
    begun = UNet2DConditionModel.from_pretrained(again / "unet")
    assert begun.config.block_out_channels == pipeline.unet.config.block_out_channels

    # The autoencoder alone, its encoder locked: the latents and their scale stay.
    arguments = ["vae", "--lock-encoder", "--vae-steps=1", f"--start={out}", "--device=cpu"]
    assert main([*arguments, f"--work={tmp_path / 'work'}", f"--out={again}"]) == 0
    before, after = (
        json.loads((base / "vae" / "config.json").read_text()) for base in (out, again)
    )
    assert before == after and before["scaling_factor"] != 1
    assert StableDiffusionPipeline.from_pretrained(again).vae.dtype == torch.float32


def test_a_start_that_is_no_base_is_named(capsys, tmp_path):
    for arguments, said in (
        (["dino", f"--start={tmp_path}"], "model_index.json"),
        (["clip", "--lock-text"], "--start"),
        (["vae", "--lock-encoder"], "--start"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert said in capsys.readouterr().err


def test_an_earlier_stage_of_another_shape_is_named(tmp_path):
    torch.save({"weight": torch.ones(1)}, tmp_path / "clip-final.pt")
    np.save(tmp_path / "latents.npy", np.ones((2, 4, 16, 16), np.float16))
    with pytest.raises(SystemExit, match="clip-final.pt is of a network of another shape"):
        main(["text-to-image", f"--work={tmp_path}", "--device=cpu"])


@pytest.mark.parametrize("mistaken", ["wrold", "--pace=0", "--pace=-1"])
def test_a_mistaken_stage_or_pace_is_named(capsys, mistaken):
    with pytest.raises(SystemExit):
        main([mistaken])
    assert mistaken.split("=")[0] in capsys.readouterr().err


def test_scenes_of_the_world_are_keyed_by_index():
    first, second = (pictures.scene(0, 7)[0] for _ in range(2))
    assert first == second
    assert pictures.scene(0, 8)[0] != first


def test_views_of_a_subject_share_its_look():
    views = [pictures.subject_scene(0, index)[0] for index in range(2 * pictures.VIEWS)]
    first, second = views[: pictures.VIEWS], views[pictures.VIEWS :]
    assert all(view.look == first[0].look for view in first)
    assert second[0].look != first[0].look
    assert len({(view.pose, view.seed) for view in first}) == pictures.VIEWS
