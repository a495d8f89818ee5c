import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score

from ensemble.joint import class_names, decode, encode
from ensemble.metrics.scores import expected_calibration_error, score, score_joint

TASKS = {
    "mask": ["wear", "incorrect", "normal"],
    "gender": ["male", "female"],
    "age": ["under 30", "30 to 59", "60 and over"],
}
RADICES = (3, 2, 3)


def noisy(seed: int, samples: int = 200, classes: int = 18) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, samples)
    other = generator.integers(0, classes, samples)
    return truth, np.where(generator.random(samples) < 0.6, truth, other)


def test_figures_are_scikit_learns() -> None:
    truth, predicted = noisy(0)
    truth, predicted = truth[truth != 4], predicted[truth != 4]  # one class without support
    names = class_names(TASKS)
    figures = score(truth, predicted, names)
    assert figures["macro_f1"] == f1_score(truth, predicted, labels=range(18), average="macro", zero_division=0)
    assert figures["accuracy"] == accuracy_score(truth, predicted)
    np.testing.assert_array_equal(figures["confusion"], confusion_matrix(truth, predicted, labels=range(18)))
    report = classification_report(
        truth, predicted, labels=range(18), target_names=names, zero_division=0, output_dict=True
    )
    for each in figures["classes"]:
        theirs = report[each["name"]]
        assert [each["precision"], each["recall"], each["f1"]] == [
            theirs[key] for key in ("precision", "recall", "f1-score")
        ]
        assert each["support"] == theirs["support"]
        assert each["predicted"] == (predicted == names.index(each["name"])).sum()
    assert figures["absent_classes"] == [names[4]]
    assert figures["count"] == len(truth)


def test_absent_classes_count_as_zero_in_the_macro() -> None:
    figures = score(np.array([0, 1]), np.array([0, 1]), TASKS["mask"])
    assert figures["macro_f1"] == pytest.approx(2 / 3)
    assert figures["absent_classes"] == ["normal"]


def test_joint_and_tasks_are_scored_through_the_code_and_ready_for_json() -> None:
    truth, predicted = noisy(1)
    scores = score_joint(truth, predicted, TASKS)
    assert list(scores) == ["joint", "mask", "gender", "age"]
    digits = zip(TASKS, decode(truth, RADICES), decode(predicted, RADICES), strict=True)
    for task, task_truth, task_predicted in digits:
        assert scores[task]["macro_f1"] == f1_score(task_truth, task_predicted, average="macro")
        assert [each["name"] for each in scores[task]["classes"]] == TASKS[task]
    assert json.loads(json.dumps(scores)) == scores


def test_costs_of_the_joint_classes_add_up_to_what_is_lost() -> None:
    scores = score_joint(*noisy(2), TASKS)
    lost = sum(each["joint_cost"] for each in scores["joint"]["classes"])
    assert lost == pytest.approx(1 - scores["joint"]["macro_f1"])


def test_cost_of_a_tasks_class_is_the_joint_score_gained_by_mending_it() -> None:
    truth, predicted = noisy(3)
    scores = score_joint(truth, predicted, TASKS)
    mask, gender, age = decode(predicted, RADICES)
    right_age = decode(truth, RADICES)[2]
    age = np.where(right_age == 2, 2, age)
    mended = f1_score(truth, encode((mask, gender, age), RADICES), average="macro")
    assert scores["age"]["classes"][2]["joint_cost"] == pytest.approx(mended - scores["joint"]["macro_f1"])


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_calibration_error_from_scikit_learns_curve(bins: int) -> None:
    generator = np.random.default_rng(4)
    probabilities = generator.dirichlet([1, 1, 1], 500)
    truth = generator.integers(0, 3, 500)
    confidence = probabilities.max(axis=1)
    accuracy, mean_confidence = calibration_curve(
        probabilities.argmax(axis=1) == truth, confidence, n_bins=bins
    )
    counts = np.histogram(confidence, np.linspace(0, 1, bins + 1))[0]
    expected = np.sum(counts[counts > 0] / 500 * np.abs(accuracy - mean_confidence))
    assert expected_calibration_error(probabilities, truth, bins) == pytest.approx(expected)


def test_calibration_error_of_certain_heads() -> None:
    certain = np.eye(3, dtype=np.float32)
    assert expected_calibration_error(certain, np.array([0, 1, 2])) == 0
    assert expected_calibration_error(certain, np.array([1, 2, 0])) == 1


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([], [], "no samples"),
        ([0, 1], [0], "one length"),
        ([0, 3], [0, 1], r"truth: 3 is out of range, expected 0\.\.2"),
        ([0, 1], [0, -1], "predicted: -1 is out of range"),
        ([0.5, 1], [0, 1], "truth: expected class indices, found float64"),
    ],
)
def test_wrong_input_is_told(truth, predicted, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(np.array(truth), np.array(predicted), TASKS["mask"])


@pytest.mark.parametrize("rows", [[[0.5, 0.6]], [[np.nan, 1.0]], [[-0.5, 1.5]], [0.5, 0.5], [[0.5, 0.5]] * 2])
def test_calibration_refuses_what_is_no_probability(rows) -> None:
    with pytest.raises(ValueError, match="expected probabilities"):
        expected_calibration_error(np.array(rows), np.array([0]))


def test_a_task_cannot_be_called_joint() -> None:
    with pytest.raises(ValueError, match="give it another name"):
        score_joint(np.array([0]), np.array([0]), {"joint": ["a", "b"]})
