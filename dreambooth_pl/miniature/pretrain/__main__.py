"""Command line of the pretraining: runs the stages asked for, in order, each resumable."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from dreambooth_pl.commands.common import run_command
from dreambooth_pl.miniature.pretrain import clip, dino, pictures, text_to_image, vae
from dreambooth_pl.miniature.pretrain.assemble import assemble, replace_autoencoder
from dreambooth_pl.miniature.pretrain.loop import Limits

STAGES = ("world", "vae", "clip", "dino", "text-to-image")
WORK = Path.home() / ".cache" / "dreambooth_pl" / "pretrain"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dreambooth_pl.miniature.pretrain",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "stages",
        nargs="*",
        default=list(STAGES),
        metavar="STAGE",
        help="any of: " + " ".join(STAGES),
    )
    parser.add_argument("--pictures", type=int, default=60_000, help="drawn training pictures")
    parser.add_argument(
        "--views", type=int, default=40_000, help="drawn pictures of subjects seen several times"
    )
    parser.add_argument(
        "--vae-steps",
        type=int,
        default=8_000,
        help=f"steps of {vae.BATCH} pictures, {vae.GPU_BATCH} on a GPU",
    )
    parser.add_argument(
        "--clip-steps", type=int, default=5_000, help=f"steps of {clip.BATCH} pictures"
    )
    parser.add_argument(
        "--dino-steps", type=int, default=2_500, help=f"steps of {dino.BATCH} pairs of pictures"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=10_300,
        help=f"steps of text-to-image, {text_to_image.BATCH} pictures each, "
        f"{text_to_image.GPU_BATCH} on a GPU",
    )
    parser.add_argument(
        "--photos",
        type=Path,
        action="append",
        default=[],
        help="folder of natural photos for the VAE; may be repeated",
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="folder of a base, such as data/miniature: the stages go on from its weights instead "
        "of from nothing",
    )
    parser.add_argument(
        "--lock-text",
        action="store_true",
        help="leave CLIP's text tower as it is in --start, so that the UNet stays valid",
    )
    parser.add_argument(
        "--lock-encoder",
        action="store_true",
        help="leave the autoencoder's encoder as it is in --start and train its decoder alone, so "
        "that the UNet stays valid",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="pause a stage after so long; the same command goes on",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the UNet, on a GPU the autoencoder too; two CPU cores gain nothing by it",
    )
    parser.add_argument(
        "--pace",
        type=float,
        default=1.0,
        help="part of the stages' learning rates: below 1 for weights in --start that are nearly "
        "as good as they get",
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda"
    )
    parser.add_argument("--work", type=Path, default=WORK, help="pictures and states between calls")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/miniature"),
        help="where the base is written after text-to-image",
    )
    args = parser.parse_args(argv)
    unknown = [s for s in args.stages if s not in STAGES]
    if unknown:
        parser.error(f"unknown stage {unknown[0]!r}; the stages are: {' '.join(STAGES)}")
    if args.start and not (args.start / "model_index.json").is_file():
        parser.error(f"--start {args.start} is not the folder of a base (no model_index.json)")
    if not args.pace > 0:
        parser.error(f"--pace {args.pace:g} is not above 0: it is a part of the learning rates")
    if args.lock_text and not args.start:
        parser.error("--lock-text needs --start, the base whose text tower is to stay")
    if args.lock_encoder and not args.start:
        parser.error("--lock-encoder needs --start, the base whose encoder is to stay")
    return args


class Pretraining:
    """The stages, each a method; what one needs of an earlier one it reads from the work folder."""

    def __init__(self, args: argparse.Namespace, report: Callable[[str], None]) -> None:
        self.args, self.report = args, report
        self.limits = Limits(
            args.work, torch.device(args.device), args.minutes, args.compile, args.pace
        )
        args.work.mkdir(parents=True, exist_ok=True)

    def run(self, stage: str) -> bool:
        """Run one stage; False when it paused before its end."""
        return getattr(self, stage.replace("-", "_"))()

    def world(self) -> bool:
        """Draw the pictures."""
        for name, count in {"world": self.args.pictures, "subjects": self.args.views}.items():
            for done in pictures.render(
                self.args.work / name, count, self.args.seed, os.cpu_count() or 1
            ):
                self.report(f"world: {done}/{count} pictures in {name}")
        return True

    def vae(self) -> bool:
        """Train the autoencoder and encode all pictures with it.

        With a locked encoder the latents stay; the autoencoder goes straight into the base.
        """
        drawn = self._pictures()
        photos = vae.load_photos(self.args.photos)
        self.report(f"vae: {len(drawn)} pictures, {len(photos)} natural photos")
        locked = self.args.lock_encoder
        model = vae.fit(
            drawn,
            photos,
            self.args.vae_steps,
            self.args.seed,
            self.limits,
            self.report,
            start=self._start(
                lambda base: AutoencoderKL.from_pretrained(base / "vae"),
                None if locked else vae.build,
            ),
            lock_encoder=locked,
        )
        if model is None:
            return False
        if locked:
            replace_autoencoder(self.args.out, model.eval())
            return True
        model.eval().save_pretrained(self.args.work / "vae")
        latents = vae.encode(model, drawn, self.limits, self.report)
        np.save(self.args.work / "latents.npy", latents)
        return True

    def clip(self) -> bool:
        """Train the CLIP; with a locked text tower it goes straight into the base."""
        model = clip.fit(
            self._pictures(),
            self.args.clip_steps,
            self.args.seed,
            self.limits,
            self.report,
            start=self._start(lambda base: clip.load(base / "clip")),
            lock_text=self.args.lock_text,
        )
        if model is not None and self.args.lock_text:
            clip.save(model, self.args.out / "clip")
        return self._keep(model, "clip")

    def dino(self) -> bool:
        """Train the DINO; nothing in the base depends on it, so it goes straight there."""
        model = dino.fit(
            pictures.load(self.args.work / "subjects", self.args.views),
            self.args.dino_steps,
            self.args.seed,
            self.limits,
            self.report,
            start=self._start(lambda base: dino.load(base / "dino")),
        )
        if model is not None and (self.args.out / "dino").is_dir():
            dino.save(model, self.args.out / "dino")
        return self._keep(model, "dino")

    def text_to_image(self) -> bool:
        """Train the UNet and write the whole base."""
        latents = np.load(self.args.work / "latents.npy")
        std = float(latents[:2000].astype(np.float32).std())
        clip_model = self._kept(clip.build(), "clip")
        unet = text_to_image.fit(
            (latents / std).astype(np.float16),
            self._pictures(),
            clip.text_encoder(clip_model),
            self.args.steps,
            self.args.seed,
            self.limits,
            self.report,
            start=self._start(
                lambda base: UNet2DConditionModel.from_pretrained(base / "unet"),
                text_to_image.build,
            ),
        )
        if unet is None:
            return False
        autoencoder = AutoencoderKL.from_pretrained(self.args.work / "vae")
        backbone = self._kept(dino.Student().backbone, "dino")
        assemble(self.args.out, autoencoder, unet.eval(), clip_model, backbone, std)
        self.report(f"text-to-image: the base is in {self.args.out}")
        return True

    def _start(
        self, load: Callable[[Path], nn.Module], build: Callable[[], nn.Module] | None = None
    ) -> nn.Module | None:
        """What to go on from, in float32; None to begin with an untrained model.

        Args:
            build: makes such a model; one of another shape in the base is left out.
        """
        if not self.args.start:
            return None
        found = load(self.args.start).float()
        if build is not None and _shapes(found) != _shapes(build()):
            name = type(found).__name__
            self.report(f"the {name} in {self.args.start} has another shape: begun from nothing")
            return None
        return found

    def _pictures(self) -> pictures.Pictures:
        return pictures.load(self.args.work / "world", self.args.pictures)

    def _keep(self, model: nn.Module | None, name: str) -> bool:
        if model is not None:
            torch.save(model.state_dict(), self.args.work / f"{name}-final.pt")
        return model is not None

    def _kept(self, model: nn.Module, name: str) -> nn.Module:
        """Read an earlier stage's result; where it was not run, the part of the base in --start."""
        path = self.args.work / f"{name}-final.pt"
        if not path.exists():
            load = {"clip": clip.load, "dino": dino.load}[name]
            started = self._start(lambda base: load(base / name))
            if started is None:
                raise SystemExit(f"{path} is missing: run the stage `{name}` first")
            return started.eval()
        try:
            model.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        except RuntimeError as error:
            raise SystemExit(
                f"{path} is of a network of another shape: delete it and run the stage `{name}` "
                "again, or name a base to take it from with --start"
            ) from error
        return model.eval()


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in model.state_dict().items()}


def main(argv: list[str] | None = None) -> int:
    """Run the stages; exit status 0 when all are done, 3 when one paused."""
    args = parse(argv)
    began = time.monotonic()

    def report(text: str) -> None:
        print(f"[{(time.monotonic() - began) / 60:6.1f} min] {text}", flush=True)

    pretraining = Pretraining(args, report)
    for stage in STAGES:
        if stage in args.stages and not pretraining.run(stage):
            return 3
    return 0


if __name__ == "__main__":
    run_command(main)
