import pytest
import torch

from dreambooth_pl.training.losses import combine_losses, per_sample_mse

# Four samples of two values; squared errors by hand: sample means 1, 2.5, 4.5 and 8.
PREDICTION = torch.tensor([[1.0, 1.0], [1.0, 2.0], [3.0, 0.0], [0.0, 4.0]])
TARGET = torch.tensor([[0.0, 2.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
LOSSES = torch.tensor([1.0, 2.5, 4.5, 8.0])


def test_per_sample_mse_by_hand():
    assert per_sample_mse(PREDICTION, TARGET).tolist() == [1.0, 2.5, 4.5, 8.0]


def test_loss_by_hand():
    loss = combine_losses(LOSSES, num_instance=2, prior_loss_weight=0.5)
    assert loss.instance.item() == 1.75  # (1 + 2.5) / 2
    assert loss.prior.item() == 6.25  # (4.5 + 8) / 2
    assert loss.total.item() == 1.75 + 0.5 * 6.25


def test_loss_without_class_images():
    loss = combine_losses(LOSSES, num_instance=4)
    assert loss.prior is None
    assert loss.total.item() == loss.instance.item() == 4.0


def test_weights_count_before_the_split():
    weights = torch.tensor([1.0, 1.0, 0.5, 0.25])
    loss = combine_losses(LOSSES * weights, 2, 1.0)
    assert loss.instance.item() == 1.75  # (1 * 1 + 2.5 * 1) / 2
    assert loss.prior.item() == 2.125  # (4.5 / 2 + 8 / 4) / 2: the class samples' own weights
    assert loss.total.item() == 3.875


def test_gradient_of_the_weighted_loss_by_hand():
    prediction = PREDICTION.clone().requires_grad_()
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    combine_losses(per_sample_mse(prediction, TARGET) * weights, 2, 0.5).total.backward()
    # d/dp = lambda * w / (samples of its kind) * 2 (p - t) / (values a sample)
    factor = torch.tensor([1.0, 1.0, 0.5, 0.5]) * weights / 2 * 2 / 2
    torch.testing.assert_close(prediction.grad, factor[:, None] * (PREDICTION - TARGET))


def test_half_precision_predictions_are_compared_in_float32():
    large = torch.full((1, 2), 300.0, dtype=torch.float16)  # 300 squared overflows float16
    assert per_sample_mse(large, torch.zeros(1, 2)).item() == 90000.0


@pytest.mark.parametrize("count", [0, 5])
def test_a_batch_without_instance_samples_is_refused(count):
    with pytest.raises(ValueError, match=f"{count} instance samples in a batch of 4"):
        combine_losses(LOSSES, count)
