"""Predict the images of a listing on a Ray cluster, in Parquet parts.

python -m ensemble.cluster --runs RUNS --data s3://bucket/eval --parts s3://bucket/parts
"""

import argparse
import os
from pathlib import Path

from data.runtime.errors import InputError, run_script, whole_number_from
from ensemble.options import add_ensemble_options, check_margin


def parse() -> argparse.Namespace:
    """Read the command line; a flag wins over the environment."""
    parser = argparse.ArgumentParser(
        prog="python -m ensemble.cluster", description="Predict the images of a listing on a Ray cluster."
    )
    data = os.environ.get("SM_CHANNEL_EVAL")
    parser.add_argument(
        "--data",
        required=data is None,
        default=data,
        metavar="PLACE",
        help="a listing (CSV, Parquet), a folder that holds one or one of images (default: SM_CHANNEL_EVAL)",
    )
    parser.add_argument("--parts", required=True, metavar="PLACE", help="where the Parquet parts go, path or URL")
    rows, workers = "images of a part (default: %(default)s)", "actors (default: one per GPU, else one per core)"
    parser.add_argument("--part-rows", type=whole_number_from(1), default=16_384, metavar="N", help=rows)
    parser.add_argument("--workers", type=whole_number_from(1), metavar="N", help=workers)
    parser.add_argument("--out", type=Path, metavar="FILE", help="also one submission of all parts")
    add_ensemble_options(parser, engine="torch")
    args = parser.parse_args()
    check_margin(parser, args)
    return args


def predict_on_cluster(args: argparse.Namespace) -> None:
    """Predict all parts that are missing; write the submission if asked for."""
    try:
        from ensemble.cluster.actors import connect, predict_parts
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; pip install -r requirements-ray.txt") from None
    from tqdm import tqdm

    from ensemble.cluster.parts import ParquetParts, make_plan
    from ensemble.ensemble import Ensemble

    model = Ensemble.load(
        args.runs,
        args.config,
        engine=args.engine,
        precision="fp32",
        views=args.views,
        margin=args.margin,
        batch_size=args.batch_size,
        workers=None,
        calibrated=not args.raw_probabilities,
    ).resolve()
    print(model)
    plan = make_plan(model, args.data, args.part_rows)
    parts = ParquetParts(args.parts, plan)
    fitting = connect(args.engine)
    with tqdm(total=sum(parts.lengths), disable=None, unit="image") as bar:
        for rows in predict_parts(model.tasks, parts, args.workers or fitting):
            bar.update(rows)
    print(f"{args.parts}: {sum(parts.lengths)} images in {len(parts.lengths)} parts")
    if args.out is not None:
        parts.write_submission(args.out)
        print(f"{args.out}: {sum(parts.lengths)} images")


def main() -> None:
    """Read the command line, then predict; slow imports wait until after parsing, for --help."""
    predict_on_cluster(parse())


if __name__ == "__main__":
    run_script(main)
