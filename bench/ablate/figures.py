"""Figures of finished runs, as rows of one CSV that outlives the run folders."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.ablate.plan import Ablations, Run, default_run, list_runs
from bench.ablate.table import COLUMNS, KEY, read_figures
from bench.held_out import predict_task
from data.audit.predictions import read_arrays, read_validation
from data.runtime.files import write_text
from ensemble.config import load_tasks
from ensemble.inference.predictor import build_task
from ensemble.inference.views import make_views
from ensemble.joint import encode, joint_probabilities
from heads.build import load_head
from heads.objective.metrics import macro_f1
from heads.run.checkpoint import find_description
from heads.run.folder import RunFolder, write_arrays
from heads.run.manifest import file_checksum

JOINT_YAML = Path("configs/joint.yaml")
LABELS = ("truth", "expected", "value")  # arrays of validation.npz beside the probabilities


def collect(plans: Sequence[Ablations], roots: Sequence[Path], file: Path) -> int:
    """Write the figures of all finished runs into the CSV `file` and return their number.

    Newer figures replace older ones; rows of runs whose folders are gone stay.
    """
    rows = [row for plan, root in zip(plans, roots, strict=True) for row in _rows(plan, root)]
    table = pd.concat([read_figures(file).astype(object), pd.DataFrame(rows, columns=COLUMNS, dtype=object)])
    write_text(file, table.drop_duplicates(KEY, keep="last").sort_values(KEY).to_csv(index=False))
    return len(rows)


def _rows(plan: Ablations, root: Path) -> Iterator[list[Any]]:
    """Rows in the order of `COLUMNS`."""
    tasks = load_tasks(JOINT_YAML)
    for run in list_runs(plan):
        if run.done(root):
            yield _run_row(plan, run, root, tasks)
    for seed in plan.seeds:
        for lever in plan.levers:
            heads = [lever.head, *tasks]
            folders = _default_folders(plan, heads, seed, root)
            if lever.product and len(folders) == len(heads):
                run = replace(default_run(plan, lever.head, seed), lever=lever.name)
                score = product_macro_f1([folders[head] for head in heads])
                yield _row(plan, run, score, score, None, sum(map(_minutes, folders.values())))


def _run_row(plan: Ablations, run: Run, root: Path, tasks: Mapping[str, Sequence[str]]) -> list[Any]:
    """The row of a finished run; for the joint figure the other heads are the defaults of its seed."""
    table, folder = load_scores(plan, run, root), run.folder(root)
    score = macro_f1(table["truth"].to_numpy(), _answers(table), _classes(table))
    joint = None
    if run.head in tasks:
        folders = _default_folders(plan, tasks, run.seed, root) | {run.head: folder}
        if folders.keys() == tasks.keys():
            joint = joint_macro_f1([folders[task] for task in tasks])
    elif _classes(table) == prod(map(len, tasks.values())):
        joint = score
    mae = (table["expected"] - table["value"]).abs().mean() if "expected" in table else None
    gpu = (find_description(folder.best) or {}).get("machine", {}).get("GPU")
    return _row(plan, run, score, joint, mae, _minutes(folder), gpu)


def _row(
    plan: Ablations,
    run: Run,
    score: float,
    joint: float | None,
    mae: float | None,
    minutes: float,
    gpu: str | None = None,
) -> list[Any]:
    figures = [None if figure is None else round(float(figure), 5) for figure in (score, joint, mae, minutes)]
    return [plan.title, run.head, run.lever, run.seed, *figures, gpu]


def _minutes(folder: RunFolder) -> float:
    """Minutes of training and validation."""
    return float(json.loads(folder.metrics.read_text(encoding="utf-8"))["minutes"])


def _default_folders(plan: Ablations, heads: Iterable[str], seed: int, root: Path) -> dict[str, RunFolder]:
    """Run folders of the plan's default heads that are finished, by head."""
    defaults = {head: default_run(plan, head, seed) for head in heads if head in plan.heads}
    return {head: run.folder(root) for head, run in defaults.items() if run.done(root)}


