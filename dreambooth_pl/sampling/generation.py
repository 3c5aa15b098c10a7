"""The one path that generates images from prompts and seeds.

Class images, probes and evaluation all use it. It runs the diffusers pipeline of the base with one
of diffusers' schedulers.

Reproducibility: an image is a function of its request (prompt and seed), the settings and the
weights. Its bits also depend on the *size* of its batch, because matrix products of another shape
may be summed in another order. On CPU in float32 with random weights (128 px, 8 steps, 1 and 2
threads), the measured differences were 2e-6, or one step of 255 in 1 of 10,000 values. The bits
depended neither on the place in the batch nor on the other images of the batch.

Every batch is therefore filled up to `SamplingSettings.batch_size`, prompts are encoded one by one,
and the batch size is recorded with the image. A single image is then bit for bit the same as in a
series of many. Another machine, number of threads or library version may give small differences.
GPUs are untested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from dreambooth_pl.adapters import adapter_scale, merged_while_generating
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.checks.resolution import check_resolution
from dreambooth_pl.bases.conditioning import Conditioning
from dreambooth_pl.errors import UserError
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import SamplingSettings

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number requested."""


def generate(
    base: Base,
    requests: Sequence[ImageRequest],
    settings: SamplingSettings,
    progress: Progress | None = None,
) -> Iterator[Image.Image]:
    """Generate the requested images with the base in its current state.

    Generation is lazy: a batch is generated when its first image is requested. Between images, and
    if the caller stops early, the networks' train/eval modes, adapter scales, dtypes and weights,
    the global random state and the gradient mode are the same as before. The caller's autocast has
    no effect.

    Args:
        base: the networks. Adapters in them have the strengths of `settings`.
        requests: prompts and seeds.
        settings: sampler, guidance, strengths, batch size, resolution. The batch size must be a
            number; `batch_size.settle_batch_size` replaces `auto`.
        progress: called after each batch.

    Yields:
        RGB images of side `settings.resolution`, in the order of `requests`.

    Raises:
        UserError: an image is black or not finite, or the base cannot generate images of this
            resolution.
    """
    assert settings.batch_size != "auto", "the batch size is settled before generating"
    check_resolution(base, settings.resolution, "sampling.resolution")
    if settings.resolution is not None and settings.resolution % base.pixel_multiple:
        raise UserError(
            f"sampling.resolution: {settings.resolution} px is not a multiple of "
            f"{base.pixel_multiple}, as {base.name!r} needs it."
        )
    return _batches(base, list(requests), settings, progress)


def _batches(
    base: Base, requests: list[ImageRequest], settings: SamplingSettings, progress: Progress | None
) -> Iterator[Image.Image]:
    encoded: dict[str | None, Conditioning] = {}
    size = settings.batch_size
    for start in range(0, len(requests), size):
        batch = requests[start : start + size]
        with _generation_mode(base, settings):
            images = _generate_batch(base, batch, settings, encoded)
        if progress is not None:
            progress(start + len(batch), len(requests))
        yield from images


def _generate_batch(
    base: Base,
    requests: list[ImageRequest],
    settings: SamplingSettings,
    encoded: dict[str | None, Conditioning],
) -> list[Image.Image]:
    """Generate one batch.

    Args:
        base: in generation mode.
        requests: at most `settings.batch_size` of them.
        settings: sampling settings.
        encoded: encoded prompts by prompt, shared by all batches and extended here. The key None
            is the negative prompt.
    """
    pipeline = base.pipeline(base.objective.sampler(settings.scheduler))
    filled = requests + requests[-1:] * (settings.batch_size - len(requests))
    if None not in encoded:
        encoded[None] = base.encode_negative(settings.negative_prompt, base.device)
    for request in requests:
        if request.prompt not in encoded:
            encoded[request.prompt] = base.encode_prompts([request.prompt], base.device)
    first, *rest = [encoded[request.prompt] for request in filled]
    negative = encoded[None].joined(*[encoded[None]] * len(rest))
    inputs = base.rules.pipeline_inputs(first.joined(*rest), negative)
    side = settings.resolution or base.resolution
    with _denoiser_autocast(base, settings.autocast):
        latents = pipeline(
            **inputs,
            generator=[torch.Generator().manual_seed(request.seed) for request in filled],
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            width=side,
            height=side,
            output_type="latent",  # decoded below: the VAE is float32, the latents may not be
        ).images
    decoded = base.decode_latents(latents)[: len(requests)]
    processor = pipeline.image_processor
    images = processor.postprocess(decoded, output_type="pt")  # [0, 1]
    for request, raw, image in zip(requests, decoded, images, strict=True):
        _check_image(request, raw, image)
    return processor.numpy_to_pil(processor.pt_to_numpy(images))


def _check_image(request: ImageRequest, raw: Tensor, image: Tensor) -> None:
    """Check a decoded image before it is rounded to 8 bits.

    Args:
        request: prompt and seed, for the message.
        raw: output of the VAE, [3, H, W].
        image: the same in [0, 1].

    Raises:
        UserError: the image is black or not finite.
    """
    if not raw.isfinite().all():
        problem = "is not finite"
    elif image.max() < 0.5 / 255:
        problem = "is black"
    else:
        return
    raise UserError(
        f"The image for {request.prompt!r} (seed {request.seed}) {problem}. Either training has "
        "diverged (lower model.learning_rate), or the base overflows in half precision (use "
        "trainer.precision bf16-mixed or 32-true, and model.frozen_dtype bfloat16 or float32)."
    )


@contextmanager
def _generation_mode(base: Base, settings: SamplingSettings) -> Iterator[None]:
    """Prepare the networks for generation and restore their state afterwards."""
    networks = list(base.modules.values())
    assert len({network.device for network in networks}) == 1, "networks on different devices"
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(_eval_mode(network))
        stack.enter_context(
            adapter_scale(base, settings.lora_scale_unet, settings.lora_scale_text_encoder)
        )
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(base.device.type, enabled=False))
        stack.enter_context(merged_while_generating(base))
        if base.compiled:  # other strengths of adapters would compile the blocks again
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def _denoiser_autocast(base: Base, dtype: str | None) -> Iterator[None]:
    """Run the denoiser under autocast to `dtype`. Guidance and sampler still work in float32."""
    if dtype is None:
        yield
        return

    def widen(denoiser: nn.Module, inputs: Any, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(output.float() for output in outputs)  # guidance amplifies rounding errors

    hook = base.denoiser.register_forward_hook(widen)
    try:
        with torch.autocast(base.device.type, getattr(torch, dtype)):
            yield
    finally:
        hook.remove()


@contextmanager
def _eval_mode(network: nn.Module) -> Iterator[None]:
    """Set evaluation mode and restore the mode of each submodule afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
