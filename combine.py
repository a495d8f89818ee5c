"""Merge trained heads: images in, submission.csv and every head's probabilities out.

python combine.py --data path/to/eval
python combine.py --vote a.csv b.csv c.csv --out voted.csv
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from data.images.crop import CroppedReader, add_box_options, make_reader
from data.runtime.errors import InputError, add_bad_image_option, add_debug_option, run_script
from ensemble.backends.options import add_backend_options, check_backend_options

if TYPE_CHECKING:
    import torch

    from data.dataset import Read
    from ensemble.backends.engines import Backend
    from ensemble.inference.predictor import Task

SUBMISSION = "submission.csv"
BESIDE = ("probabilities.npz", "unseen.csv")  # ensemble.files.predictions and ensemble.inference.run write them
# What may differ when an interrupted run goes on: it does not change the answers, or is known by what it names.
FREE_OPTIONS = (
    "out",
    "names",
    "workers",
    "debug",
    "runs",
    "data",
    "config",
    "vote",
    "place",
    "parts",
    "part_rows",
    "boxes",
    "calibration",
)


def path_or_url(text: str) -> Path | str:
    """A URL as it is: a path would make one of its two slashes."""
    return text if "://" in text else Path(text)


def parse() -> argparse.Namespace:
    """Read the command line; a flag wins over the environment."""
    environment = os.environ
    parser = argparse.ArgumentParser(
        description="Merge trained heads into one joint answer per image, or vote on submissions.",
        epilog="The environment gives defaults: SM_CHANNEL_EVAL for --data, SM_CHANNEL_MODEL for --runs, "
        "SM_OUTPUT_DATA_DIR for the folder of --out.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("configs/joint.yaml"),
        metavar="FILE",
        help="the tasks of the joint code (default: %(default)s)",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path(environment.get("SM_CHANNEL_MODEL", "runs")),
        metavar="DIR",
        help="where train_task.py put the heads (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        type=path_or_url,
        metavar="DIR",
        help="a folder that holds info.csv and images/, or a folder of images; with --place ray also a listing "
        "(CSV, Parquet), or a URL of one of them",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"the submission (default: ./{SUBMISSION}); probabilities.npz goes beside it",
    )
    parser.add_argument(
        "--names",
        type=Path,
        metavar="FILE",
        help="also a CSV of every head's answer by name, and how probable it is",
    )
    parser.add_argument("--vote", type=Path, nargs="+", metavar="CSV", help="vote on these submissions instead")
    parser.add_argument(
        "--batch-size", type=int, default=64, help="images computed together (default: %(default)s)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="decoding processes (default: one a core, up to 8); with --place ray actors (default: one a GPU "
        "of the cluster, else one a core)",
    )
    parser.add_argument(
        "--place", choices=("here", "ray"), default="here", help="this machine, or a Ray cluster"
    )
    parser.add_argument(
        "--parts", metavar="DIR", help="with --place ray: where its Parquet parts go, path or URL"
    )
    parser.add_argument("--part-rows", type=int, default=16_384, metavar="N", help="images of a part")
    add_backend_options(parser)
    parser.add_argument(
        "--views",
        choices=("all", "adaptive"),
        default="all",
        help="adaptive: further views only where a margin says that the first one leaves the answer open",
    )
    parser.add_argument(
        "--margin",
        type=float,
        metavar="M",
        help="with --views adaptive, for every head: the distance of its two largest probabilities from which "
        "on one view is enough, 0 (always) to 1 (never); without it margins are chosen on the runs' "
        "validation images and kept in RUNS/margins.json",
    )
    add_bad_image_option(parser)
    add_box_options(parser)
    add_debug_option(parser)
    args = parser.parse_args()
    if args.data is None and args.vote is None:
        if "SM_CHANNEL_EVAL" not in environment:
            parser.error("--data is missing and SM_CHANNEL_EVAL is not set: where are the images?")
        args.data = path_or_url(environment["SM_CHANNEL_EVAL"])
    if args.out is None and args.place == "here":
        args.out = Path(environment.get("SM_OUTPUT_DATA_DIR", ".")) / SUBMISSION
    refuse_combinations(parser, args)
    return args


def refuse_combinations(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a message where options do not go together, or a number or a file cannot be."""
    if args.place == "ray" and (args.parts is None or args.vote is not None):
        parser.error("--place ray: expected --parts DIR, where the answers go, and no --vote")
    if args.place == "here" and given(parser, args, ["parts", "part_rows"]):
        parser.error("--parts and --part-rows go with --place ray alone")
    if args.vote is not None and given(parser, args, ["data", "boxes", "engine", "views"]):
        parser.error("--vote takes submissions alone, expected no --data, --boxes, --engine or --views")
    if args.place == "ray" and args.boxes is not None:
        parser.error("--boxes goes with --place here alone")
    if args.place == "ray" and args.on_bad_image == "skip":
        parser.error("--on-bad-image skip goes with --place here alone")
    if args.names is not None and (args.place == "ray" or args.vote is not None):
        parser.error("--names goes with --place here alone, and not with --vote")
    check_backend_options(parser, args)
    if args.margin is not None and (args.views != "adaptive" or not 0 <= args.margin <= 1):
        parser.error("--margin is from 0 to 1 and goes with --views adaptive")
    refuse_files(parser, args.out, args.names)
    if min(args.batch_size, args.part_rows) < 1 or (args.workers or 0) < 0:
        parser.error("--batch-size and --part-rows start at 1, --workers at 0")


