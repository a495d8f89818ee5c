"""Split of the labelled images: a training and a validation set that share no person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from data.annotations.corrections import apply_corrections
from data.annotations.folds import assign_folds, missing_strata, read_folds
from data.annotations.table import read_table
from data.images.decode import find_undecodable, undecodable_message
from data.runtime.errors import InputError
from heads.objective.targets import Target


@dataclass(frozen=True)
class DataSplit:
    """The rows that one head is trained and validated on, read once per run.

    Attributes:
        target: of the head.
        images: all images that can be decoded, also those without this label.
        train: rows of the training set, labelled.
        valid: rows of the validation set, the held-out fold; no person is in both.
        labels: class index of each training row, int64 [N]; where it has no label, -1 or the teacher's class.
        targets: what the loss of each training row is computed with, [N], [N, outputs] or [N, outputs + K] with a
            teacher of K probabilities or an embedding of this size (`Target.join_teacher`).
        counts: labelled training rows of each class, int64 [C].
        valid_labels: class index of each validation row, int64 [M].
        valid_values: number of each validation row, float64 [M], if the target is a distribution.
        fold_of: the fold of everybody in the sources.
        bad: the error of each image that is left out, by path.
        warnings: lines for the user; may be empty.
        teacher_names: classes or numbers of a teacher's probabilities, [K]; empty without a teacher.
        embedded: size of a teacher's embeddings, 0 without.
    """

    target: Target
    images: pd.DataFrame
    train: pd.DataFrame
    valid: pd.DataFrame
    labels: npt.NDArray[np.int64]
    targets: Tensor
    counts: npt.NDArray[np.int64]
    valid_labels: npt.NDArray[np.int64]
    valid_values: npt.NDArray[np.float64] | None
    fold_of: Mapping[str, int]
    bad: Mapping[str, str]
    warnings: str
    teacher_names: tuple[str, ...] = ()
    embedded: int = 0

    @property
    def summary(self) -> str:
        """The numbers of images, by class for training."""
        counts = ", ".join(f"{name} {n}" for name, n in zip(self.target.classes, self.counts, strict=True))
        unlabelled = len(self.train) - int(self.counts.sum())
        counts += f", without a label {unlabelled}" if unlabelled else ""
        return f"{len(self.train)} images to train ({counts}), {len(self.valid)} to validate"

    def add_teacher(self, names: Sequence[str], probabilities: npt.NDArray[np.float32]) -> "DataSplit":
        """Add a teacher's probabilities [N, K] of these classes or numbers to the targets; NaN where it has none.

        Rows that have neither a label nor a teacher are left out. Those without a label count as of the teacher's
        class where classes are balanced.
        """
        target, pool = self.target, self.target.pool.numpy()
        if list(names) != target.names or target.numbers is None:
            pool = np.array([target.classes.index(name) for name in names])
        classes = probabilities @ np.eye(len(target.classes), dtype=np.float32)[pool]
        labels = np.where(self.labels < 0, classes.argmax(axis=1), self.labels)
        rows = np.flatnonzero((self.labels >= 0) | ~np.isnan(probabilities).any(axis=1))
        return replace(
            self,
            train=self.train.iloc[rows].reset_index(drop=True),
            labels=labels[rows],
            targets=target.join_teacher(self.targets, torch.from_numpy(probabilities))[rows],
            teacher_names=tuple(names),
        )

    def add_embeddings(self, embeddings: npt.NDArray[np.float32]) -> "DataSplit":
        """Add a teacher's embeddings [N, D] to the targets, scaled to mean 0 and variance 1; NaN where it has none."""
        known = embeddings[~np.isnan(embeddings).any(axis=1)].astype(np.float64)
        spread = known.std(axis=0)
        constant = spread <= 1e-6 * np.abs(known).max()  # up to rounding
        scaled = (embeddings - known.mean(axis=0)) / np.where(constant, 1.0, spread)
        targets = self.target.join_teacher(self.targets, torch.from_numpy(scaled).float())
        return replace(self, targets=targets, embedded=embeddings.shape[1])


def load_split(
    sources: Sequence[Path],
    target: Target,
    folds: int,
    fold: int,
    strata: Mapping[str, Sequence[float]],
    seed: int,
    folds_file: Path | None = None,
    corrections: Path | None = None,
    skip_bad: bool = False,
    unlabelled: bool = False,
) -> DataSplit:
    """Read the sources and split the images that have the target's label.

    Args:
        sources: see `data.annotations.table.read_table`.
        folds, strata, seed: see `data.annotations.folds.assign_folds`; `fold` is held out for validation.
        folds_file: has the folds of people who were split before (`data.annotations.folds.store_folds`).
        corrections: CSV file of label corrections.
        skip_bad: leave out images that cannot be decoded, instead of failing at the first.
        unlabelled: the training set ends with the images that have no label, for `DataSplit.add_teacher`.
    """
    table = read_table(sources, lenient=skip_bad)
    bad = find_undecodable(table["path"].tolist()) if skip_bad else {}
    warnings = f"{undecodable_message(bad)}\n" if bad else ""
    # Before rows are left out or corrected: a person's fold must be the same for heads with other labels.
    known = {} if folds_file is None else read_folds(folds_file, folds)
    table["fold"] = assign_folds(table, folds, strata, seed, known)
    fold_of = dict(zip(table["person"], table["fold"].tolist(), strict=True))
    warnings += missing_strata(strata, list(table.columns))
    if corrections is not None:
        table = apply_corrections(table, corrections)
    images = table[~table["path"].isin(bad)]
    rows = target.select_rows(images)
    indices = target.class_indices(rows)
    held_out = (rows["fold"] == fold).to_numpy()
    if not held_out.any():
        raise InputError(f"fold {fold}: found no labelled image, expected at least 1")
    train, valid = (rows[chosen].reset_index(drop=True) for chosen in (~held_out, held_out))
    counts = np.bincount(indices[~held_out], minlength=len(target.classes))
    if not counts.all():
        missing = [repr(name) for name, count in zip(target.classes, counts, strict=True) if not count]
        raise InputError(f"the training set has no image of class {', '.join(missing)}, expected at least 1 of each")
    labels, targets = indices[~held_out], target.encode(train)
    if unlabelled:
        others = images[(images["fold"] != fold) & ~images["path"].isin(rows["path"])]
        train = pd.concat([train, others], ignore_index=True)
        labels = np.concatenate([labels, np.full(len(others), -1)])
        no_label = torch.full((len(others), *targets.shape[1:]), -(targets.ndim == 1), dtype=targets.dtype)
        targets = torch.cat([targets, no_label])
    return DataSplit(
        target,
        images,
        train,
        valid,
        labels,
        targets,
        counts,
        indices[held_out],
        target.values(valid).numpy() if target.numbers else None,
        fold_of,
        bad,
        warnings + unnamed_people(rows),
    )


def unnamed_people(rows: pd.DataFrame) -> str:
    """Warn of sources in which nobody has two images, so that folds may not separate people, a line each.

    >>> rows = {"source": ["a", "a", "b", "b"], "person": ["a/1", "a/1", "b/1", "b/2"]}
    >>> unnamed_people(pd.DataFrame(rows))
    'b: 2 images of 2 people; if some are of the same person, add a column person\\n'
    """
    return "".join(
        f"{source}: {len(people)} images of {len(people)} people; if some are of the same person, add a column person\n"
        for source, people in rows.groupby("source")["person"]
        if 1 < len(people) == people.nunique()
    )
