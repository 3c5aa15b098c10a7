"""Distances between images, for diversity: LPIPS, or a stand-in where its weights are lacking.

LPIPS (Zhang et al. 2018, arXiv 1801.03924) compares AlexNet's features, weighted per channel by
small layers that come with torchmetrics. AlexNet's own weights (244 MB) do not come with it: they
are read from a file or from torch's cache, and downloaded only on request. Numbers of different
distances do not compare, so each distance has a name to stand beside its numbers.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.image.lpips import _NoTrainLpips
from torchvision.models import AlexNet_Weights, alexnet

from dreambooth_pl.errors import UserError
from dreambooth_pl.metrics.encoders import DinoEncoder, Encoders, EncoderSettings, load_encoders

log = logging.getLogger(__name__)

DOWNLOAD = "download"
_WEIGHTS_URL = AlexNet_Weights.DEFAULT.url
_LEAST_SIDE = 64  # pixels; AlexNet's strides leave nothing of smaller images


class PairwiseDistance(Protocol):
    """A distance between images."""

    name: str
    """Of the distance, to be shown with every number of it."""

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """Return the distances between K RGB images: float32 [K, K], symmetric, 0 diagonal."""


@dataclass(frozen=True, eq=False)
class Measure:
    """All that scores are measured with. Scores under different measures do not compare."""

    encoders: Encoders
    distance: PairwiseDistance


class LpipsDistance:
    """LPIPS with AlexNet, on the images at their own size.

    Args:
        backbone: weights of torchvision's AlexNet.
        device: where it computes; results come back on the CPU.

    Images of less than 64 px are enlarged to it first, bicubic: AlexNet takes no smaller ones.
    """

    name = "LPIPS (AlexNet)"

    def __init__(self, backbone: dict[str, Tensor], device: str | torch.device = "cpu") -> None:
        # The layers' weights come with torchmetrics; the backbone is filled in here, because
        # torchmetrics would fetch it from the network and unpickle it without a check.
        self._network = _NoTrainLpips(net="alex", pnet_rand=True)
        for n in range(1, 6):
            for name, layer in getattr(self._network.net, f"slice{n}").named_children():
                weights = {key: backbone[f"features.{name}.{key}"] for key in layer.state_dict()}
                layer.load_state_dict(weights)
        self._network.requires_grad_(False).to(device)

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """See `PairwiseDistance`; in [0, about 1].

        Raises:
            UserError: the images differ in size.
        """
        sizes = sorted({image.size for image in images})
        if len(sizes) > 1:
            (width, height), (other_width, other_height) = sizes[0], sizes[-1]
            raise UserError(
                f"Diversity compares images of one size, but of the same prompt there are images "
                f"of {width} x {height} and {other_width} x {other_height} pixels. Bring them to "
                "one size."
            )
        parameter = next(self._network.parameters())
        pixels = torch.stack([_pixels(image) for image in images]).to(parameter.device)
        distances = torch.zeros(len(images), len(images))
        with torch.autocast(parameter.device.type, enabled=False):
            for i, j in itertools.combinations(range(len(images)), 2):
                value = self._network(pixels[i][None], pixels[j][None], normalize=True)
                distances[i, j] = distances[j, i] = value.item()
        return distances


class PatchDistance:
    """1 - cosine of DINO's patch features at the same place, mean over places: in [0, 2].

    Like LPIPS it compares place by place, and it needs no weights beyond the DINO score's.
    """

    name = "1 - cosine of DINO patches"

    def __init__(self, dino: DinoEncoder) -> None:
        self._dino = dino

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """See `PairwiseDistance`."""
        patches = self._dino.encode_patches(images)
        cosines = torch.einsum("ild,jld->ij", patches, patches) / patches.shape[1]
        return (1 - (cosines + cosines.T) / 2).fill_diagonal_(0)


def load_distance(settings: EncoderSettings, encoders: Encoders) -> PairwiseDistance:
    """Load LPIPS if AlexNet's weights are to be had without asking the network, else a stand-in.

    Args:
        settings: its `lpips` names a file of weights, or asks for the download.
        encoders: their DINO is the stand-in; LPIPS computes on its device.

    Raises:
        UserError: `lpips` names weights that are not there, are no AlexNet's or cannot be had.
    """
    if settings.lpips == DOWNLOAD:
        path = _download()
    elif settings.lpips is not None:
        path = Path(settings.lpips)
    else:
        path = _cached()
        if not path.is_file():
            return PatchDistance(encoders.dino)
    return LpipsDistance(_read_backbone(path), encoders.dino.device)


def load_measure(settings: EncoderSettings, device: str | torch.device = "cpu") -> Measure:
    """Load encoders and distance onto a device.

    Raises:
        UserError: an encoder or its weights cannot be had.
    """
    encoders = load_encoders(settings).to(device)
    return Measure(encoders, load_distance(settings, encoders))


def _cached() -> Path:
    """Where torch keeps AlexNet's weights, once it has them."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _WEIGHTS_URL.rsplit("/", 1)[-1]


def _download() -> Path:
    path = _cached()
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    log.warning("Downloading AlexNet's weights for LPIPS (244 MB) to %s.", path)
    try:
        expected = path.stem.rsplit("-", 1)[-1]  # the name ends in the start of the file's hash
        torch.hub.download_url_to_file(_WEIGHTS_URL, str(path), hash_prefix=expected)
    except (OSError, RuntimeError) as error:  # RuntimeError: another hash
        raise UserError(
            f"fidelity.lpips: AlexNet's weights could not be downloaded ({error}). Put "
            f"{_WEIGHTS_URL} at {path} by hand, or set fidelity.lpips to null for the stand-in."
        ) from error
    return path


def _read_backbone(path: Path) -> dict[str, Tensor]:
    remedy = (
        f"Give the file {_WEIGHTS_URL.rsplit('/', 1)[-1]} of torchvision, download to fetch it, "
        "or null for the stand-in."
    )
    if not path.is_file():
        raise UserError(f"fidelity.lpips: there is no file {path}. {remedy}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        with torch.device("meta"):
            expected = {k: v.shape for k, v in alexnet(weights=None).state_dict().items()}
        found = {name: tensor.shape for name, tensor in weights.items()}
    except Exception as error:  # unpickling raises a dozen types
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"fidelity.lpips: {path} cannot be read ({reason}). {remedy}") from error
    if found != expected:
        raise UserError(f"fidelity.lpips: {path} does not hold AlexNet's weights. {remedy}")
    return weights


def _pixels(image: Image.Image) -> Tensor:
    """Return float32 [3, h, w] in [0, 1], at least 64 px on each side."""
    if min(image.size) < _LEAST_SIDE:
        scale = _LEAST_SIDE / min(image.size)
        size = tuple(max(_LEAST_SIDE, round(side * scale)) for side in image.size)
        image = image.resize(size, Image.Resampling.BICUBIC)
    values = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.uint8).copy())
    return values.permute(2, 0, 1).float() / 255
