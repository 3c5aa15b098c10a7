import pytest
import torch

from dreambooth_pl.training.losses import dreambooth_loss, min_snr_weights, per_sample_mse

# Four samples of two values; squared errors by hand: sample means 1, 2.5, 4.5 and 8.
PREDICTION = torch.tensor([[1.0, 1.0], [1.0, 2.0], [3.0, 0.0], [0.0, 4.0]])
TARGET = torch.tensor([[0.0, 2.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
SNR = torch.tensor([0.5, 2.0, 10.0, 20.0])


def test_per_sample_mse_by_hand():
    assert per_sample_mse(PREDICTION, TARGET).tolist() == [1.0, 2.5, 4.5, 8.0]


def test_loss_by_hand():
    loss = dreambooth_loss(PREDICTION, TARGET, num_instance=2, prior_loss_weight=0.5)
    assert loss.instance.item() == 1.75  # (1 + 2.5) / 2
    assert loss.prior.item() == 6.25  # (4.5 + 8) / 2
    assert loss.total.item() == 1.75 + 0.5 * 6.25


def test_loss_without_class_images():
    loss = dreambooth_loss(PREDICTION, TARGET, num_instance=4)
    assert loss.prior is None
    assert loss.total.item() == loss.instance.item() == 4.0


def test_min_snr_weights_by_hand():
    # epsilon: min(snr, 5) / snr; v: min(snr, 5) / (snr + 1)
    epsilon = min_snr_weights(SNR, 5.0, "epsilon")
    torch.testing.assert_close(epsilon, torch.tensor([1.0, 1.0, 0.5, 0.25]))
    velocity = min_snr_weights(SNR, 5.0, "v_prediction")
    expected = torch.tensor([0.5 / 1.5, 2.0 / 3.0, 5.0 / 11.0, 5.0 / 21.0])
    torch.testing.assert_close(velocity, expected)


def test_min_snr_weights_are_finite_without_signal():
    zero = torch.zeros(1)
    assert min_snr_weights(zero, 5.0, "epsilon").item() == 1.0
    assert min_snr_weights(zero, 5.0, "v_prediction").item() == 0.0


def test_min_snr_weighs_each_sample_before_the_split():
    weights = min_snr_weights(SNR, 5.0, "epsilon")  # 1, 1, 1/2, 1/4
    loss = dreambooth_loss(PREDICTION, TARGET, 2, 1.0, weights)
    assert loss.instance.item() == 1.75  # (1 * 1 + 2.5 * 1) / 2
    assert loss.prior.item() == 2.125  # (4.5 / 2 + 8 / 4) / 2: the class samples' own weights
    assert loss.total.item() == 3.875


def test_gradient_of_the_weighted_loss_by_hand():
    prediction = PREDICTION.clone().requires_grad_()
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    dreambooth_loss(prediction, TARGET, 2, 0.5, weights).total.backward()
    # d/dp = lambda * w / (samples of its kind) * 2 (p - t) / (values a sample)
    factor = torch.tensor([1.0, 1.0, 0.5, 0.5]) * weights / 2 * 2 / 2
    torch.testing.assert_close(prediction.grad, factor[:, None] * (PREDICTION - TARGET))


def test_half_precision_predictions_are_compared_in_float32():
    large = torch.full((1, 2), 300.0, dtype=torch.float16)  # 300 squared overflows float16
    assert per_sample_mse(large, torch.zeros(1, 2)).item() == 90000.0


def test_weights_of_another_length_are_refused():
    with pytest.raises(AssertionError):
        dreambooth_loss(PREDICTION, TARGET, 2, 1.0, torch.ones(2))
