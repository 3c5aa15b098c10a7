"""Images per second: this project's generation beside one diffusers call per prompt.

`python benchmarks/generation.py` generates the same prompts with the same sampler, steps, guidance
and base, once through `generate` at the batch size that this machine likes best, and once as
scripts usually do it: one pipeline call for each image. With `--lora` it does so with adapters too,
and adds up what an evaluation generates: as many images with them as without. Then it measures what
scoring the images costs. Both ways take turns, and each one's fastest round counts: other work
on the machine only slows a round down.
"""

from __future__ import annotations

import dreambooth_pl  # noqa: F401  isort: skip  (mends the import of torchvision first)

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from dreambooth_pl.adapters import load_adapters
from dreambooth_pl.bases.base import Base
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.commands.train import quiet_libraries
from dreambooth_pl.evaluation.subject import encode_images, encode_texts, image_scores
from dreambooth_pl.metrics.encoders import EncoderSettings, load_encoders
from dreambooth_pl.prompts import fill, prompt_set
from dreambooth_pl.sampling.batch_size import best_batch_size, measure_rates
from dreambooth_pl.sampling.generation import generate
from dreambooth_pl.sampling.requests import ImageRequest
from dreambooth_pl.sampling.settings import AUTOCAST, SamplingSettings


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Time of one call, what it left running on the device included."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def one_by_one(
    pipeline: DiffusionPipeline, requests: list[ImageRequest], settings: SamplingSettings
) -> list[Image.Image]:
    """Draw with one pipeline call per image; decode in float32, as `generate` does."""
    adapted = bool(pipeline.get_list_adapters())
    images = []
    for request in requests:
        with torch.autocast(
            pipeline.device.type, torch.bfloat16, enabled=settings.autocast is not None
        ):
            latents = pipeline(
                request.prompt,
                num_inference_steps=settings.num_inference_steps,
                guidance_scale=settings.guidance_scale,
                cross_attention_kwargs={"scale": settings.lora_scale_unet} if adapted else None,
                generator=torch.Generator().manual_seed(request.seed),
                output_type="latent",
            ).images
        with torch.no_grad():
            factor = pipeline.vae.config.scaling_factor
            decoded = pipeline.vae.decode(latents.float() / factor).sample
        images += pipeline.image_processor.postprocess(decoded, output_type="pil")
    return images


def compare(
    name: str,
    base: Base,
    pipeline: DiffusionPipeline,
    requests: list[ImageRequest],
    settings: SamplingSettings,
    args: argparse.Namespace,
) -> tuple[float, float]:
    """Print and return seconds per image: `generate`'s, and those of one call per image."""

    def together() -> list[Image.Image]:
        return list(generate(base, requests[: settings.batch_size], settings))

    def apart() -> list[Image.Image]:
        return one_by_one(pipeline, requests[: args.singles], settings)

    images, theirs = together(), apart()  # not counted: first calls are slow
    worst = max(
        (torch.tensor(list(a.tobytes())) - torch.tensor(list(b.tobytes()))).abs().max().item()
        for a, b in zip(images, theirs, strict=False)
    )
    single, batched = [], []
    for _ in range(args.rounds):
        single.append(seconds(apart, base.device) / args.singles)
        batched.append(seconds(together, base.device) / settings.batch_size)
    ours, others = min(batched), min(single)
    print(
        f"{name}: one diffusers call per image {1 / others:.2f} images/s, generate in batches of "
        f"{settings.batch_size} {1 / ours:.2f} images/s, {others / ours:.1f} times as many; "
        f"pixels differ by at most {worst} of 255"
    )
    return ours, others


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="data/miniature", help="folder of the base")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--singles", type=int, default=6, help="images per round, one by one")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each way")
    parser.add_argument("--lora", help="adapters to generate with, both ways: a run's lora folder")
    parser.add_argument(
        "--autocast", choices=AUTOCAST, help="denoise in it, both ways, as evaluate.py --autocast"
    )
    parser.add_argument("--rates", action="store_true", help="also time every batch size")
    args = parser.parse_args()
    quiet_libraries()
    warnings.filterwarnings("ignore")
    device = torch.device(args.device)

    settings = SamplingSettings(autocast=args.autocast)
    base = load_base(args.base).to(device)
    if args.rates:
        for size, rate in measure_rates(base, settings, limit=60.0).items():
            print(f"batch {size}: {rate:.2f} images/s")
    protocol = prompt_set("dreambench_live")
    prompts = [fill(p, "sks", "dog") for p in protocol.prompts]
    size = best_batch_size(base, settings, protocol.images_per_prompt * len(prompts))
    settings = replace(settings, batch_size=size)
    requests = [ImageRequest(prompts[i % len(prompts)], i) for i in range(max(size, args.singles))]
    pipeline = DiffusionPipeline.from_pretrained(args.base, safety_checker=None).to(device)
    pipeline.scheduler = base.objective.sampler(settings.scheduler)
    pipeline.set_progress_bar_config(disable=True)

    ours, others = compare("untuned", base, pipeline, requests, settings, args)
    if args.lora:
        load_adapters(base, args.lora)
        pipeline.load_lora_weights(args.lora)
        tuned = compare("with adapters", base, pipeline, requests, settings, args)
        ours, others = (ours + tuned[0]) / 2, (others + tuned[1]) / 2
        print(f"an evaluation, half of each: {others / ours:.1f} times as many images/s")

    encoders = load_encoders(
        EncoderSettings(clip=f"local-dir:{args.base}/clip", dino=f"local-dir:{args.base}/dino")
    ).to(device)
    images = list(generate(base, requests[:size], settings))
    photos = encode_images(encoders, images[:5])
    prompts = [request.prompt for request in requests[:size]]

    def score() -> None:
        texts = encode_texts(encoders, prompts, prompts)
        image_scores(encode_images(encoders, images), photos, texts)

    score()
    scoring = min(seconds(score, device) / size for _ in range(args.rounds))
    print(f"scoring costs {scoring / ours:.1%} of generation")


if __name__ == "__main__":
    main()
