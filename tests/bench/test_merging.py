"""Decisions are judged on people that they were not fitted to; view sets are averages of single views."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.merging.__main__ import decision_table, decisions, view_table
from bench.merging.scores import VIEW_SETS, ViewScores, check_alike, pooled, score_views, shared
from data.runtime.errors import InputError
from ensemble.inference.views import make_views
from heads.run.folder import run_folder, write_arrays


def test_multipliers_help_where_a_head_was_skewed() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 1200, p=[0.6, 0.3, 0.1])
    likelihood = np.exp(-((rng.normal(truth, 0.7)[:, None] - np.arange(3)) ** 2)) * [8.0, 2.0, 0.5]
    skewed = (likelihood / likelihood.sum(axis=1, keepdims=True)).astype(np.float32)
    person = np.repeat(np.arange(300), 4).astype(str)
    sure = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 1200)]
    found = decisions([sure, skewed], [sure.argmax(axis=1), truth], person, seed=0)
    assert np.mean(found["a multiplier for each task's class"]) > np.mean(found["argmax"]) + 0.03


def test_what_is_fitted_to_noise_is_worth_nothing_on_other_people() -> None:
    rng = np.random.default_rng(2)
    truth, noise = rng.integers(0, 6, 400), rng.dirichlet(np.ones(6), 400).astype(np.float32)
    found = decisions([noise], [truth], np.repeat(np.arange(100), 4).astype(str), seed=0)
    assert np.mean(found["for each joint class"]) < np.mean(found["argmax"])


def test_a_set_of_views_is_the_mean_of_its_views() -> None:
    rng = np.random.default_rng(1)
    views = {
        name: rng.dirichlet(np.ones(3), 5).astype(np.float32) for name in make_views(VIEW_SETS["all of these"])
    }
    judged = ViewScores(views, np.zeros(5, dtype=np.int64), np.array(["a"] * 5), np.array(["p"] * 5))
    assert np.allclose(judged.merged(["hflip"]), (views["identity"] + views["hflip"]) / 2)
    assert np.allclose(judged.merged([]), views["identity"])


def test_folds_follow_one_another_with_their_truths_people_and_paths() -> None:
    def fold(paths: str) -> ViewScores:
        rows = np.array([ord(path) for path in paths])
        return ViewScores(
            {"identity": rows[:, None] / np.float32(200)}, rows, rows.astype(str), np.array(list(paths))
        )

    both = pooled([fold("ab"), fold("c")])
    assert both.path.tolist() == ["a", "b", "c"]
    assert both.truth.tolist() == [97, 98, 99]
    assert both.person.tolist() == ["97", "98", "99"]
    assert both.merged([])[:, 0] == pytest.approx(np.array([97, 98, 99]) / 200)


def test_heads_are_compared_on_what_they_share_in_one_order() -> None:
    def judged(paths: str) -> ViewScores:
        rows = np.array([ord(path) for path in paths])
        views = {"identity": np.stack([rows, -rows], axis=1).astype(np.float32)}
        return ViewScores(views, rows, rows.astype(str), np.array(list(paths)))

    first, second = shared({"mask": judged("dbca"), "age": judged("cxdb")})
    assert first.path.tolist() == second.path.tolist() == ["b", "c", "d"]
    assert first.truth.tolist() == second.truth.tolist() == [98, 99, 100]
    assert second.merged([])[:, 0].tolist() == [98, 99, 100]


def test_the_identity_view_is_what_the_run_validated_with(runs: Path) -> None:
    judged = score_views(run_folder(runs, "gender").best)
    with np.load(run_folder(runs, "gender").validation) as saved:
        assert judged.merged([]) == pytest.approx(saved["probabilities"], abs=1e-5)
    assert list(judged.views) == list(make_views(VIEW_SETS["all of these"]))


def two_seeds() -> list[ViewScores]:
    """Two seeds of a head on 40 images: the plain view right for 30 and 20, others for all."""
    truth = np.arange(40) % 2
    seeds = []
    for right in (30, 20):
        plain = np.where(np.arange(40) < right, truth, 1 - truth)
        views = {name: np.eye(2, dtype=np.float32)[truth] * 4 for name in make_views(VIEW_SETS["all of these"])}
        views["identity"] = np.eye(2, dtype=np.float32)[plain]
        seeds.append(
            ViewScores(views, truth, np.repeat(np.arange(10), 4).astype(str), np.arange(40).astype(str))
        )
    return seeds


def test_views_are_told_over_seeds_and_against_the_plain_one() -> None:
    first, second = two_seeds()
    table = view_table([{"gender": first}, {"gender": second}])
    assert "| gender, 40 images |" in table
    assert "| identity | 0.625 ± 0.177 |" in table  # 0.75 and 0.5
    assert "| hflip | 1.000 ± 0.000 (+0.375) |" in table
    assert "| identity | 0.750 |" in view_table([{"gender": first}])


def test_no_minus_stands_before_a_difference_that_rounds_to_nothing() -> None:
    truth, mirrored = (np.where(np.arange(4000) < zeros, 0, 1) for zeros in (3000, 2999))
    views = {name: np.eye(2, dtype=np.float32)[truth] for name in make_views(VIEW_SETS["all of these"])}
    views["hflip"] = 2 * np.eye(2, dtype=np.float32)[mirrored]
    paths = np.arange(4000).astype(str)
    assert "| hflip | 1.000 (+0.000) |" in view_table([{"gender": ViewScores(views, truth, paths, paths)}])


def test_decisions_of_all_seeds_stand_in_one_row() -> None:
    heads = two_seeds()
    table = decision_table([[head] for head in heads])
    assert "| argmax | 1.000 ± 0.000 | +0.000 ± 0.000 |" in table
    assert len(table.splitlines()) == 5


def test_runs_validated_on_other_people_are_refused(runs: Path, tmp_path: Path) -> None:
    assert check_alike([runs, runs]) == [1, 1, 1]
    other = tmp_path / "other"
    shutil.copytree(runs, other)
    file = run_folder(other, "age").validation
    with np.load(file) as saved:
        arrays = dict(saved)
    write_arrays(file, {**arrays, "person": np.char.add(arrays["person"], "b")})
    with pytest.raises(InputError, match=f"{other}: age"):
        check_alike([runs, other])
