"""The pretraining's stages on a handful of pictures: exact resuming, and formats read back."""

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
from dreambooth_pl.miniature.pretrain import clip, dino, muon, pictures, text_to_image, vae
from dreambooth_pl.miniature.pretrain.__main__ import main
from dreambooth_pl.miniature.pretrain.loop import Limits, TrainingSchedule, course, train
from dreambooth_pl.randomness import stable_hash

CPU = torch.device("cpu")


def test_learning_rate_warms_up_and_decays():
    plan = TrainingSchedule(steps=1100, learning_rate=1.0, warmup=100)
    assert course(plan, 0) == pytest.approx(0.01)
    assert course(plan, 99) == pytest.approx(1.0)
    assert course(plan, 600) == pytest.approx(0.02 + 0.98 / 2)
    assert course(plan, 1100) == pytest.approx(0.02)


@pytest.mark.parametrize("muon_rate", [None, 0.1])
def test_a_paused_stage_ends_like_an_uninterrupted_one(tmp_path, muon_rate):
    def model():
        torch.manual_seed(0)
        return torch.nn.Linear(3, 2)

    def run(folder, minutes_of_calls):
        folder.mkdir()
        result = None
        for minutes in minutes_of_calls:
            net = model()

            def loss(step, net=net):
                generator = torch.Generator().manual_seed(step)
                value = net(torch.randn(4, 3, generator=generator)).pow(2).mean()
                return value, {}

            plan = TrainingSchedule(6, 0.1, muon_learning_rate=muon_rate, warmup=2, ema_decay=0.5)
            limits = Limits(folder, CPU, minutes)
            result = train("toy", net, loss, plan, limits, lambda text: None)
        return result

    whole = run(tmp_path / "whole", [float("inf")])
    pieces = run(tmp_path / "pieces", [0.0, 0.0, float("inf")])
    for a, b in zip(whole.parameters(), pieces.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_diverged_stage_stops_and_keeps_its_last_good_state(tmp_path):
    def run(steps: int, wrong_at: int, minutes: float) -> None:
        net = torch.nn.Linear(3, 2)

        def loss(step):
            factor = float("nan") if step == wrong_at else 1.0
            return factor * net(torch.ones(1, 3)).sum(), {}

        limits = Limits(tmp_path, CPU, minutes)
        train("toy", net, loss, TrainingSchedule(steps, 0.1, warmup=1), limits, lambda text: None)

    with pytest.raises(SystemExit, match=r"^toy: by step 3 a weight .* --pace 0\.5$"):
        run(3, wrong_at=1, minutes=float("inf"))
    assert not (tmp_path / "toy.pt").exists()
    run(3, wrong_at=2, minutes=0.0)
    good = (tmp_path / "toy.pt").read_bytes()
    with pytest.raises(SystemExit, match=r"the last good state, .*toy\.pt$"):
        run(3, wrong_at=1, minutes=float("inf"))
    assert (tmp_path / "toy.pt").read_bytes() == good


@pytest.mark.parametrize("pace", [1.0, 0.3])
def test_a_parameter_trains_with_its_share_of_the_learning_rate(tmp_path, pace):
    net = torch.nn.Linear(3, 2)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}

    def loss(step):
        return net(torch.ones(1, 3)).sum(), {}

    plan = TrainingSchedule(
        steps=1,
        learning_rate=0.1,
        warmup=1,
        weight_decay=0.0,
        share=lambda parameter: 1.0 if parameter is net.weight else 0.25,
    )
    train("toy", net, loss, plan, Limits(tmp_path, CPU, pace=pace), lambda text: None)
    # Adam's first step is the learning rate, whatever the gradient
    assert torch.allclose(before["weight"] - net.weight, torch.full((2, 3), pace * 0.1))
    assert torch.allclose(before["bias"] - net.bias, torch.full((2,), pace * 0.025))


