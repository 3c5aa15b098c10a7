import pytest
import torch

from dreambooth_pl.adapters import check_finite, first_not_finite
from dreambooth_pl.errors import UserError


def test_the_first_bad_tensor_is_named() -> None:
    good = {"a": torch.zeros(3), "b": torch.ones(2, 2)}
    assert first_not_finite(good) is None
    assert first_not_finite({}) is None
    check_finite(good, "the file")
    for value in (float("nan"), float("inf"), -float("inf")):
        bad = good | {"c": torch.tensor([0.0, value])}
        assert first_not_finite(bad) == "c"
        with pytest.raises(UserError, match="the file is not written: the weights c are not"):
            check_finite(bad, "the file")
