"""What merging is worth: test-time views of each head, and answers tuned for macro F1, out of fold.

python -m bench.merging --runs RUNS --out docs/merging.md

Reads all finished folds of every head, each on the people that it was validated on. Temperature has no row: it
does not change which class of a head is the likeliest, and heads are merged by their likeliest classes.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from data.errors import debug_option, run_script
from data.files import write_text
from data.pipeline import Pipeline
from data.processes import usable_workers
from ensemble.config import tasks_of
from ensemble.decide import fit_multipliers
from ensemble.find import files_of_heads, shown_otherwise
from ensemble.joint import encode, joint_probabilities
from ensemble.predict import Decoded, make_task
from ensemble.views import Shown, make_views
from heads.build import open_head
from heads.macro_f1 import macro_f1
from heads.run import RunFolder

JOINT_YAML = Path("configs/joint.yaml")
Array = npt.NDArray[np.float32]
SHIFTS = [{"shift": {"x": 0.04}}, {"shift": {"x": -0.04}}]
CROPS = [{"center_crop": {"share": 0.9}}]
LIGHTS = [{"brightness": {"factor": 1.2}}, {"brightness": {"factor": 0.8}}]
VIEW_SETS: dict[str, list[Any]] = {
    "identity": [],
    "hflip": ["hflip"],
    "hflip, shifts": ["hflip", *SHIFTS],
    "hflip, crop": ["hflip", *CROPS],
    "hflip, brightness": ["hflip", *LIGHTS],
    "all of these": ["hflip", *SHIFTS, *CROPS, *LIGHTS],
}
PAGE = """# Merging

Written by `python -m bench.merging` from finished heads (folds: {folds}) and their validation photographs.

## Test-time views

Macro F1 of each task's heads on all that they were validated on; the views' probabilities are averaged.

{views}

## Decision

On the {photographs} photographs of {people} people that all heads were validated on. Multipliers of the
probabilities are fitted for macro F1 on half of the people and judged on the others, {splits} times.

{decisions}
"""
SPLITS = 20
BATCH = 128


@dataclass(frozen=True)
class Judged:
    """A task's heads on their validation photographs: probabilities [N, C] by view, truth, person, path [N]."""

    views: dict[str, Array]
    truth: npt.NDArray[np.int64]
    person: npt.NDArray[np.str_]
    path: npt.NDArray[np.str_]

    def merged(self, steps: Sequence[Any]) -> Array:
        """Mean probabilities [N, C] over identity and `steps`."""
        mean: Array = np.mean([self.views[name] for name in make_views(steps)], axis=0)
        return mean

    def at(self, paths: Sequence[str]) -> "Judged":
        """The same head on some of its photographs, in their order."""
        places = {path: row for row, path in enumerate(self.path.tolist())}
        rows = np.array([places[path] for path in paths])
        views = {name: each[rows] for name, each in self.views.items()}
        return Judged(views, self.truth[rows], self.person[rows], self.path[rows])


def judge(file: Path) -> Judged:
    """Run the head of a checkpoint over its validation photographs with every view of `VIEW_SETS`."""
    head = open_head(file)
    if (told := shown_otherwise(head.box_margin, None)) is not None:
        print(f"{file}: {told}", file=sys.stderr)
    with np.load(RunFolder(file.parent).validation) as arrays:
        truth, person, path = arrays["truth"], arrays["person"], arrays["path"]
    views = head.config.views.model_copy(update={"steps": VIEW_SETS["all of these"]})
    shown = make_task([replace(head, config=head.config.model_copy(update={"views": views}))])
    photographs = Decoded([Path(each) for each in path], [Pipeline(head.config.pixels.evaluate)])
    loader = DataLoader(photographs, BATCH, num_workers=usable_workers(None))
    parts = []
    for pixels, _ in tqdm(loader, str(file.parent), disable=None):
        with torch.inference_mode():
            parts.append(shown.probabilities(shown.view_logits(Shown(pixels))).numpy())
    return Judged(dict(zip(shown.views, np.concatenate(parts, axis=1), strict=True)), truth, person, path)


