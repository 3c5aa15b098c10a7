"""Encoders against open_clip's and timm's own models and transforms, and the refusals."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from dreambooth_pl.errors import UserError
from dreambooth_pl.metrics.encoders import (
    ClipEncoder,
    DinoEncoder,
    EncoderSettings,
    Preprocessing,
    load_encoders,
)

ODD_SIZES = [(37, 91), (91, 37), (224, 224), (225, 300), (301, 255), (20, 21), (640, 427)]


def photo(size: tuple[int, int], seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize(("resize", "crop"), [(224, 224), (256, 224), (32, 32), (73, 64)])
def test_crop_equals_torchvisions_pixel_for_pixel(size, resize, crop) -> None:
    image = photo(size)
    theirs = Compose([Resize(resize, InterpolationMode.BICUBIC), CenterCrop(crop)])(image)
    ours = Preprocessing(resize, crop, (0, 0, 0), (1, 1, 1)).crop_image(image)
    assert ours.size == (crop, crop)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


STORED = {  # how the file holds an upright picture, by its EXIF orientation
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, 1),
    7: lambda pixels: np.rot90(pixels.transpose(1, 0, 2), 2),
    8: lambda pixels: np.rot90(pixels, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_photos_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    upright = photo((40, 60))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(upright))))
    stored.save(tmp_path / "turned.png", exif=exif)
    preprocessing = Preprocessing(32, 32, (0, 0, 0), (1, 1, 1))
    with Image.open(tmp_path / "turned.png") as turned:
        got = preprocessing.crop_image(turned)
    np.testing.assert_array_equal(np.asarray(got), np.asarray(preprocessing.crop_image(upright)))


def test_other_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="RGB"):
        Preprocessing(32, 32, (0, 0, 0), (1, 1, 1))(Image.new("L", (40, 40)))


def test_clip_features_equal_open_clips(tiny_clip: str) -> None:
    ours = ClipEncoder(tiny_clip)
    theirs, _, transform = open_clip.create_model_and_transforms(tiny_clip)
    theirs.eval()
    images = [photo(size, seed) for seed, size in enumerate(ODD_SIZES)]
    texts = ["a dog", "a sks dog in the forest"]
    with torch.no_grad():
        expected = theirs.encode_image(torch.stack([transform(i) for i in images]), normalize=True)
        tokens = open_clip.get_tokenizer(tiny_clip)(texts)
        expected_texts = theirs.encode_text(tokens, normalize=True)
    torch.testing.assert_close(ours.encode_images(images), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.encode_texts(texts), expected_texts, atol=1e-5, rtol=0)
    assert ours.preprocessing.crop == 32


def test_dino_features_equal_timms(tiny_dino: str) -> None:
    ours = DinoEncoder(tiny_dino)
    theirs = timm.create_model(tiny_dino, pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
    images = [photo(size, seed) for seed, size in enumerate(ODD_SIZES)]
    with torch.no_grad():
        tokens = theirs.forward_features(torch.stack([transform(i) for i in images]))
        expected = torch.nn.functional.normalize(tokens[:, 0], dim=1)  # the class token
    torch.testing.assert_close(ours.encode_images(images), expected, atol=1e-5, rtol=0)


def test_features_are_unit_length_float32_and_independent_of_neighbours(tiny_dino: str) -> None:
    encoder = DinoEncoder(tiny_dino)
    images = [photo((40, 40), seed) for seed in range(40)]  # more than one batch
    together = encoder.encode_images(images)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together.norm(dim=1), torch.ones(40))
    alone = torch.cat([encoder.encode_images([image]) for image in images[-3:]])
    torch.testing.assert_close(together[-3:], alone, atol=1e-5, rtol=0)


def test_autocast_around_an_encoder_changes_nothing(tiny_dino: str) -> None:
    encoder = DinoEncoder(tiny_dino)
    expected = encoder.encode_images([photo((40, 40))])
    with torch.autocast("cpu", torch.bfloat16):
        got = encoder.encode_images([photo((40, 40))])
    torch.testing.assert_close(got, expected, atol=0, rtol=0)


def test_a_224_px_dino_resizes_to_256_and_crops_224(tmp_path: Path) -> None:
    config = write_vit(tmp_path, size=224)
    assert config["pretrained_cfg"]["crop_pct"] == 0.9, "timm's own transform would resize to 248"
    preprocessing = DinoEncoder(f"local-dir:{tmp_path}").preprocessing
    assert (preprocessing.resize, preprocessing.crop) == (256, 224)


def test_another_size_follows_timms_own_transform(tmp_path: Path) -> None:
    write_vit(tmp_path, size=64)
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    image = photo((90, 133))
    ours = DinoEncoder(f"local-dir:{tmp_path}").preprocessing(image)
    torch.testing.assert_close(ours, transform(image), atol=1e-6, rtol=0)


def test_full_size_clip_by_name_and_file_equals_open_clips(tmp_path: Path) -> None:
    name = "ViT-B-32-quickgelu"
    torch.manual_seed(0)
    theirs, _, transform = open_clip.create_model_and_transforms(name)
    theirs.eval()
    save_file(theirs.state_dict(), tmp_path / "clip.safetensors")
    images = [photo((640, 427)), turned_photo(tmp_path, (37, 91))]
    upright = [images[0], photo((37, 91))]
    texts = ["a dog", "a sks dog in the forest"]
    with torch.no_grad():
        pixels = torch.stack([transform(image) for image in upright])
        expected = theirs.encode_image(pixels, normalize=True)
        tokens = open_clip.get_tokenizer(name)(texts)
        expected_texts = theirs.encode_text(tokens, normalize=True)
    assert (expected[0] - expected[1]).abs().max() > 1e-3, "random weights tell images apart, too"

    ours = ClipEncoder(name, str(tmp_path / "clip.safetensors"))
    for image, values in zip(images, pixels, strict=True):
        torch.testing.assert_close(ours.preprocessing(image), values, atol=0, rtol=0)
    torch.testing.assert_close(ours.encode_images(images), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.encode_texts(texts), expected_texts, atol=1e-5, rtol=0)


def test_full_size_dino_by_name_and_file_equals_timms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("vit_small_patch16_224", num_classes=0).eval()
    save_file(theirs.state_dict(), tmp_path / "dino.safetensors")
    images = [photo((640, 427)), turned_photo(tmp_path, (37, 91))]
    resize = Compose([Resize(256, InterpolationMode.BICUBIC), CenterCrop(224)])
    crops = [resize(image) for image in (images[0], photo((37, 91)))]
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406),
                                                          (0.229, 0.224, 0.225)))  # fmt: skip
    values = [torch.tensor(np.asarray(crop)).permute(2, 0, 1).float() / 255 for crop in crops]
    with torch.no_grad():
        tokens = theirs.forward_features(torch.stack([(v - mean) / std for v in values]))
    expected = torch.nn.functional.normalize(tokens, dim=-1)
    assert (expected[0, 0] - expected[1, 0]).abs().max() > 1e-3, "images are told apart"

    ours = DinoEncoder("vit_small_patch16_224.dino", str(tmp_path / "dino.safetensors"))
    for image, crop in zip(images, crops, strict=True):
        got = np.asarray(ours.preprocessing.crop_image(image))
        np.testing.assert_array_equal(got, np.asarray(crop))
    torch.testing.assert_close(ours.encode_images(images), expected[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.encode_patches(images), expected[:, 1:], atol=1e-5, rtol=0)


def turned_photo(folder: Path, size: tuple[int, int]) -> Image.Image:
    """``photo(size)`` as a camera held sideways stores it."""
    exif = Image.Exif()
    exif[0x0112] = 8
    path = folder / "turned.png"
    photo(size).transpose(Image.Transpose.ROTATE_270).save(path, exif=exif)
    image = Image.open(path)
    image.load()
    return image


@pytest.mark.parametrize(
    ("model", "file", "message"),
    [
        ("vit_small_patch16_224.dino", "no/such/file.safetensors", "there is no file"),
        ("local-dir:x", "y.safetensors", "x does not exist"),
    ],
)
def test_dino_weight_mistakes_are_told(model: str, file: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        DinoEncoder(model, file)


def test_a_dino_folder_with_a_file_of_weights_is_refused(tiny_dino: str) -> None:
    with pytest.raises(UserError, match="set fidelity.dino_pretrained to null"):
        DinoEncoder(tiny_dino, "weights.safetensors")


def test_a_file_of_another_models_weights_is_refused(tmp_path: Path) -> None:
    save_file({"norm.weight": torch.ones(384)}, tmp_path / "few.safetensors")
    with pytest.raises(UserError, match="could not be loaded"):
        DinoEncoder("vit_small_patch16_224.dino", str(tmp_path / "few.safetensors"))


def write_vit(folder: Path, size: int) -> dict:
    model_args = {"img_size": size, "patch_size": 32, "embed_dim": 12, "depth": 1, "num_heads": 2}
    config = {
        "architecture": "vit_small_patch16_224",
        "num_classes": 0,
        "model_args": model_args,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "num_classes": 0,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    model = timm.create_model("vit_small_patch16_224", num_classes=0, **model_args)
    save_file(model.state_dict(), folder / "model.safetensors")
    return config


def test_vit_b_32_with_openai_weights_is_refused() -> None:
    with pytest.raises(UserError, match="Use ViT-B-32-quickgelu"):
        ClipEncoder("ViT-B-32", "openai")


def test_openais_file_is_recognised_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = open_clip.get_pretrained_cfg("ViT-B-32", "openai")["url"]
    assert re.fullmatch("[0-9a-f]{64}", address.split("/")[-2]), "the file's hash"
    path = tmp_path / "renamed.pt"
    path.write_bytes(b"stands for OpenAI's weights")
    hash_ = hashlib.sha256(path.read_bytes()).hexdigest()
    config = {"url": f"https://somewhere/{hash_}/ViT-B-32.pt", "quick_gelu": True}
    real = open_clip.get_pretrained_cfg
    monkeypatch.setattr(
        open_clip, "get_pretrained_cfg", lambda m, t: config if t == "openai" else real(m, t)
    )
    with pytest.raises(UserError, match="Use ViT-B-32-quickgelu"):
        ClipEncoder("ViT-B-32", str(path))
    path.write_bytes(b"another file")
    with pytest.raises(UserError, match="could not be loaded"):
        ClipEncoder("ViT-B-32", str(path))


@pytest.mark.parametrize(
    ("clip", "pretrained", "message"),
    [
        ("ViT-B-32-quickgelu", None, "needs weights"),
        ("no-such-model", "openai", "no model named"),
        ("ViT-B-32-quickgelu", "no-such-tag", "neither a file nor weights"),
        ("local-dir:no/such/folder", None, "does not exist"),
        ("local-dir:no/such/folder", "openai", "does not exist"),
    ],
)
def test_clip_mistakes_are_told(clip: str, pretrained: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ClipEncoder(clip, pretrained)


def test_clip_folder_with_a_weight_tag_is_refused(tiny_clip: str) -> None:
    with pytest.raises(UserError, match="null"):
        ClipEncoder(tiny_clip, "openai")


def test_clip_folder_without_weights_is_refused(tiny_base_dir: Path, tmp_path: Path) -> None:
    source = tiny_base_dir / "clip" / "open_clip_config.json"
    (tmp_path / "open_clip_config.json").write_text(source.read_text())
    with pytest.raises(UserError, match="could not be loaded"):
        ClipEncoder(f"local-dir:{tmp_path}")


@pytest.mark.parametrize("dino", ["no_such_model", "local-dir:no/such/folder", "some/path"])
def test_dino_mistakes_are_told(dino: str) -> None:
    with pytest.raises(UserError, match="fidelity.dino"):
        DinoEncoder(dino)


def test_dino_folder_with_incomplete_weights_is_refused(tmp_path: Path) -> None:
    config = write_vit(tmp_path, size=64)
    config["num_classes"] = 10  # timm then loads without strictness
    config["pretrained_cfg"]["num_classes"] = 10
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("norm.weight")
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="norm.weight"):
        DinoEncoder(f"local-dir:{tmp_path}")


def test_a_text_beyond_the_context_is_told(
    tiny_clip: str, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = ClipEncoder(tiny_clip)
    encoder.encode_texts(["a dog"])
    assert not caplog.records
    encoder.encode_texts(["dog " * 30])
    assert "first 18 tokens" in caplog.text


def test_fingerprint_tells_encoders_apart(tiny_clip: str, tiny_dino: str) -> None:
    encoders = load_encoders(EncoderSettings(clip=tiny_clip, clip_pretrained=None, dino=tiny_dino))
    again = DinoEncoder(tiny_dino)
    assert encoders.dino.fingerprint() == again.fingerprint() != encoders.clip.fingerprint()
