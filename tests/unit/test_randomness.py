import subprocess
import sys

import torch

from dreambooth_pl.randomness import generator, keyed_global_random_state, stable_hash


def test_stable_hash_is_the_same_in_another_process():
    code = "from dreambooth_pl.randomness import stable_hash; print(stable_hash('noise', 42, 'ä'))"
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
    )
    assert int(other.stdout) == stable_hash("noise", 42, "ä")


def test_stable_hash_keeps_its_value():
    # The first 63 bits of sha256sum of "s5:noisei2:42". A change would change every run's noise.
    assert stable_hash("noise", 42) == 707197133077209566


def test_stable_hash_separates_parts_and_types():
    parts = [("ab", "c"), ("a", "bc"), ("abc",), (1,), ("1",), (1, 2), (12,), (-1,), ()]
    hashes = [stable_hash(*part) for part in parts]
    assert len(set(hashes)) == len(parts)
    assert all(0 <= value < 2**63 for value in hashes)


def test_generators_depend_on_their_key_only():
    expected = torch.randn(4, generator=generator(1, "noise", 5))
    torch.manual_seed(99)
    generator(1, "noise", 4)
    torch.testing.assert_close(
        torch.randn(4, generator=generator(1, "noise", 5)), expected, rtol=0, atol=0
    )
    others = [generator(2, "noise", 5), generator(1, "noise", 6), generator(1, "view", 5)]
    assert not any(torch.equal(torch.randn(4, generator=other), expected) for other in others)


def test_keyed_global_random_state_seeds_and_restores():
    torch.manual_seed(3)
    expected_after = torch.rand(2)
    torch.manual_seed(3)
    with keyed_global_random_state(11):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected_after)
    torch.manual_seed(11)
    assert torch.equal(torch.rand(2), inside)