def given(parser: argparse.ArgumentParser, args: argparse.Namespace, options: Sequence[str]) -> bool:
    """Whether any of some options is another than its default."""
    return any(getattr(args, option) != parser.get_default(option) for option in options)


def refuse_files(parser: argparse.ArgumentParser, out: Path | None, names: Path | None) -> None:
    """End with a message where one of the files that are written is a folder, or another one of them."""
    if out is None:  # a cluster's answers go to --parts
        return
    if names is not None and names.absolute() == out.absolute():
        parser.error(f"--names {names} is the submission's own file, expected another")
    beside = [out.absolute().parent / name for name in BESIDE]
    for option, file in (("--out", out), ("--names", names)):
        if file is not None and file.is_dir():
            parser.error(f"{option} {file} is a folder, expected a file such as {file / SUBMISSION}")
        if file is not None and file.absolute() in beside:
            parser.error(f"{option} {file}: {file.name} goes beside the submission, expected another name")


def vote(args: argparse.Namespace) -> None:
    """Vote on finished submissions into one."""
    from math import prod

    from ensemble.config import load_tasks
    from ensemble.files import submission

    classes = prod(len(names) for names in load_tasks(args.config).values())
    answers = [submission.read_answers(path, classes) for path in args.vote]
    voted = submission.vote(answers, [str(path) for path in args.vote])
    submission.write_submission(args.out, voted["ImageID"].tolist(), voted["ans"].tolist())
    print(f"{args.out}: {len(voted)} answers, voted by {len(answers)} submissions")


def margins_for(
    args: argparse.Namespace,
    tasks: Mapping[str, "Task"],
    device: "torch.device",
    workers: int,
    engine: "Backend",
    options: Mapping[str, object],
    read: "Read | None" = None,
) -> dict[str, float] | None:
    """The margins that --views and --margin ask for; None shows every image in all views."""
    if args.views == "all":
        return None
    if args.margin is not None:
        return dict.fromkeys(tasks, args.margin)
    from ensemble.inference.exit_thresholds import load_exit_thresholds
    from ensemble.inference.predictor import predict_tasks

    predict = partial(
        predict_tasks, device=device, batch_size=args.batch_size, workers=workers, read=read, engine=engine
    )
    known = {name: options.get(name) for name in ("engine", "int8", "crops")}
    choice = load_exit_thresholds(args.runs, tasks, predict, known)
    print(choice, flush=True)
    return choice.margins


