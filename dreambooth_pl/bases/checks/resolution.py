"""Whether images are of a size that a base can make."""

from __future__ import annotations

from dreambooth_pl.bases.base import Base
from dreambooth_pl.errors import UserError

_LARGEST = 4
"""Times the side that a denoiser was made for, beyond which its images fall apart. Memory goes with
the fourth power of the side."""


def check_resolution(base: Base, resolution: int | None, key: str) -> None:
    """Check that images are not far larger than those that the base was made for.

    Args:
        base: the base.
        resolution: side of images in pixels; None for the base's own.
        key: where it was set, for the message.

    Raises:
        UserError: it is.
    """
    if resolution is not None and resolution > _LARGEST * base.resolution:
        raise UserError(
            f"{key}: {resolution} px is more than {_LARGEST} times the {base.resolution} px that "
            f"{base.name!r} was made for. Take {base.resolution}, or a base for larger images."
        )
