"""What finished runs answer to the photographs that they are judged on: those of their plan's default."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench.ablation_plan import Ablations, Run, default_of
from bench.held_out import predict_views
from ensemble.predict import make_task
from ensemble.views import make_views
from heads.build import open_head
from heads.run import RunFolder

TRUTH, EXPECTED, VALUE = "truth", "expected", "value"  # of validation.npz


def judged(folders: Sequence[RunFolder]) -> pd.DataFrame:
    """What all folds' validation.npz hold, by photograph: `truth`, probabilities by class, numbers if any."""
    tables = []
    for folder in folders:
        with np.load(folder.validation) as arrays:
            table = pd.DataFrame(arrays["probabilities"], index=arrays["path"])
            for name in (TRUTH, EXPECTED, VALUE):
                if name in arrays:
                    table[name] = arrays[name]
        tables.append(table)
    return pd.concat(tables)


def judged_as_default(plan: Ablations, run: Run, runs: Path) -> pd.DataFrame:
    """The same of the photographs that the default of the run's head and seed was validated on.

    Photographs that a lever has beside them are left out. Where a lever trains without some of the default's
    data, its heads are shown the default's photographs of those data now, in one view as in a validation, each
    fold's head those of its fold: people whom it never saw.
    """
    default = default_of(plan, run.head, run.seed)
    if not default.done(runs):
        return judged(run.folders(runs))
    tables = []
    for folder, theirs in zip(run.folders(runs), default.folders(runs), strict=True):
        wanted, table = judged([theirs]), judged([folder])
        if set(default.data) - set(run.data):
            missing = wanted[~wanted.index.isin(table.index)]
            table = pd.concat([table, _answered(folder, missing)])
        tables.append(table[table.index.isin(wanted.index)])
    return pd.concat(tables)


def _answered(folder: RunFolder, wanted: pd.DataFrame) -> pd.DataFrame:
    """What a run's best head answers to the photographs of `wanted`, with their `truth` and `value`."""
    task = replace(make_task([open_head(folder.best)]), views=make_views([]))
    predictions = predict_views(task, [Path(path) for path in wanted.index], workers=0)
    table = pd.DataFrame(predictions.probabilities, index=wanted.index)
    table[TRUTH] = wanted[TRUTH]
    if predictions.expected is not None:
        table[EXPECTED], table[VALUE] = predictions.expected, wanted[VALUE]
    return table
