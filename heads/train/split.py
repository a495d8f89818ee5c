"""Who a head is trained on, who judges it, and how many of each class they are."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from accelerate import Accelerator

from data.runtime.errors import did_you_mean
from heads.build import build_target
from heads.config.task import TaskConfig
from heads.train.rows import find_bad_images, split_rows
from heads.train.sampler import class_counts


@dataclass(frozen=True)
class DataSplit:
    """Who is trained on, and who judges.

    Attributes:
        train: the rows to train on.
        valid: those to validate on; no person is in both.
        labels: class index of each row to train on, [N] int64.
        counts: of those by class, [C] int64.
        bad: what is wrong with each image that is left out; None where the first one ends the run.
    """

    train: pd.DataFrame
    valid: pd.DataFrame
    labels: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    bad: Mapping[str, str] | None


def load_split(config: TaskConfig, sources: list[Path], skip_bad: bool, accelerator: Accelerator) -> DataSplit:
    """Read who is trained on and who judges, and tell how many they are.

    Args:
        config: its label, split and corrections.
        sources: as `data.annotations.table.read_table` takes them.
        skip_bad: whether images that cannot be decoded are left out rather than an error.
        accelerator: whose first process tells.

    Raises:
        InputError: as `heads.train.rows.split_rows` does.
    """
    target = build_target(config.label)
    bad = find_bad_images(sources) if skip_bad else None
    train, valid = split_rows(config, sources, target, bad)
    labels = target.class_indices(train)
    counts = class_counts(labels, target.classes)
    if accelerator.is_main_process:
        notes = missing_strata_warning(config.split.strata, list(valid.columns))
        print(notes + unnamed_people_warning(pd.concat([train, valid])), end="", file=sys.stderr, flush=True)
    told = ", ".join(f"{name} {count}" for name, count in zip(target.classes, counts, strict=True))
    accelerator.print(f"{config.task}: {len(train)} images to train ({told}), {len(valid)} to validate")
    return DataSplit(train, valid, labels, counts, bad)


def missing_strata_warning(strata: Iterable[str], columns: Sequence[str]) -> str:
    """What to tell the user where no source has a column that folds are balanced by; else nothing.

    It is no error: heads that are merged share their `split`, and images of masks alone have no age.
    """
    told = ""
    for name in strata:
        if name not in columns:
            advice = did_you_mean(name, columns)
            told += f"split.strata: no source has a column {name!r}; folds are not balanced by it{advice}\n"
    return told


def unnamed_people_warning(rows: pd.DataFrame) -> str:
    """What to tell of sources in which nobody has two images, so that folds may not keep people apart.

    >>> rows = {"source": ["a", "a", "b", "b"], "person": ["a/1", "a/1", "b/1", "b/2"]}
    >>> unnamed_people_warning(pd.DataFrame(rows))
    'b: 2 images of 2 people; if some show the same person, say so in a column person\\n'
    """
    told = ""
    for source, of in rows.groupby("source")["person"]:
        if 1 < len(of) == of.nunique():
            advice = "if some show the same person, say so in a column person"
            told += f"{source}: {len(of)} images of {len(of)} people; {advice}\n"
    return told
