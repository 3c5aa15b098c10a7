"""The encoders of the metrics: CLIP by open_clip, DINO by timm, each with its own preprocessing.

Both have one interface: `name`, `preprocessing`, `encode_images`, `to`, `fingerprint`.
Both take PIL RGB images (8 bit, any size) and return unit-length float32 features on the CPU. They
run in float32 and eval mode whatever the training runs in. They are plain classes, not modules, so
that they show up in no LightningModule's parameters or checkpoints.

Preprocessing follows the DreamBooth evaluation: EXIF transpose, then PIL's bicubic resize of the
short side and a centre crop. Tensor resizing without antialias would give other features.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import open_clip
import timm
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dreambooth_pl.bounds import Filled, check_values
from dreambooth_pl.errors import UserError
from dreambooth_pl.metrics.encoder_checks import (
    check_clip_weights,
    check_complete,
    check_dino_weights,
    check_local_dir,
    not_loaded,
)

log = logging.getLogger(__name__)

BATCH_SIZE = 32  # images or texts per forward pass; bounds the memory, changes no result
_Model = Annotated[str, Filled("a model's name, local-dir:FOLDER or hf-hub:ORGANISATION/NAME")]
_File = Annotated[str, Filled("a file or tag, or null")]


@dataclass(frozen=True)
class EncoderSettings:
    """Which encoders the metrics use. Scores under different encoders do not compare."""

    clip: _Model = "local-dir:data/miniature/clip"
    """CLIP for CLIP-I and CLIP-T: an open_clip model name, `local-dir:FOLDER` or
    `hf-hub:ORGANISATION/NAME`."""
    clip_pretrained: _File | None = None
    """CLIP's weights when `clip` is a model name: an open_clip tag such as `openai`, or a
    file. null for `local-dir:` and `hf-hub:`, which bring their own."""
    dino: _Model = "local-dir:data/miniature/dino"
    """Vision transformer for the DINO score: a timm model name, `local-dir:FOLDER` or
    `hf-hub:ORGANISATION/NAME`."""
    dino_pretrained: _File | None = None
    """A file of weights for `dino`, when that is a model name; null for timm's own, which it
    downloads the first time. null for `local-dir:` and `hf-hub:`."""
    lpips: _File | None = None
    """AlexNet's weights for LPIPS, the distance of diversity: torchvision's file, or `download`.
    null takes them from torch's cache; where that has none, DINO's patches stand in."""

    def __post_init__(self) -> None:
        check_values(type(self), self, "fidelity")


@dataclass(frozen=True)
class Preprocessing:
    """Turns a PIL image into the tensor that an encoder wants."""

    resize: int
    """The short side after bicubic resizing, pixels."""
    crop: int
    """Side of the centre crop, pixels; at most `resize`."""
    mean: tuple[float, ...]
    """Per channel, of values in [0, 1]."""
    std: tuple[float, ...]
    """Per channel, of values in [0, 1]."""

    def scale(self, image: Image.Image) -> Image.Image:
        """Turn upright by EXIF and resize the short side; what is scaled already stays as it is."""
        image = ImageOps.exif_transpose(image)
        if image.mode != "RGB":
            raise ValueError(f"an encoder takes RGB images, not mode {image.mode}")
        width, height = image.size
        short = min(width, height)
        # The long side is truncated and the crop's corner rounded, as torchvision does, on whose
        # transforms the published numbers rest.
        size = (self.resize * width // short, self.resize * height // short)
        return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)

    def crop_image(self, image: Image.Image) -> Image.Image:
        """Scale as `scale` does and centre-crop: RGB, ``crop`` x ``crop``."""
        image = self.scale(image)
        left, top = (round((side - self.crop) / 2) for side in image.size)
        return image.crop((left, top, left + self.crop, top + self.crop))

    def __call__(self, image: Image.Image) -> Tensor:
        """Return float32 [3, crop, crop], normalised by mean and std."""
        pixels = np.asarray(self.crop_image(image), dtype=np.uint8).copy()
        values = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return ((values - mean[:, None, None]) / std[:, None, None]).contiguous()


class ClipEncoder:
    """Images and texts into CLIP's common space.

    Args:
        model: an open_clip model name, `local-dir:FOLDER` or `hf-hub:ORGANISATION/NAME`.
        pretrained: an open_clip weight tag (`openai`) or a file; only with a model name.

    Raises:
        UserError: the model or its weights cannot be had, or the weights were trained with another
            activation than the named model has (`ViT-B-32` with OpenAI's weights).
    """

    def __init__(self, model: str, pretrained: str | None = None) -> None:
        self.name = model if pretrained is None else f"{model}/{pretrained}"
        check_local_dir(model, "open_clip_config.json", "fidelity.clip")
        check_clip_weights(model, pretrained)
        try:
            with _root_logger_silent():
                self._model = open_clip.create_model(
                    model, pretrained=pretrained, precision="fp32", require_pretrained=True
                )
                self._tokenizer = open_clip.get_tokenizer(model)
        except Exception as error:  # the libraries underneath raise a dozen types
            raise not_loaded("CLIP", self.name, "fidelity.clip", error) from error
        self._model = self._model.float().eval().requires_grad_(False)
        config = open_clip.get_model_preprocess_cfg(self._model)
        if config["interpolation"] != "bicubic" or config["resize_mode"] != "shortest":
            raise UserError(
                f"fidelity.clip: {self.name} wants its images resized by "
                f"{config['interpolation']}/{config['resize_mode']}, but the protocol is bicubic "
                "on the short side; choose a CLIP model that was trained so."
            )
        size = config["size"]
        size = size if isinstance(size, int) else size[0]
        self.preprocessing = Preprocessing(size, size, tuple(config["mean"]), tuple(config["std"]))

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Encode N >= 1 RGB images: float32 [N, d], unit length."""
        return _encode(self._model, self._model.encode_image, self.preprocessing, images)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode M >= 1 texts: float32 [M, d], unit length. A long text is cut, with a warning."""
        for text in texts:
            self._warn_if_cut(text)
        return _encode(self._model, self._model.encode_text, lambda t: self._tokenizer(t)[0], texts)

    def to(self, device: str | torch.device) -> ClipEncoder:
        """Move to `device`; results come back on the CPU all the same."""
        self._model.to(device)
        return self

    def fingerprint(self) -> str:
        """Hash of the weights, 16 hexadecimal digits: says which encoder made a number."""
        return _fingerprint(self._model)

    def _warn_if_cut(self, text: str) -> None:
        encode = getattr(self._tokenizer, "encode", None)
        length = getattr(self._tokenizer, "context_length", None)
        if encode and length and len(encode(text)) > length - 2:  # start and end tokens
            log.warning("CLIP reads only the first %d tokens of the text %r.", length - 2, text)


class DinoEncoder:
    """Images into the space of a self-distilled vision transformer (DINO): its class token.

    Args:
        model: a timm model name (`vit_small_patch16_224.dino`), `local-dir:FOLDER` or
            `hf-hub:ORGANISATION/NAME`.
        pretrained: a file of the model's weights; only with a model name.

    Raises:
        UserError: the model or its weights cannot be had or are incomplete.
    """

    def __init__(self, model: str, pretrained: str | None = None) -> None:
        self.name = model if pretrained is None else f"{model}/{pretrained}"
        check_local_dir(model, "config.json", "fidelity.dino")
        check_dino_weights(model, pretrained)
        overlay = {} if pretrained is None else {"pretrained_cfg_overlay": {"file": pretrained}}
        try:
            # pretrained=True is what makes timm read a local folder's weights at all.
            self._model = timm.create_model(model, pretrained=True, num_classes=0, **overlay)
        except Exception as error:  # the libraries underneath raise a dozen types
            raise not_loaded("DINO", self.name, "fidelity.dino", error) from error
        self._model = self._model.float().eval().requires_grad_(False)
        check_complete(self._model, model, pretrained)
        config = timm.data.resolve_model_data_config(self._model)
        size = config["input_size"][-1]
        # The DreamBooth paper's 224 px models: resize 256, crop 224. timm's own crop fraction of
        # 0.9 would resize to 248 and give other features.
        resize = 256 if size == 224 else math.floor(size / config["crop_pct"])
        mean, std = tuple(config["mean"]), tuple(config["std"])
        self.preprocessing = Preprocessing(resize, size, mean, std)

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Encode N >= 1 RGB images: float32 [N, d], unit length."""
        return _encode(self._model, self._model, self.preprocessing, images)

    def encode_patches(self, images: Sequence[Image.Image]) -> Tensor:
        """Encode the L patches of N >= 1 RGB images: float32 [N, L, d], each of unit length."""
        first = self._model.num_prefix_tokens  # class token and registers are no patches

        def patches(batch: Tensor) -> Tensor:
            return self._model.forward_features(batch)[:, first:]

        return _encode(self._model, patches, self.preprocessing, images)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self._model.parameters()).device

    def to(self, device: str | torch.device) -> DinoEncoder:
        """Move to `device`; results come back on the CPU all the same."""
        self._model.to(device)
        return self

    def fingerprint(self) -> str:
        """Hash of the weights, 16 hexadecimal digits: says which encoder made a number."""
        return _fingerprint(self._model)


