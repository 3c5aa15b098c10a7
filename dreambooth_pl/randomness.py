"""Randomness as a function of (seed, purpose, index), never of history.

Each generator that samples a photo, noise or a timestep is keyed by its purpose. A resumed run,
another number of workers or a probe during training therefore changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def stable_hash(*parts: str | int) -> int:
    """Hash `parts` to an integer in [0, 2**63), the same in every process and Python version.

    The hash depends on the type and length of each part: `("ab", "c")` and `("a", "bc")` differ,
    and so do `1` and `"1"`.

    >>> stable_hash("noise", 0) == stable_hash("noise", 0)
    True
    >>> stable_hash("ab", "c") == stable_hash("a", "bc")
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        if not isinstance(part, (str, int)):
            raise TypeError(f"only strings and integers are hashed, not {type(part).__name__}")
        kind = "s" if isinstance(part, str) else "i"
        text = str(int(part)) if kind == "i" else part
        encoded = text.encode("utf-8")
        digest.update(f"{kind}{len(encoded)}:".encode())
        digest.update(encoded)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def generator(seed: int, *parts: str | int) -> torch.Generator:
    """Return a CPU generator keyed by `seed` and `parts`.

    It is always on the CPU, so the numbers do not depend on the device that uses them.

    >>> a = torch.rand(2, generator=generator(42, "noise", 7))
    >>> b = torch.rand(2, generator=generator(42, "noise", 7))
    >>> bool((a == b).all())
    True
    """
    return torch.Generator().manual_seed(stable_hash(seed, *parts))


@contextmanager
def keyed_global_random_state(key: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed PyTorch's global random state inside the context and restore it afterwards.

    This is for layers such as dropout that take no generator.

    Args:
        key: the seed.
        device: a device whose random state is seeded and restored as well.
    """
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(key)
        yield
