"""What tells one adapter's images from another's."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file, save_file

from dreambooth_pl.evaluation.run_images import weights_hash


def rewrite(path, target, header):
    """Write the same weights under a header in the order given, as safetensors lays files out."""
    content = path.read_bytes()
    text = json.dumps(header).encode()
    rest = content[8 + int.from_bytes(content[:8], "little") :]
    target.write_bytes(len(text).to_bytes(8, "little") + text + rest)


def test_the_order_of_a_header_does_not_matter(tmp_path):
    first, second, third = (tmp_path / f"{n}.safetensors" for n in range(3))
    weights = {"a": torch.arange(4.0), "b": torch.ones(2)}
    save_file(weights, first, {"format": "pt", "rank": "4"})
    content = first.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])

    rewrite(first, second, dict(reversed(header.items())))
    assert torch.equal(load_file(second)["a"], weights["a"])  # it is such a file
    assert second.read_bytes() != content
    assert weights_hash(second) == weights_hash(first)

    rewrite(first, third, header | {"__metadata__": {"format": "pt", "rank": "8"}})
    assert weights_hash(third) != weights_hash(first)
    save_file(weights | {"b": torch.zeros(2)}, third, {"format": "pt", "rank": "4"})
    assert weights_hash(third) != weights_hash(first)
