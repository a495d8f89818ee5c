"""Merge trained heads: images in, submission.csv and every head's probabilities out.

python combine.py --data path/to/eval
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from data.images.crop import CroppedReader, add_box_options, make_reader
from data.runtime.errors import add_bad_image_option, run_script, whole_number_from
from ensemble.options import (
    add_ensemble_options,
    add_int8_options,
    add_moved_options,
    add_out_option,
    check_options,
)

if TYPE_CHECKING:
    from ensemble.backends.engines import Backend

HELP = {
    "data": "a folder with info.csv and images/, or a folder of images (default: SM_CHANNEL_EVAL)",
    "names": "also a CSV of every head's class by name, and its probability",
    "workers": "decoding processes (default: one per core, at most 8)",
}


def parse() -> argparse.Namespace:
    """Read the command line; a flag wins over the environment."""
    parser = argparse.ArgumentParser(description="Merge trained heads into one joint class per image.")
    data = os.environ.get("SM_CHANNEL_EVAL")
    parser.add_argument("--data", required=data is None, default=data, metavar="DIR", help=HELP["data"])
    add_out_option(parser)
    parser.add_argument("--names", type=Path, metavar="FILE", help=HELP["names"])
    parser.add_argument("--workers", type=whole_number_from(0), metavar="N", help=HELP["workers"])
    add_ensemble_options(parser)
    add_int8_options(parser)
    add_bad_image_option(parser)
    add_box_options(parser)
    add_moved_options(parser)
    args = parser.parse_args()
    check_options(parser, args)
    return args


def combine(args: argparse.Namespace) -> None:
    """Predict all images of a folder; write the submission, and their probabilities beside it."""
    from data.images.find import image_paths, list_images

    skip_bad = args.on_bad_image == "skip"
    ids, folder = list_images(Path(args.data))
    paths = image_paths(folder, ids, missing_ok=skip_bad)

    from data.runtime.files import hold_lock
    from data.runtime.machine import reuse_freed_memory
    from data.runtime.processes import usable_workers
    from ensemble.backends.engines import BACKENDS, backend_version, describe_device
    from ensemble.ensemble import Ensemble
    from ensemble.inference.exit_thresholds import select_thresholds
    from ensemble.inference.parts import UNDECODABLE, ResultParts, make_key, write_results

    reuse_freed_memory()
    read, workers = make_reader(args.boxes, args.box_margin), usable_workers(args.workers)
    crops = read if isinstance(read, CroppedReader) else None
    if crops is not None:
        print(crops.summary(paths))
    margin = crops.margin if crops else None
    ensemble = Ensemble.load(args.runs, args.config, margin, calibrated=not args.raw_probabilities)
    backend: Backend = BACKENDS[args.engine]
    # What decides the predictions beside heads and images: parts of an earlier run count if it is the same.
    key: dict[str, object] = {"engine": backend_version(args.engine), "int8": None}
    key |= {"crops": crops.digest if crops else None}
    if args.precision == "int8":
        from ensemble.backends.int8 import Int8Backend

        backend = Int8Backend(ensemble.tasks, args.calibration, args.out.parent, read, workers)
        key["int8"] = backend.digest
    predict = partial(Ensemble.predict, backend=backend, batch_size=args.batch_size, workers=workers, read=crops)
    thresholds = select_thresholds(args.views, args.margin, args.runs, ensemble, predict, key)
    key |= {"device": describe_device(backend), "batch_size": args.batch_size, "skip_bad": skip_bad}
    key |= {"thresholds": thresholds, "temperatures": ensemble.temperatures}
    parts = ResultParts(args.out.parent / f"{args.out.name}.parts", make_key(ensemble.checksums, key), paths)
    # The folder's lock, since probabilities.npz has one name whatever the submission is called.
    with hold_lock(args.out.parent / ".combine.lock", str(args.out.parent)):
        run = partial(predict, ensemble, thresholds=thresholds, skip_bad=skip_bad)
        parts.fill(run, args.batch_size, adaptive=thresholds is not None)
        bad = write_results(args.out, ids, ensemble.classes, parts, ensemble.temperatures, args.names)
        parts.remove()
    views = ", ".join(f"{name} {len(task.views)}" for name, task in ensemble.tasks.items())
    print(f"{args.out}: {len(ids)} images (views: {'at most ' if thresholds else ''}{views})")
    if bad:
        beside = args.out.parent / UNDECODABLE
        print(f"{bad} images cannot be decoded and have equal probabilities: {beside}", file=sys.stderr)


def main() -> None:
    """Read the command line, then combine; slow imports wait until after parsing, for --help."""
    combine(parse())


if __name__ == "__main__":
    run_script(main)
