"""Multipliers are fitted for macro F1 and evaluated on other people; views pay if their gain is beyond chance."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from bench.merging.decisions import decide, decision_table, fit_multipliers
from bench.merging.views import (
    VIEWS,
    choose_groups,
    compare_views,
    joint_table,
    merge_views,
    pays,
    predict_runs,
    predict_validation,
    view_table,
)
from bench.validation import Arrays, concat, select_shared
from data.runtime.arrays import write_arrays
from data.runtime.errors import InputError
from ensemble import Ensemble
from ensemble.inference.load import load_task_heads
from ensemble.inference.predictor import choose_views
from ensemble.joint import encode, load_joint
from ensemble.options import JOINT_YAML
from heads.load import load_head
from heads.run.folder import run_folder


def make_head(plain: np.ndarray, others: np.ndarray, truth: np.ndarray, paths: np.ndarray) -> Arrays:
    """A head that gives `plain` classes for the identity view and `others`, surer, for every other view."""
    views = [np.eye(2)[plain], *[4 * np.eye(2)[others]] * (len(VIEWS) - 1)]
    probabilities = np.stack(views, axis=1).astype(np.float32)
    return {"path": paths, "person": np.char.add("p", paths), "truth": truth, "probabilities": probabilities}


@pytest.mark.parametrize("seed", range(5))
def test_multipliers_never_cost_macro_f1_on_their_own_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, truth = rng.dirichlet(np.ones(18) / 3, 300), rng.integers(0, 18, 300)
    before, after = (
        f1_score(truth, (p * each).argmax(axis=1), labels=range(18), average="macro", zero_division=0)
        for each in (np.ones(18), fit_multipliers(p, truth))
    )
    assert after >= before - 1e-12


def test_decisions_are_evaluated_on_other_people() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 1200, p=[0.6, 0.3, 0.1])
    skewed = np.exp(-((rng.normal(truth, 0.7)[:, None] - np.arange(3)) ** 2)) * [8.0, 2.0, 0.5]
    skewed = (skewed / skewed.sum(axis=1, keepdims=True)).astype(np.float32)
    sure, person = rng.integers(0, 2, 1200), np.repeat(np.arange(300), 4).astype(str)
    scores = decide([np.eye(2, dtype=np.float32)[sure], skewed], [sure, truth], person).mean()
    assert scores["a multiplier for each task's class"] > scores["argmax"] + 0.03
    labels, noise = rng.integers(0, 6, 400), rng.dirichlet(np.ones(6), 400).astype(np.float32)
    scores = decide([noise], [labels], np.repeat(np.arange(100), 4).astype(str)).mean()
    assert scores["for each joint class"] < scores["argmax"], "what fits noise costs macro F1 elsewhere"


def test_folds_are_pooled_and_heads_compared_on_their_shared_images() -> None:
    def head(paths: str) -> Arrays:
        rows = np.array([ord(path) for path in paths])
        return make_head(rows % 2, 1 - rows % 2, rows, np.array(list(paths)))

    for shared in select_shared([concat([head("db"), head("ca")]), head("cxdb")]):
        for name, expected in (("path", ["b", "c", "d"]), ("person", ["pb", "pc", "pd"]), ("truth", [98, 99, 100])):
            assert shared[name].tolist() == expected
        assert merge_views(shared, []).argmax(axis=1).tolist() == [0, 1, 0]
        assert merge_views(shared, ["hflip"]) == pytest.approx(shared["probabilities"][:, :2].mean(axis=1))

    with pytest.raises(InputError, match="no image is in the validation sets of all heads"):
        select_shared([head("ab"), head("cd")])


def test_the_identity_view_gives_the_validation_of_the_run(runs: Path) -> None:
    head = predict_validation(load_head(run_folder(runs, "gender").best))
    with np.load(run_folder(runs, "gender").validation) as saved:
        assert merge_views(head, []) == pytest.approx(saved["probabilities"], abs=1e-5)
    assert head["probabilities"].shape[1] == len(VIEWS)


def make_seeds(people: int, better: int) -> list[Arrays]:
    """Two seeds: of each person's four images the first is wrong as it is and, for `better` people, right otherwise."""
    truth, person = np.arange(4 * people) // 2 % 2, np.arange(4 * people) // 4
    wrong = np.where(np.arange(4 * people) % 4 == 0, 1 - truth, truth)
    improved = np.where(person < better, truth, wrong)
    head = make_head(wrong, improved, truth, person.astype(str))
    return [head, head]


