"""Results of a report against scikit-learn and pandas on the same CSV files, and counted by hand."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from ensemble.metrics.calibration import expected_calibration_error, scale
from ensemble.metrics.scores import score_joint
from ensemble.report.analysis.calibration import views_effects
from ensemble.report.analysis.errors import (
    error_causes,
    error_groups,
    hardest,
    number_errors,
    wrong_predictions,
)
from ensemble.report.analysis.report import Report, to_json
from ensemble.report.load.evaluation import Evaluation, NumericLabel
from tests.ensemble.report.conftest import TASKS, World


def macro(truth: pd.Series, answers: pd.Series) -> float:
    return f1_score(truth, answers, labels=range(6), average="macro", zero_division=0)


def test_json_has_the_scores_of_the_files_at_the_top(world: World, report: Report) -> None:
    found = json.loads(json.dumps(to_json(report), allow_nan=False))
    read = pd.read_csv(world.folder / "answers.csv").merge(pd.read_csv(world.folder / "a.csv"), on="ImageID")
    expected = score_joint(read["ans_x"].to_numpy(), read["ans_y"].to_numpy(), TASKS)
    for part, scores in expected.items():
        assert found[part].items() >= scores.items()
        for metric in ("macro_f1", "accuracy"):
            low, high = found[part][f"{metric}_interval"]
            assert low < found[part][metric] < high
    assert set(found) == {*expected, "findings"}
    assert found["findings"]["resampled_by"] == "person"
    assert len(found["findings"]["comparison"]["disagree"]) == len(report.comparison.rows)


def test_causes_and_the_score_if_one_head_were_right(world: World, report: Report, small: Evaluation) -> None:
    truth, given = world.table["ans"], world.table["given"]
    wrong = pd.DataFrame({"mask": truth // 3 != given // 3, "age": truth % 3 != given % 3})
    counts = wrong[wrong.any(axis=1)].value_counts()
    assert {cause.tasks: cause.count for cause in report.causes} == {
        ("mask",): counts[(True, False)],
        ("age",): counts[(False, True)],
        ("mask", "age"): counts[(True, True)],
    }
    corrected = {"mask": truth // 3 * 3 + given % 3, "age": given // 3 * 3 + truth % 3}
    expected = {task: macro(truth, codes) for task, codes in corrected.items()}
    assert report.scores_if_right == pytest.approx(expected)
    assert report.costliest.startswith(f"{max(expected, key=expected.__getitem__)} costs most: were it always")
    by_hand = [(cause.name, cause.count, cause.share) for cause in error_causes(small)]
    assert by_hand == [("mask only", 1, 0.5), ("mask and age", 1, 0.5)]


def test_group_errors_are_pandas_means(world: World, report: Report) -> None:
    table = world.table.assign(
        mask=np.array(TASKS["mask"])[world.table["ans"] // 3],
        group=np.array(TASKS["age"])[world.table["ans"] % 3],
        wrong=world.table["ans"] != world.table["given"],
    )
    by_one = {group.name: group for group in report.groups[1]}
    for name, rows in table.groupby("mask"):
        assert (by_one[name].count, by_one[name].people) == (len(rows), rows["person"].nunique())
        assert by_one[name].errors["joint"] == pytest.approx(rows["wrong"].mean())
    for low, high in ((20, 30), (30, 40), (60, 70)):
        rows = table[table["age"].between(low, high - 1)]
        assert by_one[f"{low} to {high}"].errors["joint"] == pytest.approx(rows["wrong"].mean())
    pairs = {tuple(group.parts.values()): group.errors["joint"] for group in report.groups[2]}
    for names, rows in table.groupby(["mask", "group"]):
        assert pairs[names] == pytest.approx(rows["wrong"].mean())
    assert list(pairs.values()) == sorted(pairs.values(), reverse=True)


def test_bands_end_at_the_borders_and_unknown_numbers_are_left_out(small: Evaluation) -> None:
    groups = error_groups(small)[1]
    names = {group.name: group.count for group in groups if "age by tens" in group.parts}
    assert names == {"20 to 30": 1, "30 to 40": 1, "70 to 80": 1}
    near = number_errors(small, small.numbers[0]).near
    expected = [("less than 2", 2, 0.5), ("10 and more", 1, 1.0)]
    assert [(group.name, group.count, group.errors["joint"]) for group in near] == expected
    assert hardest(groups, "age", fewest=5) is None
    assert hardest(groups, "mask", fewest=2).errors["mask"] == 0.5


def test_a_number_is_not_crossed_with_the_tasks_that_are_cut_from_it(small: Evaluation) -> None:
    number = NumericLabel("age", {"age": [30, 60], "mask": [75]}, np.array([29, 30, 71, 76]))
    groups = error_groups(replace(small, numbers=[number]))
    bands = [group.name for group in groups[1] if "age by tens" in group.parts]
    assert sorted(bands) == ["20 to 30", "30 to 40", "70 to 75", "75 to 80"]
    assert not [group for group in groups[2] if "age by tens" in group.parts]


@pytest.mark.parametrize(
    ("ages", "bins"),
    [
        ([20, 60, 60, 60], {(20, 25): 1, (60, 65): 3}),
        ([60, 60, np.nan, 60], {(60, 61): 3}),
        ([29, 30, 31, np.nan], {(29, 30): 1, (30, 31): 1, (31, 32): 1}),
    ],
)
def test_every_known_number_is_in_its_bin(small: Evaluation, ages: list[float], bins: dict) -> None:
    errors = number_errors(small, NumericLabel("age", {"age": [30, 60]}, np.array(ages)))
    assert [(group.name, group.count) for group in errors.bins] == [
        (f"{low:g} to {high:g}", count) for (low, high), count in bins.items()
    ]
    assert errors.centres == pytest.approx([np.mean(edges) for edges in bins])


def test_calibration_is_that_of_the_probabilities_before_and_after_scaling(
    world: World, report: Report
) -> None:
    truth = {"mask": world.table["ans"].to_numpy() // 3, "age": world.table["ans"].to_numpy() % 3}
    for task, temperature in (("mask", 1.3), ("age", 0.8)):
        found, merged = report.calibrations[task], world.merged[task]
        assert (found.error, found.before) == expected_calibration_error(merged, truth[task])
        scaled = expected_calibration_error(scale(merged, temperature), truth[task])
        assert (found.error_scaled, found.after) == scaled
        assert report.scores[task]["expected_calibration_error"] == found.error
    for part, (coverage, error) in report.curves.items():
        assert (coverage[-1], error[-1]) == (1, pytest.approx(1 - report.scores[part]["accuracy"]))


def test_effects_of_the_views_are_counted(world: World, report: Report, small: Evaluation) -> None:
    effects, _ = views_effects(small)
    by_hand = {part: (each.changed, each.better, each.worse) for part, each in effects.items()}
    assert (by_hand["mask"], by_hand["joint"]) == ((2, 0, 2), (3, 1, 1))
    joint, difference = report.views["joint"], report.views_difference
    assert joint.plain == pytest.approx(macro(world.table["ans"], world.table["other"]))
    assert joint.merged == pytest.approx(macro(world.table["ans"], world.table["given"]))
    assert difference["joint"]["macro_f1"].value == pytest.approx(joint.merged - joint.plain)


def test_differences_are_paired_and_disagreements_listed(world: World, report: Report) -> None:
    truth, given, other = (world.table[name] for name in ("ans", "given", "other"))
    [difference] = report.comparison.differences.values()
    estimate = difference["joint"]["macro_f1"]
    assert estimate.value == pytest.approx(macro(truth, given) - macro(truth, other))
    assert estimate.low < estimate.value < estimate.high
    rows = report.comparison.rows
    assert sorted(rows) == np.flatnonzero(given != other).tolist()
    one_right = [bool(given[row] == truth[row] or other[row] == truth[row]) for row in rows]
    assert one_right == sorted(one_right, reverse=True)


def test_wrong_predictions_come_most_confident_first(world: World, report: Report, small: Evaluation) -> None:
    wrong = world.table[world.table["ans"] != world.table["given"]]
    confidence = world.merged["mask"].max(1).astype(float) * world.merged["age"].max(1)
    expected = wrong.iloc[np.argsort(-confidence[wrong.index], kind="stable")]
    assert [each.image for each in report.wrong] == expected["ImageID"].tolist()
    first, row = report.wrong[0], expected.index[0]
    assert first.confidence == pytest.approx(confidence[row])
    assert list(first.tasks[1].probabilities.values()) == pytest.approx(world.merged["age"][row].tolist())
    assert first.metadata == [("age", str(world.table["age"][row])), ("person", world.table["person"][row])]
    bare = Evaluation(small.tasks, small.ids, small.truth, small.submissions)
    assert [(each.image, each.confidence) for each in wrong_predictions(bare)] == [("b", None), ("c", None)]
