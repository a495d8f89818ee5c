"""combine.py against a plain and a good loop: whole processes, images per second, equality of the answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from statistics import median

import numpy as np

from bench.held_out import predict_task
from bench.markdown import table
from bench.speed.images import Listing, read_heads, shared_images, write_listing
from bench.speed.results import ratio, spread
from bench.speed.running import Process, run, watched, without_folders
from bench.validation import select
from data.runtime.processes import usable_workers
from ensemble.files.predictions import FILE_NAME, read_probabilities
from ensemble.inference.choice import MIN_IMAGES
from ensemble.inference.load import load_task_heads
from ensemble.inference.predictor import choose_views
from ensemble.joint import argmax, load_tasks
from heads.objective.metrics import macro_f1

PLAIN, GOOD, DEFAULT = "plain loop", "good loop", "combine.py"
EXACT = ("--views", "all", "--engine", "torch", "--precision", "fp32")


@dataclass(frozen=True)
class Contender:
    """A command that answers a listing, the folder of its answers, and its processes of each round."""

    command: Sequence[str]
    folder: Path
    rounds: list[Process] = field(default_factory=list)

    def answer(self, listing: Listing, name: str = "timed") -> Process:
        """Answer a listing into the subfolder `name`."""
        rmtree(self.folder / name, ignore_errors=True)
        out = self.folder / name / "submission.csv"
        return run([*self.command, "--data", str(listing.folder), "--out", str(out)])

    def probabilities(self, tasks: Sequence[str], count: int) -> list[np.ndarray]:
        """Probabilities [count, C] of each task for the first images of the timed listing."""
        arrays = read_probabilities(self.folder / "timed" / FILE_NAME)
        return [arrays[task][:count] for task in tasks]

    def seconds(self) -> list[float]:
        return [each.seconds for each in self.rounds]

    def speeds(self, count: int) -> list[float]:
        """Images per second from the first batch on, to the end of the process."""
        return [count / (each.seconds - each.first) for each in self.rounds]


def measure(runs: Path, config: Path, images: int, rounds: int, fast: Sequence[str], work: Path) -> str:
    """Write the section: whole processes over `rounds`, macro F1 and equality of answers, as Markdown.

    Args:
        runs: trained heads.
        config: joint.yaml.
        images: number of images to answer, of people whom all heads were validated on.
        fast: options of combine.py for the fast contender, which has the good loop's views at most.
    """
    tasks = load_tasks(config)
    paths, codes = shared_images(read_heads(runs, list(tasks)), [len(names) for names in tasks.values()])
    listing, start = (write_listing(paths, count, work / f"images-{count}") for count in (images, MIN_IMAGES))
    options = ["--config", config, "--runs", runs]
    plain, ours = ["bench.plain", "answer", *options], ["combine.py", *options, "--raw-probabilities"]
    contenders: dict[str, Contender] = {}
    reference: dict[str, str] = {}  # the loop whose views a contender has
    for name, command, other in (
        (PLAIN, plain, PLAIN),
        (GOOD, [*plain, "--good"], PLAIN),
        (f"{DEFAULT} {' '.join(EXACT)}", [*ours, *EXACT], PLAIN),
        (DEFAULT, ours, GOOD),
        (f"{DEFAULT} {without_folders(fast)}", [*ours, *fast], GOOD),
    ):
        contenders[name], reference[name] = Contender(watched(*command), work / f"answers-{len(contenders)}"), other
    for contender in list(contenders.values())[-2:]:  # engines and exit threshold are chosen and stored now
        contender.answer(start)
    for _ in range(rounds):
        for contender in contenders.values():
            contender.rounds.append(contender.answer(listing))
    places = [paths.index(path) for path in listing.paths]
    names, seconds, rows = list(tasks), {name: each.seconds() for name, each in contenders.items()}, []
    for name, own in contenders.items():
        found, expected = (each.probabilities(names, len(places)) for each in (own, contenders[reference[name]]))
        f1 = macro_f1(codes[places], argmax(found), int(np.prod([len(each) for each in tasks.values()])))
        same = np.mean(argmax(found) == argmax(expected))
        difference = max(np.abs(each - other).max() for each, other in zip(found, expected, strict=True))
        times = [ratio(seconds[name], seconds[each], smaller_is_better=True) for each in (PLAIN, GOOD)]
        first, speed = spread([each.first for each in own.rounds]), spread(own.speeds(images))
        answers = [f"{f1:.4f}", f"{same:.2%} of the {reference[name]}'s", f"{difference:.1e}"]
        rows.append([name, spread(seconds[name]), *times, first, speed, *answers])
    header = ["whole process", "seconds", "times plain", "times good", "first batch after", "images a second after it"]
    header += ["joint macro F1", "equal answers", "largest difference"]
    intro = (
        f"{describe(listing)} of people whom all {len(tasks)} heads were validated on. The plain loop takes all "
        "views, a pass each; the good loop takes the default ones."
    )
    return f"{intro}\n\n{table(header, rows)}"


def describe(listing: Listing) -> str:
    """Describe a listing: its images, and whether they repeat."""
    repeated = f" ({len(listing.paths)} images and copies of them)" if len(listing.paths) < listing.count else ""
    return f"{listing.count} images{repeated}"


def measure_fast(runs: Path, config: Path, images: int, rounds: int, fast: Sequence[str], work: Path) -> str:
    """Write the section on many images: speed with the fast options, and macro F1 against all views in float32.

    Its arguments are those of `measure`; the images are all that any head was validated on.
    """
    tasks = list(load_tasks(config))
    heads = read_heads(runs, tasks)
    paths = sorted({path for head in heads.values() for path in head["path"].tolist()})
    listing = write_listing(paths, max(images, len(paths)), work / "images-fast")
    command = ["combine.py", "--config", config, "--runs", runs, "--raw-probabilities", *fast]
    contender = Contender(watched(*command), work / "answers-fast")
    contender.answer(write_listing(paths, MIN_IMAGES, work / "images-start"))
    for _ in range(rounds):
        contender.rounds.append(contender.answer(listing))
    rows, workers = [], usable_workers(None)
    found = dict(zip(tasks, contender.probabilities(tasks, len(paths)), strict=True))
    for name, task in load_task_heads(runs, dict.fromkeys(tasks)).items():
        head = heads[name]
        paths_of_head = [Path(path) for path in head["path"]]
        exact = predict_task(choose_views(task, "all"), paths_of_head, workers).probabilities
        answers = {"path": np.array(paths), "probabilities": found[name]}
        quick = select(answers, head["path"].tolist())["probabilities"]
        scores = [macro_f1(head["truth"], each.argmax(axis=1), each.shape[1]) for each in (exact, quick)]
        same = np.mean(exact.argmax(axis=1) == quick.argmax(axis=1))
        cells = [f"{scores[0]:.4f}", f"{scores[1]:.4f}", f"{scores[1] - scores[0]:+.4f}", f"{same:.2%}"]
        rows.append([name, str(len(exact)), *cells])
    speed, memory = spread(contender.speeds(listing.count)), median(each.peak for each in contender.rounds)
    intro = (
        f"{describe(listing)}, all that the heads were validated on; `combine.py {without_folders(fast)}`: "
        f"{spread(contender.seconds())} s the whole process, {speed} images a second from its first batch on, "
        f"{memory:.0f} MB at its peak. Exact is all views in float32."
    )
    header = ["macro F1", "validation images", "exact", "fast", "difference", "equal answers"]
    return f"{intro}\n\n{table(header, rows)}"