def test_muon_trains_convolutions_as_the_matrices_they_are(tmp_path):
    """One step is `lr` times the orthogonal factor of the gradient, by singular values."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
    target = torch.randn(8, 3, 3, 3)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}

    def loss(step):
        return (net[0].weight * target).sum() + net[0].bias.sum(), {}

    plan = TrainingSchedule(1, 0.1, muon_learning_rate=0.5, warmup=1, weight_decay=0.0)
    train("toy", net, loss, plan, Limits(tmp_path, CPU), lambda text: None)
    change = (before["0.weight"] - net[0].weight).detach().flatten(1) / 0.5
    u, _, v = torch.linalg.svd(target.flatten(1), full_matrices=False)
    _, singular, _ = torch.linalg.svd(change)
    assert singular.min() > 0.6 and singular.max() < 1.3  # Newton-Schulz stops near 1
    along = torch.diag(u.T @ change @ v.T)
    assert torch.allclose(along, singular.mean().expand(8), atol=0.35)
    # what is no matrix is AdamW's, whose first step is its learning rate
    assert torch.allclose(before["0.bias"] - net[0].bias, torch.full((8,), 0.1))


def test_muon_refuses_weights_that_a_matrix_cannot_share():
    weight = torch.nn.Parameter(
        torch.ones(4, 2, 3, 3).contiguous(memory_format=torch.channels_last)
    )
    with pytest.raises(ValueError, match="contiguous"):
        muon.ConvolutionMuon([weight], lr=0.1)


def test_muon_leaves_the_ends_of_the_networks_to_adamw():
    for model, ends in (
        (text_to_image.build(), {"conv_in", "conv_out"}),
        (
            vae.build(),
            {f"{part}.conv_{end}" for part in ("encoder", "decoder") for end in ("in", "out")}
            | {"quant_conv", "post_quant_conv"},
        ),
    ):
        left = {n for n, p in model.named_parameters() if p.ndim > 1 and not muon.hidden(n, p)}
        assert left == {f"{end}.weight" for end in ends}


def test_soft_pictures_keep_their_large_shapes_and_lose_their_details():
    stripes = torch.ones(40, 3, 64, 64)
    stripes[..., ::2] = -1
    halves = torch.ones(40, 3, 64, 64)
    halves[..., :32] = -1
    for seed in range(3):
        seen = clip.soften(stripes, torch.Generator().manual_seed(seed))
        softened = (seen - stripes).abs().amax((1, 2, 3)) > 0.1
        assert 8 < softened.sum() < 32
        assert seen[softened].std() < 0.9
        assert torch.equal(seen[~softened], stripes[~softened])
        large = clip.soften(halves, torch.Generator().manual_seed(seed))
        assert torch.allclose(large[..., :16], halves[..., :16], atol=0.05)


def test_classes_are_drawn_equally_often_but_dogs_twice():
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


def test_pieces_of_pictures_and_of_their_weights_are_the_same_square():
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


def test_the_middle_timesteps_are_drawn_most():
    drawn = torch.cat(
        [text_to_image.random_timesteps(64, torch.Generator().manual_seed(i)) for i in range(200)]
    )
    assert drawn.min() >= 0 and drawn.max() <= 999
    # P(t < 1000 p) is the normal distribution's at logit(p) - 0.2
    for share in (0.25, 0.5, 0.75):
        logit = torch.tensor(share).logit() - 0.2
        expected = float(torch.distributions.Normal(0, 1).cdf(logit))
        assert float((drawn < 1000 * share).float().mean()) == pytest.approx(expected, abs=0.02)


def test_the_text_encoder_is_the_text_tower():
    torch.manual_seed(0)
    model = clip.build().eval()
    encoder = clip.text_encoder(model)
    tokens = clip.tokenizer()(["a sks dog in the forest", "a cat"])
    padded = torch.where(tokens == 0, 49407, tokens)
    with torch.no_grad():
        states = encoder(padded).last_hidden_state
        ends = states[torch.arange(2), tokens.argmax(-1)] @ model.text_projection
        expected = model.encode_text(tokens)
    assert torch.allclose(ends, expected, atol=1e-5)


def test_short_texts_are_encoded_as_padded_ones():
    torch.manual_seed(0)
    model = clip.build().eval()
    tokens = clip.tokenizer()(["a sks dog in the forest", "a cat"])
    with torch.no_grad():
        expected = model.encode_text(tokens, normalize=True)
        features = clip.encode_short_texts(model, tokens)
    assert torch.allclose(features, expected, atol=1e-5)


def test_crops_are_within_range_and_keyed():
    images = torch.rand(2, 3, 128, 128) * 2 - 1
    first, second = (
        dino.crops(images, 64, (0.3, 0.6), torch.Generator().manual_seed(1)) for _ in range(2)
    )
    assert first.shape == (2, 3, 64, 64)
    assert first.abs().max() <= 1
    assert torch.equal(first, second)


def test_subjects_are_told_apart_as_a_loop_says():
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(6, 4, generator=generator), dim=-1)
    losses = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        scores = torch.stack([rows[i] @ rows[j] / dino.CONTRAST_TEMPERATURE for j in others])
        losses.append(scores.logsumexp(0) - scores[others.index((i + 3) % 6)])
    assert dino.apart(rows).item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_on_plain_ground_only_the_scenery_changes():
    images = torch.rand(200, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    masks = torch.zeros(200, 16, 16, dtype=torch.uint8)
    masks[:, :, 8:] = 255
    seen = dino.on_plain_ground(images, masks, torch.Generator().manual_seed(1))
    assert torch.allclose(seen[..., 34:], images[..., 34:])
    changed = (seen != images).flatten(1).any(1)
    assert 0.2 < changed.float().mean() < 0.4
    grounds = seen[changed][..., :30]
    assert grounds.std((2, 3)).max() < 1e-6  # one colour each
    assert grounds.mean((2, 3)).std(0).min() > 0.4 and grounds.abs().max() <= 1


def test_a_batch_shows_many_subjects_of_few_classes():
    by_noun = [np.arange(100 * i, 100 * i + 40) for i in range(15)]
    seen = set()
    for seed in range(20):
        subjects = dino.batch_of_subjects(np.random.default_rng(seed), by_noun)
        assert len(subjects) == len(set(subjects)) == dino.BATCH
        classes, counts = np.unique(subjects // 100, return_counts=True)
        assert counts.tolist() == [16, 16, 16, 16]
        seen |= set(classes)
    assert seen == set(range(15))
    assert len(dino.batch_of_subjects(np.random.default_rng(0), [np.arange(3)])) == dino.BATCH


def test_balanced_targets_use_all_prototypes_alike():
    scores = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) / 10
    targets = dino.balanced(scores)
    assert torch.allclose(targets.sum(1), torch.ones(64))
    assert torch.allclose(targets.mean(0), torch.full((4,), 0.25), atol=0.03)


def few_pictures(count, scene_of=pictures.scene):
    drawn, masks, texts = [], [], []
    for index in range(count):
        scene, rng = scene_of(0, index)
        picture, mask = world.render_with_mask(scene)
        drawn.append(np.asarray(picture))
        masks.append(np.asarray(mask.reduce(4)))
        texts.append([pictures.caption(scene, rng) for _ in range(4)])
    return pictures.Pictures(np.stack(drawn), np.stack(masks), texts)


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
    begun = vae._course(lambda: data, "one", vae.build(), 7, 3, limits, seed=0, report=told.append)
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


def test_a_gpu_sees_larger_batches_than_a_cpu(tmp_path):
    assert Limits(tmp_path, CPU).batch(8, 64) == 8
    assert Limits(tmp_path, torch.device("cuda")).batch(8, 64) == 64


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
