"""Macro F1, confusion matrix and errors are scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from heads.objective.metrics import compute_metrics, confusion_matrix, macro_f1


@pytest.mark.parametrize("classes", [2, 6, 18])
def test_macro_f1_and_confusion_are_scikit_learns(classes: int) -> None:
    generator = np.random.default_rng(classes)
    # The last class is in neither, and one class is never predicted.
    truth, predicted = generator.integers(0, classes - 1, 50), generator.integers(0, max(classes - 2, 1), 50)
    labels = range(classes)
    expected = f1_score(truth, predicted, labels=labels, average="macro", zero_division=0)
    assert macro_f1(truth, predicted, classes) == pytest.approx(expected, abs=1e-15)
    np.testing.assert_array_equal(
        confusion_matrix(truth, predicted, classes), sklearn_confusion_matrix(truth, predicted, labels=labels)
    )


def test_accuracy_is_of_classes_and_the_error_of_numbers() -> None:
    generator = np.random.default_rng(0)
    probabilities, truth = generator.dirichlet(np.ones(3), 50), generator.integers(0, 3, 50)
    expected, values = generator.uniform(0, 100, 50), generator.uniform(0, 100, 50)
    metrics = compute_metrics(probabilities, truth, expected, values)
    assert metrics["accuracy"] == accuracy_score(truth, probabilities.argmax(axis=1))
    assert metrics["mae"] == pytest.approx(mean_absolute_error(values, expected))
    assert "mae" not in compute_metrics(probabilities, truth)
