"""combine.py against the plain loop: images a second, and whether the answers are the same."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from shutil import rmtree

import numpy as np
import pandas as pd

from bench.speed.results import ratio, spread, table
from bench.speed.running import Missing, python, read_output, run
from data.annotations.listing import ID, read_listing
from data.runtime.errors import InputError
from ensemble.config import load_tasks
from ensemble.files.predictions import FILE_NAME, read_arrays
from ensemble.files.submission import match, read_answers
from heads.build import load_head
from heads.objective.metrics import macro_f1
from heads.run.checkpoint import load_tensors, save_tensors
from heads.run.folder import run_folder

PLAIN, EXACT, FAST = "plain loop", "combine.py", "combine.py, fast"
ON_OPENVINO = "combine.py --engine openvino"
# Beside identity, which is always among them.
FURTHER_VIEWS = [
    *("hflip", {"shift": {"x": 0.04}}, {"shift": {"x": -0.04}}),
    *({"shift": {"y": 0.04}}, {"center_crop": {"share": 0.92}}),
]
START = 64  # images of the short run whose time is that of starting


@dataclass(frozen=True)
class Contender:
    """A command that answers a listing: its beginning, and its images a second in each round."""

    command: Sequence[str]
    speeds: list[float]


def measure(
    data: Path, runs: Path, config: Path, images: int, rounds: int, fast: Sequence[str], work: Path
) -> str:
    """The section: speeds over `rounds`, macro F1 and equality of answers, as Markdown.

    Images a second are those beyond a start: a run over `images` less a run over 64, which holds the imports,
    the opening of heads and, for engines, their compilation. What the fast contender costs in macro F1 is told
    on the whole listing, which it and the exact one answer once more, untimed.

    Args:
        data: info.csv, images/ and answers.csv.
        runs: trained heads, which are given six views each.
        images: of the listing that are answered.
        fast: options of combine.py for the fast contender.
        work: a folder for copies and answers.
    """
    ids = read_listing(data / "info.csv")
    if not START < images <= len(ids):
        raise InputError(f"--images {images}: expected more than {START}, at most the {len(ids)} of {data}")
    with_six_views(runs, list(load_tasks(config)), work / "runs")
    listings = {count: listing(data, ids, count, work / f"images-{count}") for count in (START, images)}
    given = ["--config", config, "--runs", work / "runs"]
    contenders = {
        PLAIN: Contender(python("-m", "bench.plain", "answer", *given), []),
        EXACT: Contender(python("combine.py", *given), []),
        ON_OPENVINO: Contender(python("combine.py", *given, "--engine", "openvino"), []),
        FAST: Contender(python("combine.py", *given, *fast), []),
    }
    missing: dict[str, str] = {}
    for name, contender in contenders.items():
        try:  # what is chosen or compiled once and kept, such as margins, is not timed
            answer(contender, listings[START], work / "start")
        except Missing as absent:
            missing[name] = str(absent)
    for _ in range(rounds):
        for name in [name for name in contenders if name not in missing]:
            took = [answer(contenders[name], listings[n], work / name / str(n)) for n in (START, images)]
            if took[1] <= took[0]:
                raise InputError(f"--images {images}: too few to be told from a start; give more")
            contenders[name].speeds.append((images - START) / (took[1] - took[0]))
    page = _page(contenders, missing, data, config, work, images, fast)
    if FAST in missing:
        return page
    whole = listing(data, ids, len(ids), work / "images-all")
    for name in (EXACT, FAST):
        answer(contenders[name], whole, work / name / "all")
    return f"{page}\n\n{_of_all(data, config, work / EXACT / 'all', work / FAST / 'all')}"


def answer(contender: Contender, data: Path, out: Path) -> float:
    """Seconds to answer a listing into `out`."""
    rmtree(out, ignore_errors=True)
    return run([*contender.command, "--data", str(data), "--out", str(out / "submission.csv")]).seconds


def with_six_views(runs: Path, tasks: Sequence[str], into: Path) -> None:
    """Copies of the runs whose heads have six views each; all but the checkpoint are links."""
    for task in tasks:
        source, copy = run_folder(runs, task), run_folder(into, task)
        load_head(source.best)  # refuses what is none
        copy.folder.mkdir(parents=True, exist_ok=True)
        for path in source.folder.iterdir():
            # What is hidden is written to by whoever runs: locks, heads in int8.
            if path not in (source.best, source.folder / "manifest.json") and not path.name.startswith("."):
                link = copy.folder / path.name
                link.unlink(missing_ok=True)
                link.symlink_to(path.resolve())
        tensors, description = load_tensors(source.best)
        description["config"]["views"] = {"steps": FURTHER_VIEWS, "merge": "mean"}
        save_tensors(copy.best, tensors, description)


def listing(data: Path, ids: Sequence[str], count: int, folder: Path) -> Path:
    """A folder that lists `count` of the images, evenly spread, and links to all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "images").unlink(missing_ok=True)
    (folder / "images").symlink_to((data / "images").resolve())
    with (folder / "info.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([ID])
        writer.writerows([ids[place]] for place in np.linspace(0, len(ids) - 1, count).astype(int))
    return folder


def _of_all(data: Path, config: Path, exact: Path, fast: Path) -> str:
    """What the fast contender's answers to the whole listing are, beside the exact one's."""
    classes = prod(len(names) for names in load_tasks(config).values())
    truth = read_answers(data / "answers.csv", classes)
    first, second = (read_answers(out / "submission.csv", classes) for out in (exact, fast))
    one, two = (_joint_f1(truth, answers, classes) for answers in (first, second))
    same = float(np.mean(np.equal(*match(first, second))))
    told = f"joint macro F1 {one:.4f} exact, {two:.4f} fast; {same:.2%} of the answers are the same"
    return f"On all {len(truth)} images: {told}."


def _joint_f1(truth: pd.DataFrame, answers: pd.DataFrame, classes: int) -> float:
    """Macro F1 over all joint classes, of the images that are answered."""
    right, given = match(answers, truth[truth[ID].isin(answers[ID])])
    return macro_f1(right, given, classes)


def _page(
    contenders: Mapping[str, Contender],
    missing: Mapping[str, str],
    data: Path,
    config: Path,
    work: Path,
    images: int,
    fast: Sequence[str],
) -> str:
    tasks = list(load_tasks(config))
    classes = prod(len(names) for names in load_tasks(config).values())
    rows = []
    for name, contender in contenders.items():
        if name in missing:
            rows.append([name, missing[name], "", "", "", ""])
            continue
        out = work / name / str(images)
        answers = read_answers(out / "submission.csv", classes)
        plain = read_answers(work / PLAIN / str(images) / "submission.csv", classes)
        truth = read_answers(data / "answers.csv", classes)
        said, plainly = (read_arrays(folder / FILE_NAME) for folder in (out, work / PLAIN / str(images)))
        rows.append(
            [
                name,
                spread(contender.speeds),
                ratio(contender.speeds, contenders[PLAIN].speeds),
                f"{_joint_f1(truth, answers, classes):.4f}",
                f"{np.mean(np.equal(*match(answers, plain))):.2%}",
                f"{max(np.abs(said[task] - plainly[task]).max() for task in tasks):.1e}",
            ]
        )
    header = ["", "images a second", "times plain", "joint macro F1", "answers as plain", "largest difference"]
    told = f"{images} images, {len(tasks)} heads, six views each; fast is `{' '.join(read_output(fast))}`."
    return f"{told}\n\n{table(header, rows)}"
