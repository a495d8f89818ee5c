import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, log_loss
from torch.nn import functional as F

from ensemble.metrics.calibration import error_by_confidence, fit_temperature, reliability, scale
from ensemble.metrics.scores import expected_calibration_error


@pytest.fixture
def head() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [2000, 3] of a head twice too sure of itself, and the truth."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2000, 3)) * 2
    calibrated = torch.from_numpy(logits).softmax(dim=1).numpy()
    truth = np.array([generator.choice(3, p=row) for row in calibrated])
    return torch.from_numpy(2 * logits).softmax(dim=1).numpy(), truth


def test_reliability_is_scikit_learns_curve_and_the_calibration_error(head: tuple) -> None:
    probabilities, truth = head
    found = reliability(probabilities, truth)
    right = probabilities.argmax(axis=1) == truth
    accuracy, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=15)
    np.testing.assert_allclose(found.accuracy, accuracy)
    np.testing.assert_allclose(found.confidence, confidence)
    gaps = np.abs(np.subtract(found.accuracy, found.confidence))
    expected = np.average(gaps, weights=found.count)
    assert expected_calibration_error(probabilities, truth) == pytest.approx(expected)


def test_scaling_is_the_softmax_of_divided_logits() -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]], dtype=torch.float64)
    expected = F.softmax(logits / 1.7, dim=1).numpy()
    np.testing.assert_allclose(scale(logits.softmax(dim=1).numpy(), 1.7), expected)


def test_the_fitted_temperature_has_the_least_log_loss_and_undoes_what_was_too_sure(head: tuple) -> None:
    probabilities, truth = head
    temperature = fit_temperature(probabilities, truth)
    assert temperature == pytest.approx(2, rel=0.05)
    best = log_loss(truth, scale(probabilities, temperature))
    for other in (0.98, 1.02):
        assert log_loss(truth, scale(probabilities, temperature * other)) > best
    after = expected_calibration_error(scale(probabilities, temperature), truth)
    assert after < expected_calibration_error(probabilities, truth) / 3


def test_a_head_that_is_always_right_may_be_as_sure_as_can_be() -> None:
    assert fit_temperature(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])) == pytest.approx(0.05)


def test_the_error_of_the_surest_is_one_minus_their_accuracy(head: tuple) -> None:
    probabilities, truth = head
    confidence, answers = probabilities.max(axis=1), probabilities.argmax(axis=1)
    kept, error = error_by_confidence(confidence, answers != truth)
    assert kept[-1] == 1
    for place in (99, 999, 1999):
        sure = confidence >= np.sort(confidence)[::-1][place]
        assert kept[place] == pytest.approx(sure.mean())
        assert error[place] == pytest.approx(1 - accuracy_score(truth[sure], answers[sure]))


def test_equally_sure_answers_count_together() -> None:
    kept, error = error_by_confidence(np.array([0.9, 0.9, 0.5]), np.array([True, False, False]))
    assert kept.tolist() == pytest.approx([2 / 3, 2 / 3, 1])
    assert error.tolist() == pytest.approx([0.5, 0.5, 1 / 3])
