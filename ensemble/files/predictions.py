"""Predictions of all tasks, in memory and as probabilities.npz.

Arrays of the file: `ImageID` [N]; for each task `NAME` [N, C] (all views merged), `NAME/identity` [N, C] (the identity
view alone) and `NAME/classes` [C]; rows of probabilities sum to 1. A task that predicts a number has `NAME/number`
[N] in its unit (NaN: the image could not be decoded). After `--views adaptive`, `NAME/views` [N] counts the views
used (0: the image could not be decoded); where it is 1, `NAME` equals `NAME/identity`. Where probabilities are
calibrated, `NAME/temperature` [] is what they were scaled by (`heads.objective.calibration.scale`).
"""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data.images.find import ID
from data.runtime.arrays import read_arrays
from data.runtime.files import write_atomically
from ensemble.files.submission import ANSWER, write_submission
from ensemble.joint import argmax

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "probabilities.npz"
IDENTITY, NUMBER, VIEWS, CLASSES, REASON = "identity", "number", "views", "classes", "reason"
PROBABILITY = "probability"
CHUNK = 4096
TEMPERATURE = "temperature"


class TaskOutput(NamedTuple):
    """Output of one task's heads for N images.

    Attributes:
        probabilities: float32 [N, C], all views merged; rows sum to 1.
        identity: float32 [N, C], those of the identity view alone.
        value: float32 [N], the expected number in the label's unit, mean over folds and views; None if the
            task predicts classes only.
        views: uint8 [N], number of views used for each image; None if every image was passed in all views.
    """

    probabilities: npt.NDArray[np.float32]
    identity: npt.NDArray[np.float32] | None = None
    value: npt.NDArray[np.float32] | None = None
    views: npt.NDArray[np.uint8] | None = None

    def first_view(self) -> npt.NDArray[np.float32]:
        """Probabilities of the identity view; ValueError if they are unknown."""
        if self.identity is None:
            raise ValueError("no probabilities of the identity view")
        return self.identity

    @classmethod
    def concat(cls, outputs: Sequence["TaskOutput"]) -> "TaskOutput":
        """Concatenate outputs for the images of at least one batch."""
        fields = zip(*outputs, strict=True)
        return cls(*(None if each[0] is None else np.concatenate(each) for each in fields))  # type: ignore[arg-type]


