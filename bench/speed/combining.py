"""combine.py against the plain loop: images per second, and whether the answers are the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from shutil import copytree, ignore_patterns, rmtree

import numpy as np
import pandas as pd

from bench.markdown import table
from bench.speed.results import ratio, spread
from bench.speed.running import python, run, without_folders
from data.images.find import ID, read_listing
from data.runtime.errors import InputError
from ensemble.files.predictions import FILE_NAME, read_probabilities
from ensemble.files.submission import match, read_codes
from ensemble.joint import load_tasks
from heads.objective.metrics import macro_f1
from heads.run.checkpoint import load_tensors, save_tensors
from heads.run.folder import run_folder

PLAIN, EXACT, FAST = "plain loop", "combine.py", "combine.py, fast"
FURTHER_VIEWS = [  # beside the identity
    *("hflip", {"shift": {"x": 0.04}}, {"shift": {"x": -0.04}}),
    *({"shift": {"y": 0.04}}, {"center_crop": {"share": 0.92}}),
]
START = 64  # images of the short run, whose time is that of starting


@dataclass(frozen=True)
class Contender:
    """A command that answers a listing, the folder of its answers, and its images per second in each round."""

    command: Sequence[str]
    folder: Path
    speeds: list[float] = field(default_factory=list)

    def answer(self, listing: Path, name: str) -> float:
        """Answer a listing into the subfolder `name`; return the seconds."""
        out = self.folder / name
        rmtree(out, ignore_errors=True)
        return run([*self.command, "--data", str(listing), "--out", str(out / "submission.csv")]).seconds


def measure(data: Path, runs: Path, config: Path, images: int, rounds: int, fast: Sequence[str], work: Path) -> str:
    """Write the section: speeds over `rounds`, macro F1 and equality of answers, as Markdown.

    Images per second are those after the start: the time of a run over `images` minus that of a run over 64,
    which covers imports, loading of heads and, for engines, compilation. Macro F1 of the fast contender is also
    compared on the whole listing, untimed.

    Args:
        data: info.csv, images/ and answers.csv.
        runs: trained heads; copies of them get six views each.
        config: joint.yaml.
        images: number of images to answer.
        fast: options of combine.py for the fast contender.
    """
    ids, tasks = read_listing(data / "info.csv"), load_tasks(config)
    if not START < images <= len(ids):
        raise InputError(f"--images {images}: expected more than {START}, at most the {len(ids)} of {data}")
    copy_with_six_views(runs, list(tasks), work / "runs")
    counts = {"start": START, "timed": images, "all": len(ids)}
    listings = {name: write_listing(data, ids, n, work / f"images-{name}") for name, n in counts.items()}
    options = ["--config", config, "--runs", work / "runs"]
    ours = python("combine.py", *options, "--raw-probabilities")  # which the plain loop's are
    commands = {
        PLAIN: python("-m", "bench.plain", "answer", *options),
        EXACT: ours,
        "combine.py --engine openvino": [*ours, "--engine", "openvino"],
        FAST: [*ours, *fast],
    }
    contenders = {name: Contender(command, work / name) for name, command in commands.items()}
    for contender in contenders.values():  # exit thresholds and int8 heads are cached then, and not timed
        contender.answer(listings["start"], "start")
    for _ in range(rounds):
        for contender in contenders.values():
            start, whole = (contender.answer(listings[each], each) for each in ("start", "timed"))
            if whole <= start:
                raise InputError(f"--images {images}: takes no longer than the start; give more")
            contender.speeds.append((images - START) / (whole - start))
    truth = read_codes(data / "answers.csv", prod(map(len, tasks.values())))
    rows = [_row(name, contenders, tasks, truth) for name in contenders]
    header = ["", "images a second", "times plain", "joint macro F1", "answers as plain", "largest difference"]
    page = f"{images} images, {len(tasks)} heads, six views each; fast is `{without_folders(fast)}`."
    exact, quick = contenders[EXACT], contenders[FAST]
    for contender in (exact, quick):
        contender.answer(listings["all"], "all")
    f1, same = _compare(exact.folder / "all", quick.folder / "all", tasks, truth)
    fast_f1, _ = _compare(quick.folder / "all", exact.folder / "all", tasks, truth)
    figures = f"joint macro F1 {f1:.4f} exact, {fast_f1:.4f} fast; {same:.2%} of the answers are the same"
    return f"{page}\n\n{table(header, rows)}\n\nOn all {len(truth)} images: {figures}."


def _row(
    name: str, contenders: Mapping[str, Contender], tasks: Mapping[str, Sequence[str]], truth: pd.DataFrame
) -> list[str]:
    """The table's row of one contender, compared with the plain loop."""
    own, plain = contenders[name], contenders[PLAIN]
    f1, same = _compare(own.folder / "timed", plain.folder / "timed", tasks, truth)
    arrays, plain_arrays = (read_probabilities(each.folder / "timed" / FILE_NAME) for each in (own, plain))
    difference = max(np.abs(arrays[task] - plain_arrays[task]).max() for task in tasks)
    speed = [spread(own.speeds), ratio(own.speeds, plain.speeds)]
    return [name, *speed, f"{f1:.4f}", f"{same:.2%}", f"{difference:.1e}"]


def _compare(folder: Path, other: Path, tasks: Mapping[str, Sequence[str]], truth: pd.DataFrame) -> tuple[float, float]:
    """Joint macro F1 of the answers in `folder`, and the share that are the same in `other`."""
    classes = prod(map(len, tasks.values()))
    codes, others = (read_codes(each / "submission.csv", classes) for each in (folder, other))
    right, answers = match(codes, truth[truth[ID].isin(codes[ID])])
    return macro_f1(right, answers, classes), float(np.mean(np.equal(*match(codes, others))))


def copy_with_six_views(runs: Path, tasks: Sequence[str], into: Path) -> None:
    """Copy runs, with six views in each head's config."""
    for task in tasks:
        source, copy = run_folder(runs, task), run_folder(into, task)
        # Hidden files are written during inference: locks, heads in int8.
        ignored = ignore_patterns(".*", "manifest.json", "last.safetensors", "tensorboard")
        copytree(source.folder, copy.folder, ignore=ignored, dirs_exist_ok=True)
        tensors, description = load_tensors(source.best)
        description["config"]["views"] = {"steps": FURTHER_VIEWS, "merge": "mean"}
        save_tensors(copy.best, tensors, description)


def write_listing(data: Path, ids: Sequence[str], count: int, folder: Path) -> Path:
    """Write a folder that lists `count` of the images, evenly spread, and links to all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "images").unlink(missing_ok=True)
    (folder / "images").symlink_to((data / "images").resolve())
    chosen = [ids[place] for place in np.linspace(0, len(ids) - 1, count).astype(int)]
    pd.DataFrame({ID: chosen}).to_csv(folder / "info.csv", index=False)
    return folder
