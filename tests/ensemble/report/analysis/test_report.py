"""Results of a report against scikit-learn and pandas on the same CSV files, and counted by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from ensemble.report.analysis.calibration import calibrations, views_effects
from ensemble.report.analysis.errors import (
    error_causes,
    error_groups,
    hardest,
    number_errors,
    sample_predictions,
    wrong_predictions,
)
from ensemble.report.analysis.report import Report, analyse
from ensemble.report.load.evaluation import Evaluation, NumericLabel
from heads.objective.calibration import calibrate
from tests.ensemble.report.conftest import TASKS, World


def macro(truth: pd.Series, answers: pd.Series) -> float:
    return f1_score(truth, answers, labels=range(6), average="macro", zero_division=0)


def test_causes_and_the_score_if_one_head_were_right(world: World, report: Report, small: Evaluation) -> None:
    truth, given = world.table["ans"], world.table["given"]
    wrong = pd.DataFrame({"mask": truth // 3 != given // 3, "age": truth % 3 != given % 3})
    counts = wrong[wrong.any(axis=1)].value_counts()
    causes = {("mask",): counts[True, False], ("age",): counts[False, True], ("mask", "age"): counts[True, True]}
    assert {cause.tasks: cause.count for cause in report.causes} == causes
    corrected = {"mask": truth // 3 * 3 + given % 3, "age": given // 3 * 3 + truth % 3}
    expected = {task: macro(truth, codes) for task, codes in corrected.items()}
    assert report.scores_if_right == pytest.approx(expected)
    assert report.costliest.startswith(f"{max(expected, key=expected.__getitem__)} costs most: were it always")
    by_hand = [(cause.name, cause.count, cause.share) for cause in error_causes(small)]
    assert by_hand == [("mask only", 1, 0.5), ("mask and age", 1, 0.5)]


def test_group_errors_are_pandas_means(world: World, report: Report) -> None:
    truth, given = world.table["ans"], world.table["given"]
    names = {"mask": np.array(TASKS["mask"])[truth // 3], "group": np.array(TASKS["age"])[truth % 3]}
    table = world.table.assign(**names, wrong=truth != given)
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


def test_bands_end_at_the_borders_and_are_not_crossed_with_the_tasks_cut_there(small: Evaluation) -> None:
    number = replace(small.numbers[0], task_borders={"age": [30, 60], "mask": [75]})
    groups = error_groups(replace(small, numbers=[number]))
    bands = {group.name: group.count for group in groups[1] if "age by tens" in group.parts}
    assert bands == {"20 to 30": 1, "30 to 40": 1, "70 to 75": 1}
    assert not [group for group in groups[2] if "age by tens" in group.parts]
    far = replace(number, value=np.where(number.value == np.nanmax(number.value), 6e9, number.value))  # no band between
    bands = [group.name for group in error_groups(replace(small, numbers=[far]))[1] if "age by tens" in group.parts]
    assert sorted(bands) == ["20 to 30", "30 to 40", "6000000000 to 6000000010"]
    near = [(group.name, group.count, group.errors["joint"]) for group in number_errors(small, number).near]
    assert near == [("less than 2", 2, 0.5), ("2 to 5", 1, 1.0)]
    assert hardest(groups[1], "age", fewest=5) is None
    assert hardest(groups[1], "mask", fewest=2).errors["mask"] == 0.5


@pytest.mark.parametrize(
    ("ages", "bins", "centres"),
    [
        ([20, 60, 60, 60], {"20 to 25": 1, "60 to 65": 3}, [22.5, 62.5]),
        ([60, 60, np.nan, 60], {"60 to 61": 3}, [60.5]),
        ([29, 30, 31, np.nan], {"29 to 30": 1, "30 to 31": 1, "31 to 32": 1}, [29.5, 30.5, 31.5]),
    ],
)
def test_every_known_number_is_in_its_bin(small: Evaluation, ages: list, bins: dict, centres: list) -> None:
    errors = number_errors(small, NumericLabel("age", {"age": [30, 60]}, np.array(ages)))
    assert ({group.name: group.count for group in errors.bins}, errors.centres) == (bins, centres)


def test_calibration_before_scaling_is_that_at_temperature_1(report: Report, small: Evaluation) -> None:
    for task, found in report.calibrations.items():
        assert found.error_scaled != found.error == report.scores[task]["expected_calibration_error"]
    neutral = calibrations(replace(report.evaluation, temperatures={"mask": 1.0, "age": 1.0}))
    assert all(each.error_scaled == pytest.approx(each.error, abs=1e-6) for each in neutral.values())
    assert calibrations(small)["age"].after is None
    # Of probabilities that combine.py has scaled, those before are computed back.
    temperature = report.evaluation.temperatures["age"]
    output = report.evaluation.outputs["age"]
    scaled = output._replace(probabilities=calibrate(output.probabilities, temperature))
    outputs, temperatures = {"age": scaled}, {"age": temperature}
    given = replace(report.evaluation, outputs=outputs, output_temperatures=temperatures, temperatures={})
    again, expected = calibrations(given)["age"], report.calibrations["age"]
    assert (again.error, again.temperature) == (pytest.approx(expected.error, abs=1e-5), temperature)
    assert again.error_scaled == pytest.approx(expected.error_scaled, abs=1e-5)
    assert analyse(given, [], []).scores["age"]["expected_calibration_error"] == again.error_scaled
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
    for part, estimates in next(iter(report.comparison.scores.values())).items():
        for metric, each in estimates.items():
            assert each.value == pytest.approx(report.scores[part][metric])
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
    sample = [each.image in set(expected["ImageID"]) for each in sample_predictions(report.evaluation)]
    assert sample == [False] * 12 + [True] * 12
    bare = Evaluation(small.tasks, small.ids, small.truth, small.submissions)
    assert [(each.image, each.confidence) for each in wrong_predictions(bare)] == [("b", None), ("c", None)]
