"""Figures of finished runs, as rows of one CSV that outlives the run folders."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from bench.ablate.plan import Ablations, Run, default_run, list_runs
from bench.ablate.table import COLUMNS, KEY, read_figures
from bench.held_out import predict_task
from bench.validation import Arrays, concat, read_predictions, select, select_shared
from data.annotations.table import read_table
from data.runtime.arrays import read_arrays, write_arrays
from data.runtime.errors import raise_all
from data.runtime.files import write_text
from data.transforms.views import make_views
from ensemble.inference.predictor import build_task
from ensemble.joint import encode, joint_probabilities, load_tasks
from ensemble.options import JOINT_YAML
from heads.load import load_head
from heads.objective.metrics import compute_metrics, macro_f1
from heads.run.checkpoint import find_description
from heads.run.folder import RunFolder, file_checksum


def collect(
    plans: Sequence[Ablations], roots: Sequence[Path], file: Path, folders: Mapping[str, str] = MappingProxyType({})
) -> int:
    """Write the figures of all finished runs into the CSV `file` and return their number.

    Newer figures replace older ones; rows of runs whose folders are gone stay.

    Args:
        folders: data folders by name, of which those are read that plans name as `held_out`.
    """
    held_out = {base.held_out for plan in plans for base in plan.heads.values() if base.held_out is not None}
    missing = sorted(held_out - set(folders))
    raise_all("data folders of a plan are missing", [f"give --data {each}=DIR" for each in missing])
    tables = {each: read_table([Path(folders[each])]) for each in held_out}
    rows = [row for plan, root in zip(plans, roots, strict=True) for row in _rows(plan, root, tables)]
    rounded = [{k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    found = pd.DataFrame(rounded, columns=COLUMNS, dtype=object)
    table = pd.concat([read_figures(file).astype(object), found])
    write_text(file, table.drop_duplicates(KEY, keep="last").sort_values(KEY).to_csv(index=False))
    return len(rows)


def _rows(plan: Ablations, root: Path, tables: Mapping[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    """Values of `COLUMNS` for each finished run, then for each product."""
    tasks = load_tasks(JOINT_YAML)
    for run in list_runs(plan):
        if run.done(root):
            yield _key(plan, run) | _figures(plan, run, root, tasks) | _score_held_out(plan, run, root, tables)
    for seed in plan.seeds:
        for lever in plan.levers:
            heads = [*tasks, lever.head]
            folders = _default_folders(plan, heads, seed, root)
            if lever.product and len(folders) == len(heads):
                score = joint_macro_f1([folders[task] for task in tasks], folders[lever.head])
                minutes = sum(map(_minutes, folders.values()))
                run = replace(default_run(plan, lever.head, seed), lever=lever.name)
                yield _key(plan, run) | {"macro_f1": score, "joint_macro_f1": score, "minutes": minutes}


def _key(plan: Ablations, run: Run) -> dict[str, Any]:
    return dict(zip(KEY, (plan.title, run.head, run.lever, run.seed), strict=True))


def _figures(plan: Ablations, run: Run, root: Path, tasks: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Figures of a finished run; for the joint one the other heads are the defaults of its seed."""
    arrays, folder = load_predictions(plan, run, root), run.folder(root)
    probabilities = arrays["probabilities"]
    figures = compute_metrics(probabilities, arrays["truth"], arrays.get("expected"), arrays.get("value"))
    figures["minutes"] = _minutes(folder)
    folders = _default_folders(plan, tasks, run.seed, root) | {run.head: folder}
    if run.head in tasks and len(folders) == len(tasks):
        figures["joint_macro_f1"] = joint_macro_f1([folders[task] for task in tasks])
    elif run.head not in tasks and probabilities.shape[1] == prod(map(len, tasks.values())):
        figures["joint_macro_f1"] = figures["macro_f1"]
    return figures | {"gpu": (find_description(folder.best) or {}).get("machine", {}).get("GPU")}


def _score_held_out(plan: Ablations, run: Run, root: Path, tables: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Macro F1 on the images of the head's `held_out`, a name of one of `tables`, in one view; nothing without it."""
    folder, name = run.folder(root), plan.heads[run.head].held_out
    if name is None:
        return {}
    target = load_head(folder.best).target
    rows = target.select_rows(tables[name])
    truth = target.class_indices(rows)
    found = _predict(folder, {"path": rows["path"].to_numpy(dtype=str), "truth": truth}, "held_out")["probabilities"]
    return {"held_out_macro_f1": macro_f1(truth, found.argmax(axis=1), found.shape[1])}


def _minutes(folder: RunFolder) -> float:
    """Minutes of training and validation."""
    return float(json.loads(folder.metrics.read_text(encoding="utf-8"))["minutes"])


def _default_folders(plan: Ablations, heads: Iterable[str], seed: int, root: Path) -> dict[str, RunFolder]:
    """Run folders of the plan's default heads that are finished, by head."""
    defaults = {head: default_run(plan, head, seed) for head in heads if head in plan.heads}
    return {head: run.folder(root) for head, run in defaults.items() if run.done(root)}


def joint_macro_f1(tasks: Sequence[RunFolder], joint_head: RunFolder | None = None) -> float:
    """Macro F1 over the joint classes on the images that all heads were validated on.

    Args:
        tasks: run folder of each task's head, the most significant task first.
        joint_head: run folder of a head over the joint classes, whose probabilities are multiplied with theirs.
    """
    heads = select_shared([read_predictions(folder) for folder in (*tasks, *([joint_head] if joint_head else []))])
    product = joint_probabilities([head["probabilities"] for head in heads[: len(tasks)]])
    radices = [head["probabilities"].shape[1] for head in heads[: len(tasks)]]
    truth = encode([head["truth"] for head in heads[: len(tasks)]], radices)
    for head in heads[len(tasks) :]:
        product *= head["probabilities"]
    return macro_f1(truth, product.argmax(axis=1), prod(radices))


def load_predictions(plan: Ablations, run: Run, root: Path) -> Arrays:
    """Load a run's predictions on the validation images of the default of its head and seed.

    Other validation images of the run are left out. A lever that trains without some of the default's data has
    no predictions for their images: its head, not trained on these people, predicts them here in one view.
    """
    default = default_run(plan, run.head, run.seed)
    arrays = read_predictions(run.folder(root))
    if not default.done(root):
        return arrays
    wanted = read_predictions(default.folder(root))
    own = set(arrays["path"].tolist())
    missing = [path for path in wanted["path"].tolist() if path not in own]
    if missing and set(default.data) - set(run.data):
        arrays = concat([arrays, _predict(run.folder(root), select(wanted, missing))])
        own.update(missing)
    return select(arrays, [path for path in wanted["path"].tolist() if path in own])


def _predict(folder: RunFolder, wanted: Arrays, name: str = "predictions") -> Arrays:
    """Predict the images of `wanted`; cached in the run folder, since thousands of images take minutes."""
    cache = folder.folder / f"{name}-{file_checksum(folder.best)[:16]}.npz"
    if cache.is_file():
        arrays = read_arrays(cache, "predictions of bench.ablate")
        if set(wanted["path"].tolist()) <= set(arrays["path"].tolist()):
            return select(arrays, wanted["path"].tolist())
    task = replace(build_task([load_head(folder.best)]), views=make_views([]))
    output = predict_task(task, [Path(path) for path in wanted["path"].tolist()])
    numbers = {} if output.value is None else {"expected": output.value}
    arrays = {**wanted, "probabilities": output.probabilities, **numbers}
    write_arrays(cache, arrays)
    return arrays
