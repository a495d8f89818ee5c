"""Write scikit-learn's handwritten digits as a data folder: real images that are not of faces, without a download.

    python -m data.digits OUT

writes OUT/train/images/*.png with OUT/train/labels.csv, and of other pages OUT/eval/images/*.png with
OUT/eval/answers.csv. The 1,797 images of 8 x 8 pixels are 14 pages on which the same 130 digits were written by hand
(Alpaydin and Kaynak 1998, doi:10.24432/C50P49; a few are missing). A page is a `person` here, so that no page is in two
folds; the last three are the evaluation set. Labels: `loops`, the closed loops of the digit (none; one: 0, 6 and 9;
two: 8; a 4 counts as open, however it was written), `parity`, and `digit` itself.
"""

import argparse
from pathlib import Path

from data.runtime.errors import add_debug_option, run_script

# The first image of each page: the sequence of digits begins again.
PAGES = (0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667)
EVAL_PAGES = 3
LOOPS = {0: "one", 6: "one", 9: "one", 8: "two"}
BRIGHTEST = 16  # of the scans


def write_digits(out: Path) -> None:
    """Write the folder `out`, which appears only when complete; InputError if it holds anything before."""
    import numpy as np
    import pandas as pd
    from PIL import Image
    from sklearn.datasets import load_digits

    from data.runtime.files import write_folder_atomically

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / BRIGHTEST)).astype(np.uint8)
    page = np.searchsorted(PAGES, np.arange(len(pixels)), side="right")
    table = pd.DataFrame(
        {
            "ImageID": [f"{index:04d}.png" for index in range(len(pixels))],
            "person": [f"page-{number:02d}" for number in page],
            "digit": digits.target,
            "loops": [LOOPS.get(digit, "none") for digit in digits.target],
            "parity": np.where(digits.target % 2, "odd", "even"),
        }
    )
    held_out = page > len(PAGES) - EVAL_PAGES
    with write_folder_atomically(out) as folder:
        for name, rows in (("train/labels.csv", table[~held_out]), ("eval/answers.csv", table[held_out])):
            images = (folder / name).parent / "images"
            images.mkdir(parents=True)
            for index, file in rows["ImageID"].items():
                Image.fromarray(pixels[index]).save(images / file)
            rows.to_csv(folder / name, index=False, lineterminator="\n")


def main() -> None:
    """Parse the command line and write the folder."""
    description = "Write scikit-learn's handwritten digits as a data folder with three labels."
    parser = argparse.ArgumentParser(prog="python -m data.digits", description=description)
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist yet, or is empty")
    add_debug_option(parser)
    write_digits(parser.parse_args().out)


if __name__ == "__main__":
    run_script(main)
