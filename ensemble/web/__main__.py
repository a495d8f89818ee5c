"""Write a static page that runs the heads in a browser: no server, no upload.

python -m ensemble.web --runs RUNS --out SITE --serve

The folder SITE can be hosted anywhere. npm fetches onnxruntime-web; the packages are those of requirements-bring.txt
and, for the face detector, requirements-boxes.txt.
"""

import argparse
from pathlib import Path

from data.images.crop import add_box_options, make_reader
from data.runtime.errors import add_debug_option, run_script
from ensemble.options import add_config_option


def parse() -> argparse.Namespace:
    """Read the command line; `calibration` is None for fp32."""
    parser = argparse.ArgumentParser(prog="python -m ensemble.web", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, metavar="RUNS", help="the trained heads; none: serve what SITE has")
    parser.add_argument("--out", type=Path, required=True, metavar="SITE", help="a new folder")
    add_config_option(parser, of_runs=True)
    precision = "int8: a quarter of the size, refused where macro F1 on validation people drops by more than 0.003"
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32", help=precision)
    calibration = "for int8: the training data, as --data of train_task.py; may be repeated"
    parser.add_argument("--calibration", type=Path, action="append", metavar="DIR", help=calibration)
    detector = "find faces with CenterFace, 7 MB (default: yes)"
    parser.add_argument("--detector", action=argparse.BooleanOptionalAction, default=True, help=detector)
    parser.add_argument("--serve", action="store_true", help="open the page, served on 127.0.0.1")
    add_box_options(parser)
    add_debug_option(parser)
    args = parser.parse_args()
    if args.runs is None and not args.serve:
        parser.error("--runs is missing; without it, --serve opens a page that was written before")
    if (args.precision == "int8") != (args.calibration is not None):
        parser.error("--precision int8 and --calibration DIR, the training data, go together")
    return args


def main() -> None:
    """Write the page and serve it; slow imports wait until after parsing, for --help."""
    args = parse()
    from ensemble.inference.load import load_tasks
    from ensemble.web.site import serve, write_site

    if args.runs is not None:
        read = make_reader(args.boxes, args.box_margin)
        tasks = load_tasks(args.runs, args.config, args.box_margin if args.boxes else None)
        size = write_site(args.out, tasks, args.calibration, read, args.detector)
        print(f"{args.out}: {size / 1e6:.1f} MB; python -m ensemble.web --out {args.out} --serve opens it", flush=True)
    if args.serve:
        serve(args.out)


if __name__ == "__main__":
    run_script(main)
