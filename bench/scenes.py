"""What face boxes are worth: faces pasted into larger scenes, answered whole and by their boxes.

python -m bench.scenes --data path/to/eval --runs RUNS --out docs/boxes-figures.md

Each photograph of an evaluation folder is made smaller and put into a scene of blurred blocks and noise.
Three heads, trained on photographs as they are, answer the photographs, the scenes, and the scenes by the boxes
that `data.boxes` finds. Nothing is trained.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from data.images.decode import decode
from data.images.find import find_images
from data.runtime.errors import InputError, add_debug_option, run_script, whole_number_from
from data.runtime.files import write_text
from ensemble.config import load_tasks
from ensemble.files.submission import match, read_answers
from ensemble.metrics.scores import score_joint

JOINT_YAML = Path("configs/joint.yaml")
WIDTH, HEIGHT = 640, 480
SHARES = (0.3, 0.6)  # of the scene's height that the photograph takes
PAGE = """# Face boxes

Written by `python -m bench.scenes`: {count} photographs, alone and pasted into scenes of {width} x {height}
pixels at {low:.0%} to {high:.0%} of their height. {found} Macro F1:

| shown | joint | {tasks} |
| --- | --- |{rule}
{rows}
"""


def paste(path: Path, scene_file: Path, seed: int) -> None:
    """Write `path` somewhere in a scene; chance depends on the seed and the photograph's name alone."""
    rng = np.random.default_rng([seed, *path.name.encode("utf-8", "surrogateescape")])
    blocks = Image.fromarray(rng.integers(20, 230, (9, 12, 3), dtype=np.uint8))
    scene = blocks.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST).filter(ImageFilter.GaussianBlur(12))
    grain = rng.normal(0, 5, (HEIGHT, WIDTH, 3))
    scene = Image.fromarray((np.asarray(scene) + grain).clip(0, 255).astype(np.uint8))
    photograph = Image.fromarray(decode(path))
    high = round(HEIGHT * rng.uniform(*SHARES))
    wide = round(photograph.width * high / photograph.height)
    small = photograph.resize((wide, high), Image.Resampling.LANCZOS)
    scene.paste(small, (int(rng.integers(0, WIDTH - wide + 1)), int(rng.integers(0, HEIGHT - high + 1))))
    scene.save(scene_file, quality=92)


def make_scenes(data: Path, out: Path, seed: int, limit: int | None) -> dict[str, str]:
    """Write scenes of the photographs of `data` with listing; returns scene name -> photograph's name."""
    images = out / "images"
    images.mkdir(parents=True)
    found = find_images(data / "images")[:limit]
    names = {f"{number:06}.jpg": name for number, name in enumerate(found)}
    paths = [data / "images" / name for name in found]
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(paste, seed=seed), paths, [images / scene for scene in names], chunksize=16))
    write_text(out / "info.csv", "\n".join(["ImageID", *names]) + "\n")
    return names


def macro_f1(submission: Path, answers: Path, names: dict[str, str]) -> dict[str, float]:
    """Joint and each task's macro F1 of a submission on scenes or photographs, by the photographs' answers."""
    tasks = load_tasks(JOINT_YAML)
    classes = int(np.prod([len(found) for found in tasks.values()]))
    truth, given = read_answers(answers, classes), read_answers(submission, classes)
    given["ImageID"] = [names.get(name, name) for name in given["ImageID"]]
    truth = truth[truth["ImageID"].isin(set(given["ImageID"]))].reset_index(drop=True)
    scores = score_joint(*match(given, truth), tasks)
    return {task: float(figures["macro_f1"]) for task, figures in scores.items()}


def call(*arguments: object) -> str:
    """Run one of our programs as a user does; returns what it printed.

    Raises:
        InputError: it refused what it was given, and told it on standard error.
    """
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode == 2:
        raise InputError(f"{shlex.join(map(str, arguments))}: ended as told above")
    done.check_returncode()
    return done.stdout


def main() -> None:
    """Make scenes, find faces, answer three times, write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.scenes", description="What face boxes are worth.")
    parser.add_argument("--data", type=Path, required=True, metavar="EVAL", help="images/ and answers.csv")
    parser.add_argument("--runs", type=Path, required=True, metavar="RUNS")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--limit", type=whole_number_from(1), metavar="N", help="only the first N photographs")
    parser.add_argument("--seed", type=whole_number_from(0), default=0)
    add_debug_option(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = make_scenes(args.data, folder / "scenes", args.seed, args.limit)
        (folder / "whole").mkdir()
        (folder / "whole" / "images").symlink_to((args.data / "images").resolve())
        write_text(folder / "whole" / "info.csv", "\n".join(["ImageID", *names.values()]) + "\n")
        boxes = folder / "scenes" / "boxes.csv"
        found = call("-m", "data.boxes", "--data", folder / "scenes", "--out", boxes).splitlines()[-1]
        rows: dict[str, dict[str, float]] = {}
        for shown, place, options in (
            ("the photographs", "whole", []),
            ("scenes, whole", "scenes", []),
            ("scenes, by their boxes", "scenes", ["--boxes", boxes]),
        ):
            out = folder / f"{len(rows)}.csv"
            call("combine.py", "--runs", args.runs, "--data", folder / place, "--out", out, *options)
            rows[shown] = macro_f1(out, args.data / "answers.csv", names)
    tasks = [task for task in next(iter(rows.values())) if task != "joint"]
    lines = [
        f"| {shown} | {figures['joint']:.3f} | {' | '.join(f'{figures[task]:.3f}' for task in tasks)} |"
        for shown, figures in rows.items()
    ]
    page = PAGE.format(
        count=len(names),
        width=WIDTH,
        height=HEIGHT,
        low=SHARES[0],
        high=SHARES[1],
        found=found.rpartition(":")[0] + ".",
        tasks=" | ".join(tasks),
        rule=" --- |" * len(tasks),
        rows="\n".join(lines),
    )
    write_text(args.out, page)
    print(page)


if __name__ == "__main__":
    run_script(main)
