import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, log_loss
from torch.nn import functional as F

from heads.objective.calibration import (
    calibrate,
    error_by_confidence,
    expected_calibration_error,
    fit_temperature,
    scale,
)


@pytest.fixture(scope="module")
def head() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [2000, 3] of a head whose logits are twice the calibrated ones, and the truth."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2000, 3)) * 2
    calibrated = torch.from_numpy(logits).softmax(dim=1).numpy()
    truth = np.array([generator.choice(3, p=row) for row in calibrated])
    return torch.from_numpy(2 * logits).softmax(dim=1).numpy(), truth


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_calibration_error_is_that_of_scikit_learns_curve(head: tuple, bins: int) -> None:
    probabilities, truth = head
    error, found = expected_calibration_error(probabilities, truth, bins)
    confidence = probabilities.max(axis=1)
    accuracy, means = calibration_curve(probabilities.argmax(axis=1) == truth, confidence, n_bins=bins)
    counts = np.histogram(confidence, np.linspace(0, 1, bins + 1))[0]
    np.testing.assert_allclose(found.accuracy, accuracy)
    np.testing.assert_allclose(found.confidence, means)
    assert found.count == counts[counts > 0].tolist()
    assert error == pytest.approx(np.average(np.abs(accuracy - means), weights=found.count))


def test_bins_are_closed_on_the_right_and_certain_heads_are_calibrated_or_not() -> None:
    on_an_edge = np.array([[0.8, 0.2], [0.9, 0.1]])
    assert expected_calibration_error(on_an_edge, np.array([0, 0]), bins=5)[1].confidence == [0.8, 0.9]
    certain = np.eye(3, dtype=np.float32)
    assert expected_calibration_error(certain, np.array([0, 1, 2]))[0] == 0
    assert expected_calibration_error(certain, np.array([1, 2, 0]))[0] == 1


def test_rows_that_are_no_probabilities_are_refused() -> None:
    for row in ([0.5, 0.6], [np.nan, 1.0], [-0.5, 1.5]):
        with pytest.raises(ValueError, match="expected probabilities"):
            expected_calibration_error(np.array([row]), np.array([0]))


def test_scaling_is_the_softmax_of_divided_logits() -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]], dtype=torch.float64)
    expected = F.softmax(logits / 1.7, dim=1).numpy()
    np.testing.assert_allclose(scale(logits.softmax(dim=1).numpy(), 1.7), expected)


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 3.0, 20.0])
def test_calibrated_probabilities_are_scaled_and_of_the_same_class(temperature: float, head: tuple) -> None:
    tie = np.float32([[0.3333333, 0.3333334, 0.3333333], [0.25, 0.375, 0.375]])  # an ulp apart, and equal
    probabilities = np.concatenate([head[0].astype(np.float32), tie])
    found = calibrate(probabilities, temperature)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, scale(probabilities, temperature), rtol=1e-6, atol=1e-30)
    np.testing.assert_array_equal(found.argmax(axis=1), probabilities.argmax(axis=1))


def test_the_fitted_temperature_has_the_least_log_loss_and_undoes_overconfidence(head: tuple) -> None:
    probabilities, truth = head
    temperature = fit_temperature(probabilities, truth)
    assert temperature == pytest.approx(2, rel=0.05)
    best = log_loss(truth, scale(probabilities, temperature))
    for other in (0.98, 1.02):
        assert log_loss(truth, scale(probabilities, temperature * other)) > best
    before, after = (expected_calibration_error(p, truth)[0] for p in (probabilities, scale(probabilities, 2)))
    assert after < before / 3
    always_right = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature(always_right, np.array([0, 1])) == 1


def test_the_error_of_the_most_confident_is_one_minus_their_accuracy(head: tuple) -> None:
    probabilities, truth = head
    confidence, answers = probabilities.max(axis=1), probabilities.argmax(axis=1)
    coverage, error = error_by_confidence(confidence, answers != truth)
    assert coverage[-1] == 1
    for place in (99, 999, 1999):
        sure = confidence >= np.sort(confidence)[::-1][place]
        assert coverage[place] == pytest.approx(sure.mean())
        assert error[place] == pytest.approx(1 - accuracy_score(truth[sure], answers[sure]))
    coverage, error = error_by_confidence(np.array([0.9, 0.9, 0.5]), np.array([True, False, False]))
    assert coverage.tolist() == pytest.approx([2 / 3, 2 / 3, 1])  # equal confidence counts together
    assert error.tolist() == pytest.approx([0.5, 0.5, 1 / 3])
