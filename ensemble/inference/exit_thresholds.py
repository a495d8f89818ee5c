"""The margins of `--views adaptive`, chosen once on validation images and kept beside the runs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.runtime.files import write_text
from ensemble.inference.early_exit import ALL_VIEWS, needs_all_views
from ensemble.inference.parts import make_key
from ensemble.inference.predictor import Task
from ensemble.inference.thresholds import (
    AGREEMENT,
    allowed_disagreements,
    choose_thresholds,
    early_exit_probabilities,
)
from ensemble.inference.validation_images import Predict, find_validation_images, predict_validation
from ensemble.metrics.decide import argmax

FILE_NAME = "margins.json"
FORMAT = 1


@dataclass(frozen=True)
class ExitThresholds:
    """Margins, and what they did on the validation images.

    Attributes:
        margins: by task, see `ensemble.inference.early_exit.needs_all_views`.
        images: on which they were chosen; none of the heads was trained on them.
        agreement: share of their joint answers that are those of all views.
        passes, all_passes: forward passes an image, on average and with all views.
    """

    margins: dict[str, float]
    images: int
    agreement: float
    passes: float
    all_passes: float

    def __str__(self) -> str:
        if all(margin >= ALL_VIEWS for margin in self.margins.values()):
            return (
                f"margins: none, so all views are shown: {self.images} validation images cannot "
                f"promise that {AGREEMENT:.1%} of the answers stay what they are"
            )
        told = ", ".join(f"{task} {margin:.3f}" for task, margin in self.margins.items())
        return (
            f"margins: {told}; on {self.images} validation images {self.agreement:.2%} of the "
            f"answers are those of all views, in {self.passes:.2f} forward passes an image instead of "
            f"{self.all_passes:g}"
        )


def load_exit_thresholds(
    runs: Path,
    tasks: Mapping[str, Task],
    predict: Predict,
    options: Mapping[str, object],
) -> ExitThresholds:
    """The margins for these heads: those kept in `runs`, or chosen now and kept there.

    What is kept counts for the same heads (by checksum), views and options alone.

    Args:
        runs: holds the file.
        tasks: by name, their heads out of files; validation.npz lies beside each.
        predict: `predict_tasks` with all but its first two arguments.
        options: whatever else changes what the heads answer.

    Raises:
        InputError: see `ensemble.inference.validation_images`.
    """
    views = {name: [*task.views, task.merge] for name, task in tasks.items()}
    heads = {name: [head.checksum for head in task.heads] for name, task in tasks.items()}
    key = make_key(heads, {**options, "views": views, "margins": (FORMAT, AGREEMENT)})
    file = runs / FILE_NAME
    kept = _read(file)
    if key in kept:
        return ExitThresholds(**kept[key])
    choice = choose_exit_thresholds(tasks, predict)
    try:
        write_text(file, json.dumps(kept | {key: asdict(choice)}, indent=2) + "\n")
    except OSError as error:
        print(f"{file}: cannot be written ({error.strerror}): the next run chooses margins again")
    return choice


def choose_exit_thresholds(tasks: Mapping[str, Task], predict: Predict) -> ExitThresholds:
    """Choose margins on the validation images that all tasks share; arguments as for `load_exit_thresholds`."""
    validated = find_validation_images(
        {name: [head.run.validation for head in task.heads] for name, task in tasks.items()}
    )
    further = {name: (len(task.views) - 1) * len(task.heads) for name, task in tasks.items()}
    every = float(sum(len(task.views) * len(task.heads) for task in tasks.values()))
    budget = allowed_disagreements(len(validated))
    if budget < 0:
        return ExitThresholds(dict.fromkeys(tasks, ALL_VIEWS), len(validated), 1.0, every, every)
    pairs = predict_validation(validated, tasks, predict)
    margins = choose_thresholds(pairs, further, budget)
    answers = argmax(list(early_exit_probabilities(pairs, margins).values()))
    same = float((answers == argmax([merged for merged, _ in pairs.values()])).mean())
    spared = [further[name] * (~needs_all_views(pair[1], margins[name])).mean() for name, pair in pairs.items()]
    return ExitThresholds(margins, len(validated), same, every - float(sum(spared)), every)


def _read(file: Path) -> dict[str, Any]:
    """What is kept, by key; nothing of a file that is not there or damaged: it is made anew."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return {key: entry for key, entry in kept.items() if _is_whole(entry)}
    except (OSError, ValueError, AttributeError):
        return {}


def _is_whole(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.keys() != ExitThresholds.__annotations__.keys():
        return False
    margins, *figures = entry.values()
    numbers = [*margins.values(), *figures] if isinstance(margins, dict) else [None]
    return all(type(number) in (int, float) for number in numbers)