@dataclass(frozen=True)
class Encoders:
    """The two encoders of an evaluation."""

    clip: ClipEncoder
    dino: DinoEncoder

    def to(self, device: str | torch.device) -> Encoders:
        """Move both to `device`."""
        self.clip.to(device)
        self.dino.to(device)
        return self


def load_encoders(settings: EncoderSettings) -> Encoders:
    """Load what `settings` names, on the CPU.

    Raises:
        UserError: an encoder cannot be had; the message says which key and what to do.
    """
    return Encoders(
        clip=ClipEncoder(settings.clip, settings.clip_pretrained),
        dino=DinoEncoder(settings.dino, settings.dino_pretrained),
    )


@torch.no_grad()
def _encode(
    model: torch.nn.Module, forward: Callable, to_tensor: Callable, inputs: Sequence
) -> Tensor:
    """Run `forward` over batches of `inputs`: [N, d] float32, unit length, on the CPU."""
    assert len(inputs) > 0, "nothing to encode"
    device = next(model.parameters()).device
    features = []
    # A training loop around us may run under autocast; numbers to compare are float32.
    with torch.autocast(device.type, enabled=False):
        for start in range(0, len(inputs), BATCH_SIZE):
            batch = torch.stack([to_tensor(x) for x in inputs[start : start + BATCH_SIZE]])
            features.append(forward(batch.to(device)).float().cpu())
    return torch.nn.functional.normalize(torch.cat(features), dim=-1)


@contextmanager
def _root_logger_silent() -> Iterator[None]:
    """Keep open_clip off the root logger, to which it reports and adds a handler.

    What goes wrong reaches the user as one error instead.
    """
    root = logging.getLogger()
    was_disabled, handlers = root.disabled, root.handlers[:]
    root.disabled = True
    try:
        yield
    finally:
        root.disabled, root.handlers[:] = was_disabled, handlers


def _fingerprint(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
