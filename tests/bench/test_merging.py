"""Multipliers are fitted for macro F1 and evaluated on other people; sets of views are means of single views."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from bench.merging.__main__ import decide, decision_table, view_table
from bench.merging.multipliers import fit_multipliers
from bench.merging.scores import VIEWS, ViewScores, count_folds, pool, score_head, select_shared
from data.runtime.errors import InputError
from heads.build import load_head
from heads.run.folder import run_folder, write_arrays


def skewed_head(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities of a head that underrates rare classes."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, images, p=[0.6, 0.3, 0.1])
    likelihood = np.exp(-((rng.normal(truth, 0.7)[:, None] - np.arange(3)) ** 2)) * [8.0, 2.0, 0.5]
    return truth, (likelihood / likelihood.sum(axis=1, keepdims=True)).astype(np.float32)


def make_scores(plain: np.ndarray, others: np.ndarray, truth: np.ndarray, paths: np.ndarray) -> ViewScores:
    """A head that gives `plain` classes for the identity view and `others`, surer, for every other view."""
    views = [np.eye(2)[plain], *[4 * np.eye(2)[others]] * (len(VIEWS) - 1)]
    return ViewScores(np.array(views, dtype=np.float32), truth, np.char.add("p", paths), paths)


def two_seeds() -> list[ViewScores]:
    """Two seeds of a head on 40 images: the identity view is right for 30 and 20, the others for all."""
    truth, paths = np.arange(40) % 2, np.arange(40).astype(str)
    return [
        make_scores(np.where(np.arange(40) < right, truth, 1 - truth), truth, truth, paths)
        for right in (30, 20)
    ]


def test_multipliers_recover_macro_f1_that_a_skewed_prior_cost() -> None:
    truth, skewed = skewed_head(4000, seed=1)
    multipliers = fit_multipliers(skewed[:2000], truth[:2000])
    plain, tuned = (
        f1_score(truth[2000:], (skewed[2000:] * each).argmax(axis=1), average="macro")
        for each in (np.ones(3), multipliers)
    )
    assert tuned > plain + 0.05


@pytest.mark.parametrize("seed", range(5))
def test_multipliers_never_cost_macro_f1_on_their_own_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, truth = rng.dirichlet(np.ones(18) / 3, 300), rng.integers(0, 18, 300)
    before, after = (
        f1_score(truth, (p * each).argmax(axis=1), labels=range(18), average="macro", zero_division=0)
        for each in (np.ones(18), fit_multipliers(p, truth, rounds=1))
    )
    assert after >= before - 1e-12


def test_decisions_are_evaluated_on_other_people() -> None:
    truth, skewed = skewed_head(1200, seed=0)
    rng = np.random.default_rng(2)
    sure, person = rng.integers(0, 2, 1200), np.repeat(np.arange(300), 4).astype(str)
    scores = decide([np.eye(2, dtype=np.float32)[sure], skewed], [sure, truth], person, seed=0).mean()
    assert scores["a multiplier for each task's class"] > scores["argmax"] + 0.03
    labels, noise = rng.integers(0, 6, 400), rng.dirichlet(np.ones(6), 400).astype(np.float32)
    scores = decide([noise], [labels], np.repeat(np.arange(100), 4).astype(str), seed=0).mean()
    assert scores["for each joint class"] < scores["argmax"], "what fits noise costs macro F1 elsewhere"


def test_folds_are_pooled_and_heads_compared_on_their_shared_images() -> None:
    def head(paths: str) -> ViewScores:
        rows = np.array([ord(path) for path in paths])
        classes = rows % 2
        return make_scores(classes, 1 - classes, rows, np.array(list(paths)))

    first, second = select_shared({"mask": pool([head("db"), head("ca")]), "age": head("cxdb")})
    for each in (first, second):
        assert each.path.tolist() == ["b", "c", "d"]
        assert each.person.tolist() == ["pb", "pc", "pd"]
        assert each.truth.tolist() == [98, 99, 100]
        assert each.merged([]).argmax(axis=1).tolist() == [0, 1, 0]
        assert each.merged(["hflip"]) == pytest.approx((each.probabilities[0] + each.probabilities[1]) / 2)


def test_the_identity_view_gives_the_validation_of_the_run(runs: Path) -> None:
    scores = score_head(load_head(run_folder(runs, "gender").best))
    with np.load(run_folder(runs, "gender").validation) as saved:
        assert scores.merged([]) == pytest.approx(saved["probabilities"], abs=1e-5)
    assert len(scores.probabilities) == len(VIEWS)


def test_tables_have_means_over_seeds_and_differences() -> None:
    first, second = two_seeds()
    table = view_table([{"gender": first}, {"gender": second}])
    assert "| gender, 40 images |" in table
    assert "| identity | 0.625 ± 0.177 |" in table  # 0.75 and 0.5
    assert "| hflip | 1.000 ± 0.000 (+0.375) |" in table
    decisions = decision_table([[first], [second]])
    assert "| argmax | 1.000 ± 0.000 | +0.000 ± 0.000 |" in decisions
    assert len(decisions.splitlines()) == 5


def test_runs_validated_on_other_people_are_refused(runs: Path, tmp_path: Path) -> None:
    assert count_folds([runs, runs]) == {"mask": 1, "gender": 1, "age": 1}
    other = tmp_path / "other"
    shutil.copytree(runs, other)
    file = run_folder(other, "age").validation
    with np.load(file) as saved:
        arrays = dict(saved)
    write_arrays(file, {**arrays, "person": np.char.add(arrays["person"], "b")})
    with pytest.raises(InputError, match=f"{other}: age"):
        count_folds([runs, other])
