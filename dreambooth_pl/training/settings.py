"""The settings of what is trained: the keys `model.*` of a config."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any

from dreambooth_pl.adapters import AdapterKind, AdapterSettings
from dreambooth_pl.bases.spec import BaseSpec, FrozenDtype
from dreambooth_pl.bounds import Bounds, Filled, Seed, check_values
from dreambooth_pl.files.dotted_keys import flatten
from dreambooth_pl.training.optimizers import OptimizerFactory, describe_optimizer

_FREE = {"shapes_training": False}
"""Metadata of a field that may differ when a checkpoint is continued."""


_Rate = Annotated[
    float,
    Bounds(0, 10, open_low=True, remedy="It is a step size, such as 1e-4; at 0 nothing trains."),
]
_Weight = Annotated[float, Bounds(0, 1000)]
_Decay = Annotated[float, Bounds(0, 10)]
_Beta = Annotated[float, Bounds(0, 1, open_high=True)]
_Gamma = Annotated[
    float, Bounds(0, 1000, open_low=True, remedy="5 is usual; null weights all timesteps alike.")
]
_Offset = Annotated[float, Bounds(0, 1)]
_Base = Annotated[str, Filled("the path of a base, such as data/miniature, or its hub id")]
_Suffix = Annotated[str, Filled("a name, or null for none")]


def _free(default: Any) -> Any:
    return field(default=default, metadata=_FREE)


@dataclass(frozen=True)
class ModelSettings:
    """What is trained, on which base, and how.

    Raises:
        UserError: a number is out of its bounds.
    """

    base: _Base = _free("data/miniature")
    """the model to start from (Stable Diffusion 1.x, 2.x, XL or 3, recognised by itself): a
    diffusers pipeline folder, its hub id, or one .safetensors checkpoint file."""
    lora: AdapterSettings = AdapterSettings()  # frozen
    """size and place of the adapters."""
    train_text_encoder: bool = False
    """also adapt the text encoder, not only the UNet."""
    prior_loss_weight: _Weight = 1.0
    """weight of the prior-preservation loss on class images; 0 turns it off."""
    learning_rate: _Rate = 3e-4
    """step size for the UNet's adapters."""
    text_encoder_learning_rate: _Rate = 1e-4
    """step size for the text encoders' adapters."""
    weight_decay: _Decay = 1e-2
    """AdamW's decoupled weight decay on all adapters."""
    adam_betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    """AdamW's decay rates of the gradient's first and second moment."""
    min_snr_gamma: _Gamma | None = None
    """weight the loss of each timestep by min-SNR with this gamma (5 is usual); null weights all
    timesteps alike."""
    noise_offset: _Offset = 0.0
    """shift each channel of a sample's noise, all over, by this many standard deviations times a
    random number (0.05 to 0.1 is usual; Guttenberg, Diffusion with Offset Noise, 2023): what colour
    the subject has is then learnt with its words and not read off the noise. 0 keeps the published
    noise."""
    seed: Seed = 42
    """keys adapters' start, noise and timesteps; follows seed_everything."""
    revision: _Suffix | None = _free(None)
    """branch, tag or commit of a base on the hub."""
    variant: _Suffix | None = _free(None)
    """suffix of the base's weight files, such as fp16, where they have one."""
    allow_changed_settings: bool = _free(False)
    """go on from a checkpoint although settings of the model differ from those it was trained with;
    those of the config then hold."""
    frozen_dtype: FrozenDtype = "float32"
    """what the frozen weights of UNet and text encoders are held in; half precision halves their
    memory. Adapters, optimiser and VAE are float32 whatever it is. Goes well with trainer.precision
    bf16-mixed (bfloat16) or 16-mixed (float16); images are generated with the same weights."""
    gradient_checkpointing: bool = _free(False)
    """compute activations again in the backward pass instead of keeping them: a third slower, and
    much less memory. Results are the same."""
    optimizer: OptimizerFactory | None = None
    """another optimiser than AdamW, as class_path and init_args, such as
    bitsandbytes.optim.AdamW8bit or prodigyopt.Prodigy; weight_decay and adam_betas are then its own
    init_args, the two learning rates hold."""
    adapter: AdapterKind = "lora"
    """lora (with lora.use_dora: DoRA); lokr, loha or oft; or full, to train the UNet itself (and
    the text encoders) as the paper does. What trains is float32 and is what checkpoints hold.
    lora.dropout and lora's sizes and places are not for full."""

    compile: bool = _free(False)
    """compile the denoiser's repeated blocks at the first step, which takes a minute or more.
    Results differ by rounding. Images are generated with the blocks as they are."""
    cuda_graph: bool = _free(False)
    """on one GPU, record the denoiser's forward and backward pass at the first step and replay it:
    for small batches, whose operations Python cannot launch as fast as the GPU computes them.
    Results differ by rounding. Has no effect with gradient_checkpointing, lora.dropout,
    trainer.accumulate_grad_batches or adapter oft."""

    def __post_init__(self) -> None:
        check_values(type(self), self, "model")

    @property
    def base_spec(self) -> BaseSpec:
        """What to load the base by."""
        return BaseSpec(self.base, self.revision, self.variant, self.frozen_dtype)

    def contract(self) -> dict[str, Any]:
        """Return what a checkpoint must agree with to be continued, in plain types by dotted key.

        Settings that leave the result as it is are not in it. Neither are the adapters' places: the
        weights' names and shapes tell them.

        Raises:
            UserError: the optimizer cannot be made.
        """
        shaping = [own.name for own in fields(self) if own.metadata.get("shapes_training", True)]
        values = {name: getattr(self, name) for name in shaping}
        values["lora"] = asdict(self.lora)
        values["adam_betas"] = list(self.adam_betas)
        values.pop("optimizer")
        flat = flatten(values) | {"optimizer": describe_optimizer(self.optimizer)}
        return {key: value for key, value in flat.items() if not key.endswith("target_modules")}
