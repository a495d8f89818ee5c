"""Ground truth of images: as joint codes, or as the label of each task."""

from collections.abc import Mapping
from itertools import chain
from math import prod
from pathlib import Path

import pandas as pd

from data.images.find import ID
from data.runtime.errors import InputError
from ensemble.files.submission import ANSWER, read_codes, read_columns
from ensemble.joint import encode
from heads.config.task import Label


def read_ground_truth(path: Path, labels: Mapping[str, Label]) -> pd.DataFrame:
    """Read the ground truth of a CSV file, as `ensemble.files.submission.read_codes` returns it.

    Args:
        path: it has `ImageID`, and `ans` or, without that, each column that the labels are read from, as a
            labels.csv has them.
        labels: of each task of the joint code, the most significant digit first.

    Raises:
        InputError: neither is there, or bad rows, all of a column at once.
    """
    columns = list(dict.fromkeys(chain.from_iterable(map(_columns_of, labels.values()))))
    table = read_columns(path, [ID], [ANSWER, *columns])
    classes = [len(label.classes) for label in labels.values()]
    if ANSWER in table:
        return read_codes(path, prod(classes))
    if missing := [column for column in columns if column not in table]:
        found = f"found neither {ANSWER} nor {', '.join(missing)}"
        expected = f"expected {ANSWER}, or {', '.join(columns)} beside {ID}"
        raise InputError(f"{path}: row 1: {found}; {expected}")
    from heads.build import build_target  # loads torch, which codes do not need

    named = table.assign(path=[f"{path}: row {row}" for row in table.index])
    digits = [build_target(label).class_indices(named) for label in labels.values()]
    return table[[ID]].assign(**{ANSWER: encode(digits, classes)})


def _columns_of(label: Label) -> list[str]:
    """The columns that a label is read from."""
    return [part.column for part in label.parts] if label.column is None else [label.column]
