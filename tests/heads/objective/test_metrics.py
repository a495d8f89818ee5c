"""Macro F1 is scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from sklearn.metrics import f1_score

from heads.objective.metrics import confusion_matrix, macro_f1


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
