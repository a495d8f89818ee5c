"""Figures are scikit-learn's, and looking at a head does not change it."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error
from torch import nn

from data.dataset import Sample
from heads.objective.targets import Target
from heads.train.validation import Predictions, compute_metrics, eval_mode, predict

MASK = Target("mask", ("wear", "incorrect", "normal"))
AGE = Target("age", ("under 30", "30 to 59", "60 and over"), (30.0, 60.0), (0, 100), 3.0)


def random_predictions(rows: int = 50) -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(rng.dirichlet(np.ones(3), rows).astype(np.float32), rng.uniform(0, 100, rows))


def test_figures_are_scikit_learns() -> None:
    predictions, rng = random_predictions(), np.random.default_rng(1)
    indices, years = rng.integers(0, 3, 50), rng.uniform(0, 100, 50)
    answers = predictions.probabilities.argmax(axis=1)
    assert compute_metrics(predictions, indices, years) == pytest.approx(
        {
            "macro_f1": f1_score(indices, answers, average="macro"),
            "accuracy": accuracy_score(indices, answers),
            "mae": mean_absolute_error(years, predictions.expected),
        }
    )


def test_a_class_that_nobody_has_or_is_told_counts_as_zero() -> None:
    found = compute_metrics(
        Predictions(np.eye(3, dtype=np.float32)[[0, 0, 1]], None), np.array([0, 0, 1]), None
    )
    assert found == {"macro_f1": pytest.approx(2 / 3), "accuracy": 1.0}


def test_batches_are_put_together_in_their_order() -> None:
    pixels = torch.randn(7, 3)
    found = predict(nn.Identity(), MASK, [Sample([part], part, "") for part in (pixels[:4], pixels[4:])])
    assert np.allclose(found.probabilities, pixels.softmax(dim=1).numpy())
    assert found.expected is None


def test_a_distribution_also_predicts_its_number() -> None:
    logits = AGE.encode(pd.DataFrame({"path": ["a", "b"], "age": [25.0, 61.0]})).log()
    found = predict(nn.Identity(), AGE, [Sample([logits], logits, "")])
    assert found.expected == pytest.approx([25.0, 61.0], abs=1e-3)
    assert found.probabilities.argmax(axis=1).tolist() == [0, 2]


@pytest.mark.parametrize("training", [True, False])
def test_predicting_leaves_mode_and_statistics_as_they_were(training: bool) -> None:
    head = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train(training)
    before = {key: tensor.clone() for key, tensor in head.state_dict().items()}
    pixels = torch.randn(8, 3)
    first, second = (predict(head, MASK, [Sample([pixels], pixels, "")]).probabilities for _ in range(2))
    assert np.array_equal(first, second)
    assert [module.training for module in head.modules()] == [training] * 3
    assert all(torch.equal(tensor, before[key]) for key, tensor in head.state_dict().items())


def test_an_error_on_the_way_still_gives_the_mode_back() -> None:
    head = nn.Dropout()

    def fails(pixels: torch.Tensor) -> None:
        assert not head.training
        raise ZeroDivisionError

    head.forward = fails
    with pytest.raises(ZeroDivisionError), eval_mode(head):
        head(torch.zeros(1, 3))
    assert head.training
