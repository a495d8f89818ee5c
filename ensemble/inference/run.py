"""From predictions to the submission, one part at a time: memory does not grow with the number of images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from data.images.find import ID
from data.runtime.files import remove_unfinished
from data.runtime.signals import StopSignal
from ensemble.files.predictions import FILE_NAME, NUMBER, REASON, Predictions, write_probabilities
from ensemble.files.submission import write_rows, write_submission
from ensemble.inference.parts import ResultParts

UNDECODABLE = "unseen.csv"


def write_parts(parts: ResultParts, start: int, predictions: Iterable[Predictions], rows: int) -> None:
    """Write the predictions of the images from `start` on, in parts of at least `rows` images.

    Raises:
        StopSignal: a signal ended the run; what was predicted is saved.
    """
    total = len(parts.paths)
    if start:
        print(f"resuming after {start} of {total} images", flush=True)
    try:
        with tqdm(desc="combine", total=total, initial=start, disable=None, unit="image") as bar:
            for part in _group(predictions, rows, bar):
                start = parts.write(start, part)
    except StopSignal as stop:
        stop.saved = f"predictions of {start} of {total} images are saved; the same command resumes"
        raise


def _group(predictions: Iterable[Predictions], rows: int, bar: tqdm) -> Iterator[Predictions]:  # type: ignore[type-arg]
    """Concatenate predictions until they have `rows` images; a signal ends the last part early."""
    pending: list[Predictions] = []
    try:
        for each in predictions:
            pending.append(each)
            bar.update(len(each))
            if sum(map(len, pending)) >= rows:
                part, pending = pending, []
                yield Predictions.concat(part)
    except StopSignal:
        if pending:
            yield Predictions.concat(pending)
        raise
    if pending:
        yield Predictions.concat(pending)


def write_results(
    out: Path, ids: Sequence[str], classes: Mapping[str, Sequence[str]], parts: ResultParts
) -> int:
    """Write probabilities.npz, the submission `out` and the list of images that could not be decoded.

    Returns the number of those images; without any, the list of an earlier run is removed.
    """
    beside = out.parent / UNDECODABLE
    for path in (out.parent / FILE_NAME, out, beside):
        remove_unfinished(out.parent, path.stem)
    write_probabilities(out.parent / FILE_NAME, ids, classes, parts)
    write_submission(out, ids, (code for part in parts for code in part.joint_codes().tolist()))
    errors = (error for part in parts for error in part.errors)
    bad = [(name, error) for name, error in zip(ids, errors, strict=True) if error]
    if bad:
        write_rows(beside, [ID, REASON], bad)
    else:
        beside.unlink(missing_ok=True)
    return len(bad)


def write_names(
    out: Path, ids: Sequence[str], classes: Mapping[str, Sequence[str]], parts: ResultParts
) -> None:
    """Write each image's most probable class of every task by name, its probability, and numbers, as CSV.

    They are empty for an image that could not be decoded.
    """
    first = next(iter(parts))
    header = [ID]
    for task in classes:
        number = [] if first.tasks[task].value is None else [f"{task}_{NUMBER}"]
        header += [task, f"{task}_probability", *number]
    empty = [""] * (len(header) - 1)
    rows = (
        empty if error else _describe(part, classes, row)
        for part in parts
        for row, error in enumerate(part.errors)
    )
    write_rows(out, header, ([name, *row] for name, row in zip(ids, rows, strict=True)))


def _describe(part: Predictions, classes: Mapping[str, Sequence[str]], row: int) -> list[str]:
    """Class, its probability and the number, if there is one, of each task for one image."""
    cells = []
    for task, output in part.tasks.items():
        place = int(output.probabilities[row].argmax())
        number = [] if output.value is None else [f"{output.value[row]:.1f}"]
        cells += [classes[task][place], f"{output.probabilities[row, place]:.3f}", *number]
    return cells
