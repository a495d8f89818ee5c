"""Merge trained heads: photographs in, submission.csv and every head's probabilities out.

python combine.py --data path/to/eval
python combine.py --vote a.csv b.csv c.csv --out voted.csv
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import InputError, refuse, run_script

if TYPE_CHECKING:
    from ensemble.predict import Task

SUBMISSION = "submission.csv"


def parse() -> argparse.Namespace:
    """Read the command line; a flag wins over the environment."""
    environment = os.environ
    parser = argparse.ArgumentParser(
        description="Merge trained heads into one joint answer per photograph, or vote on submissions.",
        epilog="The environment gives defaults: SM_CHANNEL_EVAL for --data, SM_CHANNEL_MODEL for --runs, "
        "SM_OUTPUT_DATA_DIR for the folder of --out.",
    )
    parser.add_argument("--config", type=Path, default=Path("configs/joint.yaml"), metavar="FILE")
    parser.add_argument("--runs", type=Path, default=Path(environment.get("SM_CHANNEL_MODEL", "runs")))
    parser.add_argument("--data", type=Path, help="the folder that holds info.csv and images/", metavar="DIR")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(environment.get("SM_OUTPUT_DATA_DIR", ".")) / SUBMISSION,
        metavar="FILE",
        help=f"the submission (default: ./{SUBMISSION}); probabilities.npz goes beside it",
    )
    parser.add_argument("--vote", type=Path, nargs="+", metavar="CSV", help="vote on these submissions instead")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 8), help="decoding processes")
    args = parser.parse_args()
    if args.data is None and args.vote is None:
        if "SM_CHANNEL_EVAL" not in environment:
            parser.error("--data is missing and SM_CHANNEL_EVAL is not set: where are info.csv and images/?")
        args.data = Path(environment["SM_CHANNEL_EVAL"])
    if args.out.is_dir():
        parser.error(f"--out {args.out} is a folder, expected a file such as {args.out / SUBMISSION}")
    if args.batch_size < 1 or args.workers < 0:
        parser.error("--batch-size starts at 1, --workers at 0")
    return args


def vote(args: argparse.Namespace) -> None:
    """Vote on finished submissions into one."""
    from math import prod

    from ensemble import submission
    from ensemble.config import tasks_of

    classes = prod(len(names) for names in tasks_of(args.config).values())
    answers = [submission.read_answers(path, classes) for path in args.vote]
    voted = submission.vote(answers, [str(path) for path in args.vote])
    submission.write_submission(args.out, voted["ImageID"].tolist(), voted["ans"].tolist())
    print(f"{args.out}: {len(voted)} answers, voted by {len(answers)} submissions")


def find_heads(config: Path, runs: Path) -> "dict[str, Task]":
    """Open every head of the joint code; all that are missing or do not fit are told at once."""
    from ensemble.config import tasks_of
    from ensemble.predict import make_task
    from heads.build import open_head

    expected = tasks_of(config)
    files = {task: sorted((runs / task).glob("fold-*/best.safetensors")) for task in expected}
    for task, found in files.items():
        if not found and (runs / task / "best.safetensors").is_file():
            found.append(runs / task / "best.safetensors")
    refuse(
        f"{runs}: heads are missing",
        [
            f"{task}: found no {task}/best.safetensors, expected one; train_task.py --task {task} makes it"
            for task, found in files.items()
            if not found
        ],
    )
    tasks = {}
    problems = []
    for task, found in files.items():
        heads = [open_head(path) for path in found]
        for path, head in zip(found, heads, strict=True):
            for key, its, wanted in (
                ("classes", head.config.label.classes, expected[task]),
                # All folds of a task are shown the same pixels.
                ("pixels.evaluate", head.config.pixels.evaluate, heads[0].config.pixels.evaluate),
            ):
                if its != wanted:
                    problems.append(f"{path}: found the {key} {its}, expected {wanted}")
        print(f"{task}: {', '.join(str(path) for path in found)}")
        try:
            tasks[task] = make_task(heads)
        except ValueError as error:
            problems.append(f"{found[0]}: views.steps: {error}")
    refuse(f"{config}: heads do not fit the joint code", problems)
    return tasks


def combine(args: argparse.Namespace) -> None:
    """Answer every photograph of a listing."""
    from ensemble.submission import image_paths, read_listing

    listing = args.data / "info.csv"
    if not args.data.is_dir():
        raise InputError(f"{args.data}: no such folder, expected one that holds info.csv and images/")
    ids = read_listing(listing)
    paths = image_paths(args.data / "images", ids)

    import numpy as np
    import torch
    from tqdm import tqdm

    from ensemble.decide import argmax
    from ensemble.predict import predict_tasks
    from ensemble.probabilities import FILE_NAME, TaskProbabilities, write_probabilities
    from ensemble.submission import write_submission

    tasks = find_heads(args.config, args.runs)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = predict_tasks(tasks, paths, device, args.batch_size, args.workers)
    parts = list(tqdm(batches, total=-(-len(paths) // args.batch_size), disable=None, unit="batch"))

    probabilities = {
        name: TaskProbabilities(
            np.concatenate([part[name][0] for part in parts]),
            np.concatenate([part[name][1] for part in parts]),
            task.classes,
        )
        for name, task in tasks.items()
    }
    beside = args.out.parent / FILE_NAME
    write_probabilities(beside, ids, probabilities)
    write_submission(args.out, ids, argmax([task.merged for task in probabilities.values()]).tolist())
    views = ", ".join(f"{name} {len(task.views)}" for name, task in tasks.items())
    print(f"{args.out}: {len(ids)} answers (views: {views}); {beside}")


def main() -> None:
    """Parse, then combine or vote; torch is imported after parsing, so that --help answers at once."""
    args = parse()
    if args.vote is None:
        combine(args)
    else:
        vote(args)


if __name__ == "__main__":
    run_script(main)
