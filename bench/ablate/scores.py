"""What finished runs answer to the images that they are run_scores on: those of their plan's default."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench.ablate.plan import Ablations, Run, default_head
from bench.held_out import predict_views
from ensemble.inference.predictor import build_task
from ensemble.inference.views import make_views
from heads.build import load_head
from heads.run.folder import RunFolder, write_arrays
from heads.run.manifest import file_checksum

TRUTH, EXPECTED, VALUE = "truth", "expected", "value"  # of validation.npz


def run_scores(folders: Sequence[RunFolder]) -> pd.DataFrame:
    """What all folds' validation.npz hold, by image: `truth`, probabilities by class, numbers if any."""
    return pd.concat([_table(folder.validation) for folder in folders])


def _table(file: Path) -> pd.DataFrame:
    """An .npz of validation as a table."""
    with np.load(file) as arrays:
        table = pd.DataFrame(arrays["probabilities"], index=arrays["path"])
        for name in (TRUTH, EXPECTED, VALUE):
            if name in arrays:
                table[name] = arrays[name]
    return table


def default_scores(plan: Ablations, run: Run, runs: Path) -> pd.DataFrame:
    """The same of the images that the default of the run's head and seed was validated on.

    Images that a lever has beside them are left out. Where a lever trains without some of the default's
    data, its heads are shown the default's images of those data now, in one view as in a validation, each
    fold's head those of its fold: people whom it never saw.
    """
    default = default_head(plan, run.head, run.seed)
    if not default.done(runs):
        return run_scores(run.folders(runs))
    tables = []
    for folder, theirs in zip(run.folders(runs), default.folders(runs), strict=True):
        wanted, table = run_scores([theirs]), run_scores([folder])
        if set(default.data) - set(run.data):
            missing = wanted[~wanted.index.isin(table.index)]
            table = pd.concat([table, _answered(folder, missing)])
        tables.append(table[table.index.isin(wanted.index)])
    return pd.concat(tables)


def _answered(folder: RunFolder, wanted: pd.DataFrame) -> pd.DataFrame:
    """What a run's best head answers to the images of `wanted`, with their `truth` and `value`.

    It is kept in the run's folder, named after the head, since thousands of images take minutes.
    """
    kept = folder.folder / f"shown-{file_checksum(folder.best)[:16]}.npz"
    if kept.is_file() and wanted.index.isin((table := _table(kept)).index).all():
        return table.loc[wanted.index]
    task = replace(build_task([load_head(folder.best)]), views=make_views([]))
    predictions = predict_views(task, [Path(path) for path in wanted.index], workers=0)
    arrays = {
        "path": wanted.index.to_numpy(str),
        "probabilities": predictions.probabilities,
        TRUTH: wanted[TRUTH],
    }
    if predictions.expected is not None:
        arrays |= {EXPECTED: predictions.expected, VALUE: wanted[VALUE]}
    write_arrays(kept, arrays)
    return _table(kept)
