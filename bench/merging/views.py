"""Predictions of trained heads on their validation images in several views, and what sets of views give and cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from tqdm import tqdm

from bench.markdown import spread, table
from bench.validation import Arrays, concat, read_predictions
from data.runtime.errors import raise_all
from data.runtime.processes import usable_workers
from data.transforms.views import make_views
from ensemble.backends.engines import DEFAULT, Backend
from ensemble.inference.predictor import Predictor, Task, build_task, choose_views, load_batches
from ensemble.joint import argmax, encode
from ensemble.metrics.bootstrap import DRAWS, Codes, draw_weights, interval, resampled_confusions
from heads.load import TrainedHead
from heads.objective.metrics import macro_f1, macro_f1_of_confusion

BATCH = 128
VIEW_GROUPS: dict[str, list[Any]] = {
    "hflip": ["hflip"],
    "shifts": [{"shift": {"x": 0.04}}, {"shift": {"x": -0.04}}],
    "crop": [{"center_crop": {"share": 0.9}}],
    "brightness": [{"brightness": {"factor": 1.2}}, {"brightness": {"factor": 0.8}}],
}
VIEW_SETS: tuple[list[str], ...] = (
    *([], ["hflip"], ["shifts"], ["crop"], ["brightness"]),
    *(["hflip", "shifts"], ["hflip", "crop"], ["hflip", "brightness"], list(VIEW_GROUPS)),
)
VIEWS = make_views([step for steps in VIEW_GROUPS.values() for step in steps])


@dataclass(frozen=True)
class Gain:
    """What some views gain over others, mean over seeds, with the 95 % interval of resampled people."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+z.4f} ({self.low:+z.4f} to {self.high:+z.4f})"


def predict_runs(runs: Sequence[Mapping[str, Task]], backend: Backend = DEFAULT) -> list[dict[str, Arrays]]:
    """Predict the validation images of each task's heads in all VIEWS, out of fold, for each of several runs.

    Raises:
        InputError: the runs were validated on different people, or their heads have views that are not in VIEWS.
    """
    others = {
        f"{name}: {view}"
        for tasks in runs
        for name, task in tasks.items()
        for view in choose_views(task, "all").views.keys() - VIEWS.keys()
    }
    raise_all(f"views that are not compared here, expected some of {', '.join(VIEWS)}", sorted(others))
    predicted = [
        {name: concat([predict_validation(head, backend) for head in task.heads]) for name, task in tasks.items()}
        for tasks in runs
    ]
    different = [
        str(tasks[name].heads[0].run.folder)
        for tasks, heads in zip(runs, predicted, strict=True)
        for name, head in heads.items()
        if not all(np.array_equal(head[each], predicted[0][name][each]) for each in ("person", "truth"))
    ]
    raise_all("runs that are not seeds of one recipe, expected the validation people of the first", different)
    return predicted


def predict_validation(head: TrainedHead, backend: Backend = DEFAULT) -> Arrays:
    """Predict the validation images of a head in all VIEWS.

    Returns:
        The arrays of `bench.validation`, with probabilities [N, V, C] and, where it predicts numbers, those [N, V] as
        `numbers`.
    """
    arrays = read_predictions(head.run)
    predictor = Predictor({"head": replace(build_task([head]), views=VIEWS)}, backend)
    [group], task, paths = predictor.groups, predictor.tasks["head"], arrays["path"].tolist()
    batches = load_batches(paths, predictor.pipelines, BATCH, usable_workers(None))
    parts, numbers = [], []
    for batch in tqdm(batches, str(head.run.folder), ceil(len(paths) / BATCH), disable=None):
        with torch.inference_mode():
            logits = group.view_logits(batch.pixels[0])["head"]
            parts.append(task.probabilities(logits).transpose(0, 1).cpu().numpy())
            if (values := task.numbers(logits)) is not None:
                numbers.append(values.T.cpu().numpy())
    return arrays | {"probabilities": np.concatenate(parts)} | ({"numbers": np.concatenate(numbers)} if numbers else {})


def merge_views(arrays: Arrays, groups: Sequence[str], name: str = "probabilities") -> npt.NDArray[np.float32]:
    """Average probabilities [N, C], or `numbers` [N], over the identity and groups of views."""
    return average_views(arrays, make_views([step for group in groups for step in VIEW_GROUPS[group]]), name)


def average_views(arrays: Arrays, views: Iterable[str], name: str = "probabilities") -> npt.NDArray[np.float32]:
    """Average probabilities [N, C], or `numbers` [N], over some of VIEWS by name."""
    places = [list(VIEWS).index(view) for view in views]
    mean: npt.NDArray[np.float32] = arrays[name][:, places].mean(axis=1)
    return mean