def test_gains_are_differences_of_macro_f1_with_intervals_of_people() -> None:
    seeds = make_seeds(40, better=30)
    gain = compare_views(seeds, ["hflip"])["macro F1"]
    before, after = (
        f1_score(seeds[0]["truth"], merge_views(seeds[0], each).argmax(axis=1), average="macro")
        for each in ([], ["hflip"])
    )
    assert gain.mean == pytest.approx(after - before)
    assert 0 < gain.low < gain.mean < gain.high
    # Images of one person are not evidence of their own: the gain of one in forty may be absent from a resample.
    assert not pays(compare_views(make_seeds(40, better=1), ["hflip"]))
    assert pays({"macro F1": gain})


def test_only_views_that_add_to_those_before_them_are_chosen() -> None:
    assert choose_groups(make_seeds(40, better=30)) == ["hflip"], "the further views answer as hflip does"
    assert choose_groups(make_seeds(40, better=0)) == []


def test_years_are_gained_by_smaller_errors() -> None:
    heads = make_seeds(40, better=0)
    value = np.linspace(20, 60, 160)
    numbers = np.stack([value + 3, *[value - 1] * (len(VIEWS) - 1)], axis=1)  # the mean of two views is off by one
    heads = [{**head, "value": value, "numbers": numbers} for head in heads]
    gain = compare_views(heads, ["hflip"])["number"]
    assert (gain.mean, gain.low, gain.high) == pytest.approx((2, 2, 2))
    assert choose_groups(heads)[0] == "hflip"


def test_a_table_has_means_over_seeds_costs_and_gains() -> None:
    truth, rows = np.arange(40) % 2, np.arange(40)
    plain = [np.where(rows < right, truth, 1 - truth) for right in (30, 20)]  # accuracy 0.75 and 0.5
    table = view_table([make_head(answers, truth, truth, rows.astype(str)) for answers in plain], gflop=1.5)
    assert "| identity | 1 | 1.50 | 0.6250 ± 0.1768 |" in table
    assert "| hflip | 2 | 3.00 | 1.0000 ± 0.0000 | +0.3750 (" in table
    assert "| hflip, shifts | 4 | 6.00 |" in table
    assert table.endswith("Views that pay: identity, hflip.")


def test_joint_answers_are_those_of_the_ensemble(runs: Path) -> None:
    tasks = load_task_heads(runs, dict.fromkeys(load_joint(JOINT_YAML).tasks))
    heads = select_shared([*predict_runs([tasks])[0].values()])
    text = joint_table([heads, heads], [*tasks.values()])
    truth = encode([head["truth"] for head in heads], [len(task.classes) for task in tasks.values()])
    for views in ("all", "default", "plain"):
        model = Ensemble.load(runs, engine="torch", precision="fp32", views=views)
        codes = model.predict(heads[0]["path"].tolist()).joint_codes()
        score = f1_score(truth, codes, labels=range(18), average="macro", zero_division=0)
        assert f"| {views} | {score:.4f} ± 0.0000 |" in text
    others_unknown = []
    for head, task in zip(heads, tasks.values(), strict=True):
        unused = [name not in choose_views(task, "default").views for name in VIEWS]
        others_unknown.append({**head, "probabilities": head["probabilities"].copy()})
        others_unknown[-1]["probabilities"][:, unused] = np.nan
    before, after = (decision_table([each], [*tasks.values()]) for each in (heads, others_unknown))
    assert before == after, "decisions are made with the default views"


def test_runs_validated_on_other_people_are_refused(runs: Path, tmp_path: Path) -> None:
    other = shutil.copytree(runs, tmp_path / "other")
    file = run_folder(other, "age").validation
    with np.load(file) as saved:
        arrays = dict(saved)
    write_arrays(file, {**arrays, "person": np.char.add(arrays["person"], "b")})
    loaded = [load_task_heads(folder, {"age": None}) for folder in (runs, other)]
    with pytest.raises(InputError, match=f"{other}/age$"):
        predict_runs(loaded)
