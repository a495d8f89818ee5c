import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from ensemble.joint import decode
from ensemble.metrics.bootstrap import (
    accuracy,
    draw_weights,
    interval,
    resampled_confusions,
    task_confusions,
)
from heads.objective.metrics import macro_f1_of_confusion

RADICES = (3, 2, 3)
CODES = 18


@pytest.fixture
def codes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(truth, predicted, groups) of 70 images of 10 people; some classes never occur."""
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 12, 70)
    return truth, np.where(generator.random(70) < 0.6, truth, generator.integers(0, 15, 70)), np.arange(70) // 7


def test_scores_of_a_confusion_matrix_are_scikit_learns(codes: tuple) -> None:
    truth, predicted, _ = codes
    joint = confusion_matrix(truth, predicted, labels=range(CODES)).astype(float)
    kinds = {"average": "macro", "zero_division": 0}
    assert macro_f1_of_confusion(joint) == pytest.approx(
        f1_score(truth, predicted, labels=range(CODES), **kinds)
    )
    assert accuracy(joint) == pytest.approx(accuracy_score(truth, predicted))
    for place, radix in enumerate(RADICES):
        digits = decode(truth, RADICES)[place], decode(predicted, RADICES)[place]
        expected = confusion_matrix(*digits, labels=range(radix))
        np.testing.assert_array_equal(task_confusions(joint, RADICES, place), expected)


def test_a_resample_is_scikit_learns_score_with_each_person_weighted_by_their_draws(codes: tuple) -> None:
    truth, predicted, groups = codes
    generators = [np.random.default_rng(5) for _ in range(2)]
    [drawn, other] = resampled_confusions(truth, [predicted, truth], CODES, groups, generators[0], draws=6)
    assert drawn.shape == (6, CODES, CODES)
    weights = draw_weights(np.ones(10, int), 6, generators[1])
    for scores, each in zip(macro_f1_of_confusion(drawn), weights, strict=True):
        expected = f1_score(
            truth,
            predicted,
            labels=range(CODES),
            average="macro",
            sample_weight=each[groups],
            zero_division=0,
        )
        assert scores == pytest.approx(expected)
    np.testing.assert_array_equal(accuracy(other), 1)


def test_resampling_by_person_gives_a_wider_interval_where_images_go_wrong_together() -> None:
    people = np.repeat(np.arange(40), 7)
    truth = np.zeros(280, dtype=int)
    predicted = (people % 4 == 0).astype(int)  # all seven of every fourth person

    def width(groups: np.ndarray) -> float:
        [drawn] = resampled_confusions(truth, [predicted], 2, groups, np.random.default_rng(0), draws=500)
        low, high = interval(accuracy(drawn))
        assert low < 0.75 < high
        return high - low

    assert width(people) / width(np.arange(280)) == pytest.approx(np.sqrt(7), rel=0.15)


def test_images_with_the_same_answers_are_drawn_as_often_as_one_by_one(codes: tuple) -> None:
    truth, predicted, _ = codes
    alone = np.arange(70)
    [found] = resampled_confusions(truth, [predicted], CODES, alone, np.random.default_rng(0), draws=2000)
    assert (found.sum(axis=(1, 2)) == 70).all()
    generator = np.random.default_rng(1)
    drawn = [generator.integers(0, 70, 70) for _ in range(2000)]
    expected = [accuracy_score(truth[rows], predicted[rows]) for rows in drawn]
    assert accuracy(found).mean() == pytest.approx(np.mean(expected), abs=0.005)
    assert accuracy(found).std() == pytest.approx(np.std(expected), rel=0.06)
