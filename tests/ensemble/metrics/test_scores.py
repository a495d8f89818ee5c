import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score

from ensemble.joint import class_names, decode, encode
from ensemble.metrics.scores import score, score_joint

TASKS = {"mask": ["wear", "incorrect", "normal"], "gender": ["male", "female"]}
TASKS |= {"age": ["under 30", "30 to 59", "60 and over"]}
RADICES = (3, 2, 3)


def noisy(seed: int, samples: int = 200, classes: int = 18) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, samples)
    other = generator.integers(0, classes, samples)
    return truth, np.where(generator.random(samples) < 0.6, truth, other)


def test_scores_are_scikit_learns() -> None:
    truth, predicted = noisy(0)
    truth, predicted = truth[truth != 4], predicted[truth != 4]  # one class without support
    names, options = class_names(TASKS), {"labels": range(18), "zero_division": 0}
    found = score(truth, predicted, names)
    assert found["macro_f1"] == f1_score(truth, predicted, average="macro", **options)
    present = {"labels": np.unique(truth), "zero_division": 0}
    assert found["macro_f1_present"] == pytest.approx(f1_score(truth, predicted, average="macro", **present))
    assert found["accuracy"] == accuracy_score(truth, predicted)
    np.testing.assert_array_equal(found["confusion"], confusion_matrix(truth, predicted, labels=range(18)))
    report = classification_report(truth, predicted, target_names=names, output_dict=True, **options)
    for each in found["classes"]:
        expected = {"f1" if key == "f1-score" else key: value for key, value in report[each["name"]].items()}
        predictions = (predicted == names.index(each["name"])).sum()
        assert each == {**expected, "name": each["name"], "predicted": predictions}
    assert found["absent_classes"] == [names[4]]
    assert found["count"] == len(truth)


def test_joint_and_tasks_are_scored_through_the_code_with_the_cost_of_each_class() -> None:
    truth, predicted = noisy(1)
    scores = score_joint(truth, predicted, TASKS)
    assert list(scores) == ["joint", "mask", "gender", "age"]
    for task, *classes in zip(TASKS, decode(truth, RADICES), decode(predicted, RADICES), strict=True):
        assert scores[task]["macro_f1"] == f1_score(*classes, average="macro")
        assert [each["name"] for each in scores[task]["classes"]] == TASKS[task]
    joint = scores["joint"]["macro_f1"]
    assert sum(each["joint_cost"] for each in scores["joint"]["classes"]) == pytest.approx(1 - joint)
    mask, gender, age = decode(predicted, RADICES)
    true_age = decode(truth, RADICES)[2]
    corrected = encode((mask, gender, np.where(true_age == 2, 2, age)), RADICES)
    gained = f1_score(truth, corrected, labels=range(18), average="macro") - joint
    assert scores["age"]["classes"][2]["joint_cost"] == pytest.approx(gained)
    assert json.loads(json.dumps(scores)) == scores
    with pytest.raises(ValueError, match="give it another name"):
        score_joint(np.array([0]), np.array([0]), {"joint": ["a", "b"]})


@pytest.mark.parametrize("wrong", [3, -1])
def test_classes_out_of_range_are_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match=r"predicted: found classes .*, expected 0\.\.2"):
        score(np.array([0, 1]), np.array([0, wrong]), TASKS["mask"])