class TaskPrediction(NamedTuple):
    """One task's answer for one image.

    Attributes:
        label: name of the most probable class; None if the image could not be decoded.
        probability: of that class, 0..1; NaN if the image could not be decoded.
        value: the expected number in the label's unit, such as years; None if the task predicts classes only.
        probabilities: of all classes by name.
    """

    label: str | None
    probability: float
    value: float | None
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """The answer for one image; `face.mask` and `face["mask"]` are that of the task mask.

    Attributes:
        id: name of the image.
        code: joint code of the tasks' most probable classes.
        tasks: by name.
        error: why the image could not be decoded, or "".
    """

    id: str
    code: int
    tasks: Mapping[str, TaskPrediction]
    error: str = ""

    def __getitem__(self, task: str) -> TaskPrediction:
        return self.tasks[task]

    def __getattr__(self, name: str) -> TaskPrediction:
        try:
            return self.__dict__["tasks"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"{name}: no such task, found {', '.join(self.__dict__.get('tasks', ()))}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.tasks]

    def __str__(self) -> str:
        """Lines for a terminal: the image and its joint code, then every task's class."""
        lines = [f"{self.id}: {self.error or f'code {self.code}'}"]
        for name, task in self.tasks.items():
            if task.label is not None:
                number = "" if task.value is None else f", {task.value:.1f}"
                lines.append(f"  {name}: {task.label} ({task.probability:.1%}{number})")
        return "\n".join(lines)


@dataclass(frozen=True)
class Predictions:
    """Predictions of every task for N images: `predictions[0]` is the `Prediction` of the first one.

    >>> output = TaskOutput(np.array([[0.25, 0.75]], dtype=np.float32))
    >>> face = Predictions({"mask": output}, [""], ["a.jpg"], {"mask": ["wear", "normal"]})[0]
    >>> face.mask.label, face["mask"].probability, face.code
    ('normal', 0.75, 1)
    >>> print(face)
    a.jpg: code 1
      mask: normal (75.0%)

    Attributes:
        tasks: by name.
        errors: why each image could not be decoded, or ""; such an image has equal probabilities.
        ids: names of the images; parts of a submission have none.
        classes: class names of each task; likewise.
    """

    tasks: dict[str, TaskOutput]
    errors: list[str]
    ids: Sequence[str] = ()
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.errors)

    def __getitem__(self, row: int) -> Prediction:
        error, tasks = self.errors[row], {}
        for name, output in self.tasks.items():
            probabilities = dict(zip(self.classes[name], output.probabilities[row].tolist(), strict=True))
            value = None if output.value is None else float(output.value[row])
            label = None if error else self.classes[name][int(output.probabilities[row].argmax())]
            tasks[name] = TaskPrediction(label, nan if label is None else probabilities[label], value, probabilities)
        [code] = argmax([output.probabilities[[row]] for output in self.tasks.values()])
        return Prediction(self.ids[row], int(code), tasks, error)

    @classmethod
    def concat(cls, batches: Sequence["Predictions"]) -> "Predictions":
        """Concatenate the predictions of at least one batch along the images."""
        tasks = {name: TaskOutput.concat([batch.tasks[name] for batch in batches]) for name in batches[0].tasks}
        errors = [error for batch in batches for error in batch.errors]
        return cls(tasks, errors, [name for batch in batches for name in batch.ids], batches[0].classes)

    def columns(self) -> dict[str, list[Any]]:
        """The most probable class of each task, its probability and, if predicted, its number, by column [N].

        Those of an image that could not be decoded are None, NaN and NaN.
        """
        columns: dict[str, list[Any]] = {}
        for task, output in self.tasks.items():
            names, best = self.classes[task], output.probabilities.argmax(axis=1).tolist()
            largest = zip(output.probabilities.max(axis=1).tolist(), self.errors, strict=True)
            columns[task] = [None if bad else names[place] for place, bad in zip(best, self.errors, strict=True)]
            columns[f"{task}_{PROBABILITY}"] = [nan if bad else value for value, bad in largest]
            if output.value is not None:
                columns[f"{task}_{NUMBER}"] = output.value.tolist()
        return columns

    def to_frame(self) -> "pd.DataFrame":
        """Return a table with a row per image: ImageID, ans (the joint code), `columns` and, if any, `reason`s."""
        import pandas as pd  # late: it takes longer to import than everything else here

        return pd.DataFrame(self._table())

    def format_rows(self, count: int = 5) -> str:
        """Format the first rows of `to_frame` as text, aligned to the right as pandas does; it has one."""
        columns = [
            [f" {name}" if isinstance(values[0], int | float) else name, *map(_format_cell, values[:count])]
            for name, values in self._table().items()
        ]
        widths = [max(map(len, column)) for column in columns]
        rows = zip(*columns, strict=True)
        return "\n".join(" ".join(map(str.rjust, cells, widths)) for cells in rows)

    def _table(self) -> dict[str, list[Any]]:
        """Columns of `to_frame` by name."""
        table = {ID: list(self.ids), ANSWER: self.joint_codes().tolist(), **self.columns()}
        return table | ({REASON: list(self.errors)} if any(self.errors) else {})

    def to_submission(self, path: str | Path) -> None:
        """Write ImageID and ans, the joint code, of each image as CSV, atomically."""
        write_submission(Path(path), self.ids, self.joint_codes().tolist())

    def joint_codes(self) -> npt.NDArray[np.int64]:
        """Joint codes [N] of every task's most probable class."""
        return argmax([output.probabilities for output in self.tasks.values()])

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays by the names that probabilities.npz uses, and the errors as `reason`."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for task, output in self.tasks.items():
            fields = zip(_array_names(task), output, strict=True)
            arrays |= {name: array for name, array in fields if array is not None}
        return arrays | {REASON: np.array(self.errors, dtype=np.str_)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "Predictions":
        """Invert `to_arrays`."""
        names = [name for name in arrays if "/" not in name and name != REASON]
        tasks = {name: TaskOutput(*map(arrays.get, _array_names(name))) for name in names}  # type: ignore[arg-type]
        return cls(tasks, arrays[REASON].tolist())


def _format_cell(value: str | float | None) -> str:
    """Format a value for a terminal: three decimals, NaN for none, line breaks escaped."""
    if value is None or value != value:
        return "NaN"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value).translate({ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"})


def _array_names(task: str) -> tuple[str, ...]:
    """Array names of a `TaskOutput`'s fields."""
    return task, f"{task}/{IDENTITY}", f"{task}/{NUMBER}", f"{task}/{VIEWS}"


def write_probabilities(
    path: Path,
    ids: Sequence[str],
    classes: Mapping[str, Sequence[str]],
    parts: Iterable[Predictions],
    temperatures: Mapping[str, float],
) -> None:
    """Write the predictions of consecutive images to one .npz, atomically; `parts` is iterated once for each array."""
    with write_atomically(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        text = np.dtype(("U", max(map(len, ids), default=1)))
        chunks = (np.array(ids[start : start + CHUNK], dtype=text) for start in range(0, len(ids), CHUNK))
        _write_array(archive, ID, text, (len(ids),), chunks)
        first = next(iter(parts))
        for task, labels in classes.items():
            for field, (name, array) in enumerate(zip(_array_names(task), first.tasks[task], strict=True)):
                if array is not None:
                    shape = (len(ids), *array.shape[1:])
                    _write_array(archive, name, array.dtype, shape, (part.tasks[task][field] for part in parts))
            names = np.array(labels, dtype=np.str_)
            _write_array(archive, f"{task}/{CLASSES}", names.dtype, names.shape, [names])
            if task in temperatures:
                value = np.array(temperatures[task])
                _write_array(archive, f"{task}/{TEMPERATURE}", value.dtype, value.shape, [value])


def _write_array(
    archive: zipfile.ZipFile,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    chunks: Iterable[npt.NDArray[Any] | None],
) -> None:
    """Write one array as numpy's savez does, from consecutive chunks of its rows."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk, dtype).tobytes())


def read_probabilities(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a probabilities.npz by name; InputError if it is another file."""
    return read_arrays(path, "the .npz file of combine.py")
