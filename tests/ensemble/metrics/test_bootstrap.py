import numpy as np
import pytest
from sklearn.metrics import f1_score

from ensemble.metrics.bootstrap import draw_weights, interval, resampled_confusions
from ensemble.metrics.scores import accuracy_of_confusion
from heads.objective.metrics import macro_f1_of_confusion

CODES = 18


@pytest.fixture
def codes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(truth, predicted, groups) of 70 images of 10 people; some classes never occur."""
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 12, 70)
    return truth, np.where(generator.random(70) < 0.6, truth, generator.integers(0, 15, 70)), np.arange(70) // 7


def test_a_resample_is_scikit_learns_score_with_each_person_weighted_by_their_draws(codes: tuple) -> None:
    truth, predicted, groups = codes
    generators = [np.random.default_rng(5) for _ in range(2)]
    drawn, other = resampled_confusions(truth, [predicted, truth], CODES, groups, generators[0], draws=6)
    weights = draw_weights(np.ones(10, int), 6, generators[1])
    options = {"labels": range(CODES), "average": "macro", "zero_division": 0}
    expected = [f1_score(truth, predicted, sample_weight=each[groups], **options) for each in weights]
    assert macro_f1_of_confusion(drawn) == pytest.approx(expected)
    np.testing.assert_array_equal(accuracy_of_confusion(other), 1)


def test_resampling_by_person_gives_a_wider_interval_where_images_go_wrong_together() -> None:
    people = np.repeat(np.arange(40), 7)
    truth = np.zeros(280, dtype=int)
    predicted = (people % 4 == 0).astype(int)  # all seven of every fourth person

    def width(groups: np.ndarray) -> float:
        [drawn] = resampled_confusions(truth, [predicted], 2, groups, np.random.default_rng(0), draws=500)
        low, high = interval(accuracy_of_confusion(drawn))
        assert low < 0.75 < high
        return high - low

    assert width(people) / width(np.arange(280)) == pytest.approx(np.sqrt(7), rel=0.15)


def test_images_in_one_cell_are_drawn_as_often_as_one_by_one(codes: tuple) -> None:
    truth, predicted, _ = codes
    alone = np.arange(70)
    [found] = resampled_confusions(truth, [predicted], CODES, alone, np.random.default_rng(0), draws=2000)
    assert (found.sum(axis=(1, 2)) == 70).all()
    rows = np.random.default_rng(1).integers(0, 70, (2000, 70))
    expected = (truth[rows] == predicted[rows]).mean(axis=1)
    assert accuracy_of_confusion(found).mean() == pytest.approx(expected.mean(), abs=0.005)
    assert accuracy_of_confusion(found).std() == pytest.approx(expected.std(), rel=0.06)