def pooled(folds: Sequence[Judged]) -> Judged:
    """What several folds answered, one after the other: out-of-fold probabilities of all their people."""
    views = {name: np.concatenate([fold.views[name] for fold in folds]) for name in folds[0].views}
    truth, person, path = (
        np.concatenate([getattr(fold, name) for fold in folds]) for name in ("truth", "person", "path")
    )
    return Judged(views, truth, person, path)


def view_table(heads: Mapping[str, Judged]) -> str:
    """Macro F1 of each head by its set of views."""
    titles = [f"{task}, {len(head.truth)} photographs" for task, head in heads.items()]
    lines = [f"| views | {' | '.join(titles)} |", f"| --- |{' --- |' * len(heads)}"]
    for name, steps in VIEW_SETS.items():
        scores = [
            macro_f1(head.truth, (merged := head.merged(steps)).argmax(axis=1), merged.shape[1])
            for head in heads.values()
        ]
        lines.append(f"| {name} | {' | '.join(f'{score:.3f}' for score in scores)} |")
    return "\n".join(lines)


def decisions(
    probabilities: Sequence[Array],
    truths: Sequence[npt.NDArray[np.int64]],
    person: npt.NDArray[np.str_],
    seed: int,
) -> dict[str, list[float]]:
    """Joint macro F1 of each way to decide, fitted on one half of the people and judged on the other."""
    radices = [each.shape[1] for each in probabilities]
    joint, truth = joint_probabilities(probabilities), np.asarray(encode(list(truths), radices))
    people, rng = np.unique(person), np.random.default_rng(seed)
    found: dict[str, list[float]] = {
        "argmax": [],
        "a multiplier for each task's class": [],
        "for each joint class": [],
    }
    for _ in range(SPLITS):
        fitted = np.isin(person, rng.permutation(people)[: len(people) // 2])
        tasks = [
            each * fit_multipliers(each[fitted], its[fitted])
            for each, its in zip(probabilities, truths, strict=True)
        ]
        weighed = joint * fit_multipliers(joint[fitted], truth[fitted])
        for name, answer in zip(found, (joint, joint_probabilities(tasks), weighed), strict=True):
            found[name].append(macro_f1(truth[~fitted], answer[~fitted].argmax(axis=1), joint.shape[1]))
    return found


def shared(heads: Mapping[str, Judged]) -> list[Judged]:
    """The heads on the photographs that all of them have, in one order."""
    paths = sorted(set.intersection(*(set(head.path.tolist()) for head in heads.values())))
    return [head.at(paths) for head in heads.values()]


def decision_table(heads: Sequence[Judged]) -> str:
    """Joint macro F1 of each way to decide: mean and standard deviation over the splits, and the difference.

    Args:
        heads: on the same photographs in the same order.
    """
    probabilities = [head.merged(VIEW_SETS["hflip"]) for head in heads]
    truths, person = [head.truth for head in heads], heads[0].person
    found = decisions(probabilities, truths, person, seed=0)
    plain = np.array(found["argmax"])
    lines = ["| decision | joint macro F1 | against argmax |", "| --- | --- | --- |"]
    for name, scores in found.items():
        less = np.array(scores) - plain
        lines.append(
            f"| {name} | {np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f} "
            f"| {less.mean():+.3f} ± {less.std(ddof=1):.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the heads, judge them, write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.merging", description="What merging is worth.")
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    debug_option(parser)
    args = parser.parse_args()
    files = files_of_heads(args.runs, tasks_of(JOINT_YAML))
    heads = {task: pooled([judge(file) for file in found]) for task, found in files.items()}
    common = shared(heads)
    page = PAGE.format(
        folds=", ".join(f"{task} {len(found)}" for task, found in files.items()),
        photographs=len(common[0].truth),
        people=len(np.unique(common[0].person)),
        splits=SPLITS,
        views=view_table(heads),
        decisions=decision_table(common),
    )
    write_text(args.out, page)
    print(page)


if __name__ == "__main__":
    run_script(main)
