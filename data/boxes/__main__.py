"""Find the faces of images and keep their boxes in a CSV file, for `--boxes` of the scripts.

python -m data.boxes --data path/to/images --out boxes.csv

Images whose boxes the CSV has already are skipped. It is written now and then, so that the same command continues a run
that was stopped. Images without a face, with several, or that cannot be decoded are listed in boxes.unclear.csv.
"""

import argparse
from pathlib import Path

from data.runtime.errors import InputError, add_debug_option, run_script, whole_number_from


def main() -> None:
    """Parse the command line, find the faces and write the boxes."""
    parser = argparse.ArgumentParser(prog="python -m data.boxes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, action="append", required=True, metavar="DIR", help="as the scripts'")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the CSV; extended if it exists")
    parser.add_argument("--threshold", type=float, default=0.5, help="least score (default: %(default)s)")
    parser.add_argument("--processes", type=whole_number_from(1), help="that find faces (default: one a core)")
    add_debug_option(parser)
    args = parser.parse_args()
    if not 0 < args.threshold < 1 or args.out.suffix != ".csv":
        options = f"--threshold {args.threshold:g}, --out {args.out}"
        raise InputError(f"{options}: expected a threshold between 0 and 1, and the name of a file.csv")

    # Imported here so that --help is quick.
    from data.boxes import detector, search
    from data.images.crop import read_boxes
    from data.runtime.files import hold_lock

    paths = search.list_images_of(args.data)
    unclear = args.out.with_suffix(".unclear.csv")
    # Of two processes at a time, each would overwrite what the other found.
    with hold_lock(args.out.with_name(f".{args.out.name}.lock"), str(args.out)):
        threshold = search.check_threshold(args.out, args.threshold)
        found: search.Found = {**read_boxes(args.out)} if args.out.is_file() else {}
        new = [path for path in paths if path not in found]
        if new:
            network = detector.CenterFace(detector.weights_path(), args.threshold)
            found = search.find_all(network, new, args.out, found, threshold, args.processes)
        none, several, bad = search.write_unclear(unclear, {path: found[path] for path in paths})
    print(f"{args.out}: {len(paths)} images, {len(new)} of them searched now")
    counts = f"{none} without a face (shown whole), {several} with several (the largest is taken)"
    print(f"{counts}, {bad} that cannot be decoded: {unclear}")


if __name__ == "__main__":
    run_script(main)