def combine(args: argparse.Namespace) -> None:
    """Answer every image of a listing."""
    from data.images.find import list_images
    from ensemble.files.image_paths import image_paths

    if isinstance(args.data, str):
        raise InputError(f"{args.data}: a URL, expected a folder, or --place ray, which reads from afar")
    ids, folder = list_images(args.data)
    skip = args.on_bad_image == "skip"
    paths = image_paths(folder, ids, missing_ok=skip)

    import torch

    from data.dataset import Read
    from data.runtime.locks import hold_lock
    from data.runtime.memory import reuse_freed_memory
    from data.runtime.processes import usable_workers
    from ensemble.backends.engines import BACKENDS, backend_version, select_device
    from ensemble.ensemble import load_heads
    from ensemble.files.predictions import FILE_NAME
    from ensemble.inference.parts import ResultParts, make_key
    from ensemble.inference.run import UNSEEN, predict_to_parts, write_names, write_results

    reuse_freed_memory()
    read = make_reader(args.boxes, args.box_margin)
    crops = read if isinstance(read, CroppedReader) else None
    if crops is not None:
        print(crops.told(paths))
    tasks = load_heads(args.config, args.runs, None if crops is None else crops.margin)
    device = select_device(args.engine)
    engine: Backend = BACKENDS[args.engine]
    options = {name: value for name, value in vars(args).items() if name not in FREE_OPTIONS}
    options |= {"device": device, "torch": torch.__version__, "threads": torch.get_num_threads()}
    options |= {"engine": f"{args.engine} {backend_version(args.engine)}"}
    workers = usable_workers(args.workers)
    if args.precision == "int8":
        from ensemble.backends.int8 import load_int8_backend

        engine = load_int8_backend(tasks, args.calibration, args.out.parent, read, workers)
        options |= {"int8": engine.digest}
    options |= {"crops": crops.digest} if crops is not None else {}
    margins = margins_for(args, tasks, device, workers, engine, options, crops)
    options |= {"margins": margins}
    key = make_key({name: [head.checksum for head in task.heads] for name, task in tasks.items()}, options)
    parts = ResultParts(args.out.parent / f"{args.out.name}.parts", key, paths)
    # The folder's, since probabilities.npz has one name whatever the submission is called.
    with hold_lock(args.out.parent / ".combine.lock", str(args.out.parent)):
        predict_to_parts(parts, tasks, device, args.batch_size, workers, skip, crops, engine, margins)
        unseen = write_results(args.out, ids, tasks, parts, with_views=margins is not None)
        if args.names is not None:
            write_names(args.names, ids, tasks, parts)
        parts.remove()
    most = "" if margins is None else "up to "
    views = ", ".join(f"{name} {most}{len(task.views)}" for name, task in tasks.items())
    print(f"{args.out}: {len(ids)} answers (views: {views}); {args.out.parent / FILE_NAME}")
    if unseen:
        print(
            f"{unseen} images could not be seen and have the answer of equal probabilities: "
            f"{args.out.parent / UNSEEN}",
            file=sys.stderr,
        )


def combine_on_ray(args: argparse.Namespace) -> None:
    """Answer every image of a listing on a Ray cluster, in Parquet parts."""
    try:
        from ensemble.cluster.actors import connect, predict_parts
    except ModuleNotFoundError as error:
        raise InputError(
            f"--place ray: {error.name} is not installed; pip install -r requirements-ray.txt"
        ) from None
    from tqdm import tqdm

    from data.runtime.processes import usable_workers
    from ensemble.backends.engines import BACKENDS, backend_version, select_device
    from ensemble.cluster.parts import ParquetParts, make_plan
    from ensemble.ensemble import load_heads

    version = backend_version(args.engine)  # told here if it is missing, rather than by every actor
    tasks = load_heads(args.config, args.runs)
    heads = {name: task.files for name, task in tasks.items()}
    options = {"engine": f"{args.engine} {version}"}
    device, workers = select_device(args.engine), usable_workers(None)
    margins = margins_for(args, tasks, device, workers, BACKENDS[args.engine], options)
    plan = make_plan(str(args.data), heads, args.batch_size, args.part_rows, args.engine, margins)
    parts = ParquetParts(args.parts, plan)
    most = connect(args.engine)
    with tqdm(total=sum(parts.lengths), disable=None, unit="photograph") as bar:
        for rows in predict_parts(tasks, parts, args.workers or most):
            bar.update(rows)
    told = "" if args.out is None else f"; {args.out}: {parts.write_submission(args.out)} answers"
    print(f"{args.parts}: {sum(parts.lengths)} images in {len(parts.lengths)} parts{told}")


def main() -> None:
    """Parse, then combine or vote; torch is imported after parsing, so that --help answers at once."""
    args = parse()
    if args.vote is not None:
        vote(args)
    elif args.place == "ray":
        combine_on_ray(args)
    else:
        combine(args)


if __name__ == "__main__":
    run_script(main)
