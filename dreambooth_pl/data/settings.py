"""The settings of the data module: the keys `data.*` of a config."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from dreambooth_pl.bounds import Bounds, Filled, Seed, Share, check_values
from dreambooth_pl.data.captions import CaptionSource
from dreambooth_pl.data.photo_views import MAX_CROPS
from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import check_template, fill, says_word

_FREE = {"shapes_training": False}
"""Metadata of a field that may differ when a checkpoint is continued."""

_ClassImages = Annotated[int, Bounds(0, 10_000, too_high="too many")]
_Pixels = Annotated[int, Bounds(8, 4096)]
_BatchSize = Annotated[
    int, Bounds(1, 512, remedy="For larger steps raise trainer.accumulate_grad_batches.")
]
_Workers = Annotated[int, Bounds(0, 256, too_high="too many")]
_Crops = Annotated[int, Bounds(1, MAX_CROPS, too_high="too many")]
_Photos = Annotated[str, Filled("the folder with the photos of the subject")]
_Identifier = Annotated[str, Filled("a rare word, such as sks")]
_Noun = Annotated[str, Filled("the noun of the subject, such as dog")]
_Prompt = Annotated[str, Filled("a prompt, such as 'a {identifier} {class}'")]
_ClassPrompt = Annotated[str, Filled("a prompt, such as 'a {class}'")]
_Folder = Annotated[str, Filled("the path of a folder, or null")]


@dataclass(frozen=True)
class DataSettings:
    """Which photos and class images a run trains on, and how it shows them.

    Attribute docstrings are the help texts of the command line.

    Raises:
        UserError: a value is out of its range, or a prompt has an unknown placeholder.
    """

    instance_dir: _Photos = "data/sks_dog"
    """folder with the photos of the subject (JPEG, PNG, WebP, ...; three to five are usual)."""
    identifier: _Identifier = "sks"
    """rare word that stands for the subject in prompts, such as sks."""
    class_noun: _Noun = "dog"
    """what the subject is, such as dog or stuffed animal."""
    instance_prompt: _Prompt = "a {identifier} {class}"
    """caption of the photos; {identifier} and {class} are filled in."""
    class_prompt: _ClassPrompt = "a {class}"
    """caption of the class images, and the prompt they are generated from."""
    num_class_images: _ClassImages = 100
    """how many class images the prior-preservation loss learns from; 0 for none."""
    class_dir: _Folder | None = None
    """folder with class images of your own, or where generated ones go (default: a folder in
    data/class_images per base, prompt and sampler, shared by all runs)."""
    resolution: _Pixels = 128
    """side of the square training images in pixels; photos are scaled and cropped."""
    batch_size: _BatchSize = 1
    """photos per batch; as many class images come with them."""
    horizontal_flip: bool = False
    """also show every picture with left and right swapped."""
    num_workers: _Workers = field(default=0, metadata=_FREE)
    """processes that prepare batches; batches are a few indices, so 0 is fastest."""
    cache_dir: _Folder | None = field(default=None, metadata=_FREE)
    """folder that keeps encoded pictures and prompts by their content, so that a later run of the
    same pictures and base starts sooner; it may be removed at any time. null: none are kept."""
    seed: Seed = 42
    """keys the order of the pictures; follows seed_everything."""
    captions: CaptionSource = "template"
    """where the photos' captions are: template (instance_prompt for all), files (NAME.txt beside
    each photo), metadata (metadata.jsonl with file_name and text), or auto (the first of metadata,
    files, template that is there). {identifier} and {class} are filled into all of them."""
    caption_dropout: Share = 0.0
    """probability that a photo is shown with an empty prompt instead of its own; class images
    always keep theirs."""
    crop: Literal["center", "random"] = "center"
    """which part of a photo is used where its shape does not fit: its center, or num_crops random
    ones. Class images are always cropped to the centre."""
    num_crops: _Crops = 8
    """distinct random crops of each photo, all encoded before the first step; fewer where a photo
    has no more. For crop random."""
    aspect_ratio_buckets: bool = False
    """train on photos in sizes near their own shape, of about resolution x resolution pixels,
    instead of squares; photos of a batch share a size."""
    bucket_step: _Pixels | None = None
    """what the sides of buckets are multiples of, in pixels; null for an eighth of the resolution,
    at most 64."""
    mask_dir: _Folder | None = None
    """folder with a mask of the same name for each photo, white where the subject is; the loss
    looks there. null: NAME.mask.png beside the photo NAME, if there."""
    mask_background_weight: Share = 0.0
    """weight of the loss where a mask is black, against 1 where it is white."""

    def __post_init__(self) -> None:
        check_values(type(self), self, "data")
        if self.resolution % 8:
            raise UserError(f"data.resolution: {self.resolution} px is not a multiple of 8.")
        step = self.bucket_step
        if step is not None and (step % 8 or self.resolution % step):
            raise UserError(
                f"data.bucket_step: {step} px must be a multiple of 8 that divides "
                f"data.resolution, {self.resolution}."
            )
        if self.identifier.strip().casefold() == self.class_noun.strip().casefold():
            raise UserError(
                f"data.identifier: {self.identifier!r} is data.class_noun as well; give a rare "
                "word that means nothing yet, such as sks."
            )
        for key in ("instance_prompt", "class_prompt"):
            try:
                check_template(getattr(self, key))
            except UserError as error:
                raise UserError(f"data.{key}: {error}") from error
        self._check_prompts()

    def _check_prompts(self) -> None:
        """Check that the photos' prompt says the identifier, and the class images' does not."""
        uses_template = self.captions in ("template", "auto")
        prompt = fill(self.instance_prompt, self.identifier, self.class_noun)
        if uses_template and not says_word(prompt, self.identifier):
            raise UserError(
                f"data.instance_prompt: {prompt!r} does not say the identifier, so that it would "
                "learn nothing; write {identifier} where it stands, as in 'a {identifier} {class}'."
            )
        class_prompt = fill(self.class_prompt, None, self.class_noun)
        if says_word(class_prompt, self.identifier):
            raise UserError(
                f"data.class_prompt: {class_prompt!r} says the identifier, which is the subject's "
                "alone; leave it out, as in 'a {class}'."
            )

    @property
    def shaping(self) -> dict[str, Any]:
        """The settings that shape the training; a checkpoint must agree with them."""
        return {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.metadata.get("shapes_training", True)
        }
