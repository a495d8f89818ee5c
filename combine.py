"""Merge trained heads: images in, submission.csv and every head's probabilities out.

python combine.py --data path/to/eval
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from data.images.crop import CroppedReader, add_box_options
from data.runtime.errors import add_bad_image_option, run_script, whole_number_from
from ensemble.options import (
    add_ensemble_options,
    add_int8_options,
    add_moved_options,
    add_out_option,
    check_options,
)

HELP = {
    "data": "a folder with info.csv and images/, a folder of images, or one image, whose answer is only printed unless "
    "--out or --names is given (default: SM_CHANNEL_EVAL)",
    "names": "also a CSV of every head's class by name, and its probability",
    "workers": "decoding processes (default: one per core, at most 8)",
}


def parse() -> argparse.Namespace:
    """Read the command line; a flag wins over the environment."""
    parser = argparse.ArgumentParser(description="Merge trained heads into one joint class per image.")
    data = os.environ.get("SM_CHANNEL_EVAL")
    parser.add_argument("--data", required=data is None, default=data, metavar="PATH", help=HELP["data"])
    add_out_option(parser)
    submission = parser.get_default("out")
    parser.set_defaults(out=None)  # that --out was given is asked below
    parser.add_argument("--names", type=Path, metavar="FILE", help=HELP["names"])
    parser.add_argument("--workers", type=whole_number_from(0), metavar="N", help=HELP["workers"])
    add_ensemble_options(parser)
    add_int8_options(parser)
    add_bad_image_option(parser)
    add_box_options(parser)
    add_moved_options(parser)
    args = parser.parse_args()
    args.write = args.out is not None or args.names is not None or not Path(args.data).is_file()
    args.out = args.out or submission
    check_options(parser, args)
    return args


def combine(args: argparse.Namespace) -> None:
    """Predict all images of a folder; write the submission, and their probabilities beside it."""
    from data.images.inputs import ImageInputs, list_inputs

    skip_bad = args.on_bad_image == "skip"
    images = list_inputs(args.data, missing_ok=skip_bad)

    from data.runtime.files import hold_lock
    from data.runtime.machine import reuse_freed_memory
    from ensemble import Ensemble
    from ensemble.inference.parts import UNDECODABLE, ResultParts, make_key, write_results

    reuse_freed_memory()
    model = Ensemble.load(
        args.runs,
        args.config,
        engine=args.engine,
        precision=args.precision,
        calibration=args.calibration or (),
        views=args.views,
        margin=args.margin,
        boxes=args.boxes,
        box_margin=args.box_margin,
        batch_size=args.batch_size,
        workers=args.workers,
        cache=args.out.parent,
        calibrated=not args.raw_probabilities,
    )
    model = model.resolve(images)
    print(model)
    if isinstance(model.read, CroppedReader):
        print(model.read.summary(images.paths))
    if not args.write:
        print(model.predict(images, skip_bad=skip_bad)[0])
        return
    key = make_key(model.checksums, {**model.settings, "skip_bad": skip_bad})
    parts = ResultParts(args.out.parent / f"{args.out.name}.parts", key, images.paths)
    # The folder's lock, since probabilities.npz has one name whatever the submission is called.
    with hold_lock(args.out.parent / ".combine.lock", str(args.out.parent)):
        parts.fill(
            lambda paths: model.stream(ImageInputs(paths, paths), skip_bad=skip_bad),
            args.batch_size,
            adaptive=model.margin is not None,
        )
        bad = write_results(args.out, images.ids, model.classes, parts, model.temperatures, args.names)
        first = next(iter(parts))
        parts.remove()
    views = ", ".join(f"{name} {len(task.views)}" for name, task in model.tasks.items())
    print(f"{args.out}: {len(images)} images (views: {'at most ' if model.margin is not None else ''}{views})")
    print(replace(first, ids=images.ids[: len(first)], classes=model.classes).format_rows())
    if bad:
        beside = args.out.parent / UNDECODABLE
        print(f"{bad} images cannot be decoded and have equal probabilities: {beside}", file=sys.stderr)


def main() -> None:
    """Read the command line, then combine; slow imports wait until after parsing, for --help."""
    combine(parse())


if __name__ == "__main__":
    run_script(main)
