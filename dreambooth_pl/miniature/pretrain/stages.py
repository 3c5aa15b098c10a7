"""The stages of the pretraining and the files that they pass on to each other."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from dreambooth_pl.miniature.pretrain import clip, dino, pictures, text_to_image, vae
from dreambooth_pl.miniature.pretrain.assemble import assemble, replace_autoencoder
from dreambooth_pl.miniature.pretrain.loop import Limits

STAGES = ("world", "vae", "clip", "dino", "text-to-image")
"""Names of the stages, in the order in which they run."""


class Pretraining:
    """Runs the stages. Each is a method and reads the results of earlier ones from the work folder.

    Args:
        args: the parsed command line.
        report: called with each line of progress.
    """

    def __init__(self, args: argparse.Namespace, report: Callable[[str], None]) -> None:
        self.args, self.report = args, report
        self.limits = Limits(
            args.work, torch.device(args.device), args.minutes, args.compile, args.pace
        )
        args.work.mkdir(parents=True, exist_ok=True)

    def run(self, stage: str) -> bool:
        """Run one stage. Return whether it is done; `False` means that it paused."""
        return getattr(self, stage.replace("-", "_"))()

    def world(self) -> bool:
        """Render the training pictures."""
        for name, count in {"world": self.args.pictures, "subjects": self.args.views}.items():
            for done in pictures.render(
                self.args.work / name, count, self.args.seed, os.cpu_count() or 1
            ):
                self.report(f"world: {done}/{count} pictures in {name}")
        return True

    def vae(self) -> bool:
        """Train the autoencoder and encode all pictures with it.

        With a locked encoder the latents stay the same and the autoencoder is written into the base
        at once.
        """
        rendered = self._pictures()
        photos = vae.load_photos(self.args.photos)
        self.report(f"vae: {len(rendered)} pictures, {len(photos)} natural photos")
        locked = self.args.lock_encoder
        model = vae.fit(
            rendered,
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
        latents = vae.encode(model, rendered, self.limits, self.report)
        np.save(self.args.work / "latents.npy", latents)
        return True

    def clip(self) -> bool:
        """Train the CLIP. With a locked text tower it is written into the base at once."""
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
        """Train the DINO. An existing base gets it at once, since no other part depends on it."""
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
        """Load the model in `--start` that training continues from.

        Args:
            load: loads the model from the base's folder.
            build: builds an untrained model. A model of another shape in the base is not used.

        Returns:
            The model in float32; `None` to begin with an untrained one.
        """
        if not self.args.start:
            return None
        found = load(self.args.start).float()
        if build is not None and _shapes(found) != _shapes(build()):
            name = type(found).__name__
            self.report(
                f"the {name} in {self.args.start} has another shape: starting from random weights"
            )
            return None
        return found

    def _pictures(self) -> pictures.Pictures:
        return pictures.load(self.args.work / "world", self.args.pictures)

    def _keep(self, model: nn.Module | None, name: str) -> bool:
        if model is not None:
            torch.save(model.state_dict(), self.args.work / f"{name}-final.pt")
        return model is not None

    def _kept(self, model: nn.Module, name: str) -> nn.Module:
        """Load an earlier stage's result, or that part of the base in --start if it was not run."""
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