def compare_views(heads: Sequence[Arrays], groups: Sequence[str], base: Sequence[str] = ()) -> dict[str, Gain]:
    """Compare the identity and `groups` of views with the identity and those of `base`, on the same resamples.

    People are resampled with all of their images (`ensemble.metrics.bootstrap`), alike for all seeds.

    Args:
        heads: seeds of one head, on the same images in the same order.

    Returns:
        Gain in "macro F1" and, where heads predict numbers, in "number": by how much its mean absolute error falls.
    """
    truth, people = heads[0]["truth"], np.unique(heads[0]["person"], return_inverse=True)[1]
    before, after = ([merge_views(head, each).argmax(axis=1) for head in heads] for each in (base, groups))
    gains = {"macro F1": compare_answers(truth, before, after, heads[0]["probabilities"].shape[2], people)}
    if "numbers" in heads[0]:
        errors = [
            np.mean([np.abs(merge_views(head, each, "numbers") - head["value"]) for head in heads], axis=0)
            for each in (base, groups)
        ]
        smaller = errors[0] - errors[1]
        weights = draw_weights(np.ones(people.max() + 1, dtype=np.int64), DRAWS, np.random.default_rng(0))
        means = (weights @ np.bincount(people, smaller)) / (weights @ np.bincount(people))
        gains["number"] = Gain(float(smaller.mean()), *interval(means))
    return gains


def compare_answers(truth: Codes, before: Sequence[Codes], after: Sequence[Codes], classes: int, people: Codes) -> Gain:
    """Macro F1 that answers `after` gain over those `before`, classes [N] of each seed; `people` [N] are numbers."""
    predictions = [*before, *after]
    means = np.reshape([macro_f1(truth, each, classes) for each in predictions], (2, -1)).mean(axis=1)
    confusions = resampled_confusions(truth, predictions, classes, people, np.random.default_rng(0))
    drawn = macro_f1_of_confusion(confusions).reshape(2, len(before), -1).mean(axis=1)
    return Gain(means[1] - means[0], *interval(drawn[1] - drawn[0]))


def pays(gains: Mapping[str, Gain]) -> bool:
    """Whether the interval of a gain, in macro F1 or in the number, lies above 0."""
    return any(gain.low > 0 for gain in gains.values())


def choose_groups(heads: Sequence[Arrays]) -> list[str]:
    """Choose the groups of views that pay: each is compared with those chosen before, in the order of VIEW_GROUPS."""
    chosen: list[str] = []
    for group in VIEW_GROUPS:
        if pays(compare_views(heads, [*chosen, group], chosen)):
            chosen.append(group)
    return chosen


def joint_table(runs: Sequence[Sequence[Arrays]], tasks: Sequence[Task]) -> str:
    """Write joint macro F1 with the views of `--views plain`, `default` and `all`, and the difference from all.

    Args:
        runs: the heads of each seed, on the same images in the same order.
        tasks: of the heads, the most significant digit of the joint code first.
    """
    radices, heads = [len(task.classes) for task in tasks], runs[0]
    truth = encode([head["truth"] for head in heads], radices)
    people = np.unique(heads[0]["person"], return_inverse=True)[1]
    answers = {}
    for name in ("all", "default", "plain"):
        views = [choose_views(task, name).views for task in tasks]
        answers[name] = [argmax([average_views(*each) for each in zip(seed, views, strict=True)]) for seed in runs]
    rows = []
    for name, codes in answers.items():
        scores = pd.Series([macro_f1(truth, each, prod(radices)) for each in codes])
        gain = "" if name == "all" else str(compare_answers(truth, answers["all"], codes, prod(radices), people))
        rows.append([name, spread(scores, 4), gain])
    return table(["views", "joint macro F1", "against all"], rows)


def view_table(heads: Sequence[Arrays], gflop: float) -> str:
    """Write what sets of views of one head, which takes `gflop` a pass, give over seeds, and the choice."""
    rows, has_numbers = [], "numbers" in heads[0]
    for groups in VIEW_SETS:
        passes = len(make_views([step for group in groups for step in VIEW_GROUPS[group]]))
        merged = [merge_views(head, groups) for head in heads]
        scores = [macro_f1(head["truth"], p.argmax(axis=1), p.shape[1]) for head, p in zip(heads, merged, strict=True)]
        gains = compare_views(heads, groups) if groups else {}
        row = [", ".join(groups) or "identity", str(passes), f"{passes * gflop:.2f}", spread(pd.Series(scores), 4)]
        row.append(str(gains.get("macro F1", "")))
        if has_numbers:
            errors = [np.abs(merge_views(head, groups, "numbers") - head["value"]).mean() for head in heads]
            row += [spread(pd.Series(errors), 3), str(gains.get("number", ""))]
        rows.append([*row, ("yes" if pays(gains) else "no") if gains else ""])
    header = ["views", "passes", "GFLOP", "macro F1", "gain"]
    header += [*(["mean absolute error", "less by"] if has_numbers else []), "pays alone"]
    return f"{table(header, rows)}\n\nViews that pay: {', '.join(['identity', *choose_groups(heads)])}."
