"""The rows that a head is trained on and those that it is judged on; no person is in both."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from data.annotations.corrections import apply_corrections
from data.annotations.folds import assign_folds
from data.annotations.table import read_table
from data.images.validate import find_undecodable, undecodable_message
from data.runtime.errors import InputError
from heads.config.task import TaskConfig
from heads.objective.targets import Target


def find_bad_images(sources: list[Path]) -> dict[str, str]:
    """What is wrong with each image of the sources that cannot be decoded; the user is told of them."""
    bad = find_undecodable(read_table(sources, lenient=True)["path"].tolist())
    if bad:
        print(undecodable_message(bad), file=sys.stderr)
    return bad


def split_rows(
    config: TaskConfig, sources: list[Path], target: Target, bad: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows labelled for `target` to train on and to validate on: the fold `config.split.fold` is held out.

    Args:
        config: its split and corrections.
        sources: as `data.annotations.table.read_table` takes them.
        target: whose label a row must have.
        bad: images to leave out (`find_bad_images`); None ends the run at the first that is missing.

    Raises:
        InputError: nobody labelled is in the fold, or the sources or corrections are wrong.
    """
    table = read_table(sources, lenient=bad is not None)
    # Before any row is left out, or corrected: a person's fold must be the same for heads with other labels.
    table["fold"] = assign_folds(table, config.split.folds, config.split.strata, config.split.seed)
    if config.corrections is not None:
        table = apply_corrections(table, Path(config.corrections))
    rows = target.select_rows(table[~table["path"].isin(bad or {})])
    held_out = rows["fold"] == config.split.fold
    if not held_out.any():
        raise InputError(f"fold {config.split.fold}: found no labelled image, expected at least 1")
    return rows[~held_out].reset_index(drop=True), rows[held_out].reset_index(drop=True)