def joint_macro_f1(folders: Sequence[RunFolder]) -> float:
    """Macro F1 over the joint classes on the images that all heads were validated on.

    Args:
        folders: run folder of each task's head, the most significant task first.
    """
    tables = _shared_rows(folders)
    radices = [_classes(table) for table in tables]
    truth = encode([table["truth"].to_numpy() for table in tables], radices)
    return macro_f1(truth, encode([_answers(table) for table in tables], radices), prod(radices))


def product_macro_f1(folders: Sequence[RunFolder]) -> float:
    """Macro F1 of a joint head whose probabilities are multiplied by those of the task heads.

    Args:
        folders: run folder of the joint head, then of each task's head, the most significant task first.
    """
    joint, *tasks = _shared_rows(folders)
    product = _probabilities(joint) * joint_probabilities([_probabilities(table) for table in tasks])
    return macro_f1(joint["truth"].to_numpy(), product.argmax(axis=1), _classes(joint))


def load_scores(plan: Ablations, run: Run, root: Path) -> pd.DataFrame:
    """Load a run's predictions on the validation images of the default of its head and seed.

    Other validation images of the run are left out. A lever that trains without some of the default's data has
    no predictions for their images: its head, which was not trained on these people, predicts them here, without
    test-time views.

    Returns:
        By path: columns 0 to C-1 with probabilities, `truth`, and `expected` and `value` if the head predicts
        a number.
    """
    default = default_run(plan, run.head, run.seed)
    table = _read_table(run.folder(root))
    if not default.done(root):
        return table
    wanted = _read_table(default.folder(root))
    if set(default.data) - set(run.data):
        table = pd.concat([table, _predict(run.folder(root), wanted[~wanted.index.isin(table.index)])])
    return table[table.index.isin(wanted.index)]


def _predict(folder: RunFolder, wanted: pd.DataFrame) -> pd.DataFrame:
    """Predict the images of `wanted`; kept in the run folder, since thousands of images take minutes."""
    cache = folder.folder / f"predictions-{file_checksum(folder.best)[:16]}.npz"
    if cache.is_file():
        table = _table(read_arrays(cache, "predictions of bench.ablate"))
        if wanted.index.isin(table.index).all():
            return table.loc[wanted.index]
    task = replace(build_task([load_head(folder.best)]), views=make_views([]))
    output = predict_task(task, [Path(path) for path in wanted.index])
    arrays = {"path": wanted.index.to_numpy(str), "probabilities": output.probabilities}
    arrays["truth"] = wanted["truth"].to_numpy()
    if output.value is not None:
        arrays |= {"expected": output.value, "value": wanted["value"].to_numpy()}
    write_arrays(cache, arrays)
    return _table(arrays)


def _read_table(folder: RunFolder) -> pd.DataFrame:
    return _table(read_validation(folder.validation))


def _table(arrays: dict[str, npt.NDArray[Any]]) -> pd.DataFrame:
    """Arrays of validation.npz as a table by path."""
    table = pd.DataFrame(arrays["probabilities"], index=arrays["path"])
    return table.assign(**{name: arrays[name] for name in LABELS if name in arrays})


def _shared_rows(folders: Sequence[RunFolder]) -> list[pd.DataFrame]:
    """Each run's table, restricted to the images that all have, in one order."""
    tables = [_read_table(folder) for folder in folders]
    paths = sorted(set.intersection(*(set(table.index) for table in tables)))
    return [table.loc[paths] for table in tables]


def _classes(table: pd.DataFrame) -> int:
    return sum(isinstance(name, int) for name in table.columns)


def _probabilities(table: pd.DataFrame) -> npt.NDArray[np.float32]:
    return table[range(_classes(table))].to_numpy()


def _answers(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    return np.asarray(_probabilities(table).argmax(axis=1), dtype=np.int64)
