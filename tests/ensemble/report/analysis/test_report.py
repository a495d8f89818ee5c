"""Figures of a report against scikit-learn's and pandas' on the same CSV files, and counted by hand."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from ensemble.metrics.calibration import scale
from ensemble.metrics.scores import expected_calibration_error, score_joint
from ensemble.report.analysis.calibration import views_effects
from ensemble.report.analysis.costs import error_causes, scores_if_right
from ensemble.report.analysis.errors import error_groups, hardest, number_errors
from ensemble.report.analysis.mistakes import mistakes
from ensemble.report.analysis.report import Report, to_json
from ensemble.report.load.evaluation import Evaluation, Number
from tests.ensemble.report.conftest import TASKS, World


def macro(truth: np.ndarray, answers: np.ndarray, classes: int) -> float:
    return f1_score(truth, answers, labels=range(classes), average="macro", zero_division=0)


def digits(codes: pd.Series) -> dict[str, np.ndarray]:
    return {"mask": codes.to_numpy() // 3, "age": codes.to_numpy() % 3}


def test_scores_are_scikit_learns_on_the_same_files(world: World, findings: Report) -> None:
    read = pd.read_csv(world.folder / "answers.csv").merge(pd.read_csv(world.folder / "a.csv"), on="ImageID")
    pairs = {"joint": (read["ans_x"].to_numpy(), read["ans_y"].to_numpy(), 6)}
    for task, names in TASKS.items():
        pairs[task] = (digits(read["ans_x"])[task], digits(read["ans_y"])[task], len(names))
    for part, (truth, answers, classes) in pairs.items():
        found = findings.scores[part]
        assert found["macro_f1"] == pytest.approx(macro(truth, answers, classes))
        assert found["accuracy"] == pytest.approx(accuracy_score(truth, answers))
        np.testing.assert_array_equal(
            found["confusion"], confusion_matrix(truth, answers, labels=range(classes))
        )
        columns = precision_recall_fscore_support(truth, answers, labels=range(classes), zero_division=0)
        for key, column in zip(("precision", "recall", "f1", "support"), columns, strict=True):
            assert [each[key] for each in found["classes"]] == pytest.approx(column.tolist())
        for metric in ("macro_f1", "accuracy"):
            low, high = found[f"{metric}_interval"]
            assert low < found[metric] < high


def test_intervals_are_percentiles_of_scikit_learns_scores_of_redrawn_people(
    world: World, findings: Report
) -> None:
    generator = np.random.default_rng(0)
    people = [rows.index.to_numpy() for _, rows in world.table.groupby("person")]
    drawn = []
    for _ in range(400):
        rows = np.concatenate([people[each] for each in generator.integers(0, 12, 12)])
        drawn.append(accuracy_score(world.table["ans"][rows], world.table["given"][rows]))
    expected = np.percentile(drawn, [2.5, 97.5])
    assert findings.resampled == "person"
    assert findings.scores["joint"]["accuracy_interval"] == pytest.approx(expected, abs=0.04)


def test_causes_and_what_is_reached_if_one_head_were_right(world: World, findings: Report) -> None:
    truth, answers = digits(world.table["ans"]), digits(world.table["given"])
    wrong = pd.DataFrame({task: truth[task] != answers[task] for task in TASKS})
    counts = wrong[wrong.any(axis=1)].value_counts()
    found = {cause.tasks: cause.count for cause in findings.causes}
    assert found == {
        ("mask",): counts[(True, False)],
        ("age",): counts[(False, True)],
        ("mask", "age"): counts[(True, True)],
    }
    assert sum(cause.share for cause in findings.causes) == pytest.approx(1)
    for task, mended in (
        ("mask", truth["mask"] * 3 + answers["age"]),
        ("age", answers["mask"] * 3 + truth["age"]),
    ):
        assert findings.scores_if_right[task] == pytest.approx(macro(world.table["ans"], mended, 6))
    worst = max(findings.scores_if_right, key=findings.scores_if_right.__getitem__)
    assert findings.costliest.startswith(f"{worst} costs most: were it always right, joint macro F1 would be ")


def test_causes_by_hand(small: Evaluation) -> None:
    assert [(cause.name, cause.count, cause.share) for cause in error_causes(small)] == [
        ("mask only", 1, 0.5),
        ("mask and age", 1, 0.5),
    ]
    assert scores_if_right(small)["age"] == pytest.approx(macro(small.truth, np.array([0, 4, 2, 4]), 6))


def test_group_errors_are_pandas_means(world: World, findings: Report) -> None:
    table = world.table.assign(
        mask=np.array(TASKS["mask"])[digits(world.table["ans"])["mask"]],
        group=np.array(TASKS["age"])[digits(world.table["ans"])["age"]],
        wrong=world.table["ans"] != world.table["given"],
    )
    by_one = {tuple(group.parts.items()): group for group in findings.groups[1]}
    for name, rows in table.groupby("mask"):
        group = by_one[("mask", name),]
        assert (group.count, group.people) == (len(rows), rows["person"].nunique())
        assert group.errors["joint"] == pytest.approx(rows["wrong"].mean())
    pairs = {tuple(group.parts.values()): group for group in findings.groups[2]}
    for names, rows in table.groupby(["mask", "group"]):
        assert pairs[names].errors["joint"] == pytest.approx(rows["wrong"].mean())
    for low, high in ((20, 30), (30, 40), (60, 70)):
        rows = table[table["age"].between(low, high - 1)]
        assert by_one[("age by tens", f"{low} to {high}"),].errors["joint"] == pytest.approx(
            rows["wrong"].mean()
        )
    errors = [group.errors["joint"] for group in findings.groups[2]]
    assert errors == sorted(errors, reverse=True)


def test_bins_of_years_end_at_the_borders_and_unknown_ones_are_left_out(small: Evaluation) -> None:
    names = {group.name: group.count for group in error_groups(small)[1] if "age by tens" in group.parts}
    assert names == {"20 to 30": 1, "30 to 40": 1, "70 to 80": 1}
    errors = number_errors(small, small.numbers[0])
    assert sum(group.count for group in errors.bins) == 3
    assert [(group.name, group.count, group.errors["joint"]) for group in errors.near] == [
        ("less than 2", 2, 0.5),
        ("10 and more", 1, 1.0),
    ]


def test_a_number_that_two_tasks_are_cut_from_is_set_beside_neither(small: Evaluation) -> None:
    number = Number("age", {"age": [30, 60], "mask": [75]}, np.array([29, 30, 71, 76]))
    shared = replace(small, numbers=[number])
    groups = error_groups(shared)
    bands = [group.name for group in groups[1] if "age by tens" in group.parts]
    assert sorted(bands) == ["20 to 30", "30 to 40", "70 to 75", "75 to 80"]
    assert not [group for group in groups[2] if "age by tens" in group.parts]
    near = number_errors(shared, number).near
    assert [(group.name, group.count) for group in near] == [("less than 2", 3), ("2 to 5", 1)]


@pytest.mark.parametrize("years", [[29, 30, 60, np.nan], [20, 60, 60, 60], [60, 60, np.nan, 60]])
def test_every_known_number_is_in_a_bin(small: Evaluation, years: list[float]) -> None:
    errors = number_errors(small, Number("age", {"age": [30, 60]}, np.array(years)))
    of = zip(errors.low, errors.high, errors.bins, strict=True)
    assert all(group.count == sum(low <= age < high for age in years) for low, high, group in of)
    assert sum(group.count for group in errors.bins) == np.isfinite(years).sum()


def test_one_number_alone_has_a_bin_of_its_own(small: Evaluation) -> None:
    errors = number_errors(small, Number("age", {"age": [30, 60]}, np.array([25, 25, np.nan, 25])))
    assert [(group.name, group.count) for group in errors.bins] == [("25 to 26", 3)]
    assert (errors.low, errors.high) == ([25.0], [26.0])


def test_the_hardest_group_has_enough_images(small: Evaluation) -> None:
    groups = error_groups(small)[1]
    assert hardest(groups, "age", fewest=5) is None
    worst = hardest(groups, "mask", fewest=2)
    assert worst is not None
    assert worst.errors["mask"] == max(group.errors["mask"] for group in groups if group.count >= 2)


def test_calibration_before_and_after_is_scikit_learns(world: World, findings: Report) -> None:
    truth = digits(world.table["ans"])
    for task, temperature in (("mask", 1.3), ("age", 0.8)):
        found = findings.calibrations[task]
        scaled = scale(world.heads[task], temperature)
        for head, bins in ((world.heads[task], found.before), (scaled, found.after)):
            right = head.argmax(1) == truth[task]
            accuracy, confidence = calibration_curve(right, head.max(1), n_bins=15)
            assert bins is not None
            np.testing.assert_allclose(bins.accuracy, accuracy)
            np.testing.assert_allclose(bins.confidence, confidence, rtol=1e-6)
        assert found.error == pytest.approx(expected_calibration_error(world.heads[task], truth[task]))
        assert found.error_scaled == pytest.approx(expected_calibration_error(scaled, truth[task]))


def test_confidence_curves_end_at_the_error_of_all(world: World, findings: Report) -> None:
    for part, curve in findings.curves.items():
        assert curve.kept[-1] == 1
        assert curve.error[-1] == pytest.approx(1 - findings.scores[part]["accuracy"])


def test_what_the_views_did_is_counted(world: World, findings: Report) -> None:
    truth = digits(world.table["ans"])
    for task, names in TASKS.items():
        plain, merged = world.plain[task].argmax(1), world.heads[task].argmax(1)
        right = pd.crosstab(plain == truth[task], merged == truth[task])
        found = findings.views[task]
        assert (found.better, found.worse) == (right.loc[False, True], right.loc[True, False])
        assert found.changed == (plain != merged).sum()
        assert found.plain == pytest.approx(macro(truth[task], plain, len(names)))
    joint = findings.views["joint"]
    assert joint.plain == pytest.approx(macro(world.table["ans"], world.table["other"], 6))
    difference = findings.views_difference
    assert difference is not None
    assert difference["joint"]["macro_f1"].value == pytest.approx(joint.merged - joint.plain)


def test_views_by_hand(small: Evaluation) -> None:
    effects, _ = views_effects(small)
    mask, joint = effects["mask"], effects["joint"]
    assert (mask.changed, mask.better, mask.worse) == (2, 0, 2)
    assert (joint.changed, joint.better, joint.worse) == (3, 1, 1)


def test_differences_are_paired_and_disagreements_listed(world: World, findings: Report) -> None:
    compared = findings.comparison
    [difference] = compared.differences
    expected = macro(world.table["ans"], world.table["given"], 6) - macro(
        world.table["ans"], world.table["other"], 6
    )
    estimate = difference.estimates["joint"]["macro_f1"]
    assert estimate.value == pytest.approx(expected)
    assert estimate.low < estimate.value < estimate.high
    apart = world.table["given"] != world.table["other"]
    assert sorted(compared.rows) == np.flatnonzero(apart).tolist()
    one_right = (world.table["given"] == world.table["ans"]) | (world.table["other"] == world.table["ans"])
    assert [bool(one_right[row]) for row in compared.rows] == sorted(one_right[apart], reverse=True)


def test_wrong_answers_come_surest_first_with_their_probabilities(world: World, findings: Report) -> None:
    wrong = world.table[world.table["ans"] != world.table["given"]]
    sure = world.heads["mask"].max(1).astype(float) * world.heads["age"].max(1)
    expected = wrong.iloc[np.argsort(-sure[wrong.index], kind="stable")]
    assert [each.image for each in findings.mistakes] == expected["ImageID"].tolist()
    first, row = findings.mistakes[0], expected.index[0]
    assert first.confidence == pytest.approx(sure[row])
    assert list(first.heads[1].probabilities.values()) == pytest.approx(world.heads["age"][row].tolist())
    assert first.known == [("age", str(world.table["age"][row])), ("person", world.table["person"][row])]


def test_without_probabilities_wrong_answers_keep_the_order_of_the_answers(small: Evaluation) -> None:
    bare = Evaluation(small.tasks, small.ids, small.truth, small.submissions)
    assert [(each.image, each.confidence) for each in mistakes(bare)] == [("b", None), ("c", None)]
    assert mistakes(small)[0].heads[0].wrong


def test_json_has_the_scores_at_the_top_and_can_be_written(world: World, findings: Report) -> None:
    read = json.loads(json.dumps(to_json(findings), allow_nan=False))
    expected = score_joint(world.table["ans"].to_numpy(), world.table["given"].to_numpy(), TASKS)
    for part, figures in expected.items():
        assert read[part].items() >= figures.items()
    assert set(read) == {*expected, "findings"}
    assert read["findings"]["resampled_by"] == "person"
    assert len(read["findings"]["comparison"]["disagree"]) == len(findings.comparison.rows)
