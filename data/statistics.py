"""Mean and standard deviation of the training images' channels, for a config's normalisation.

python -m data.statistics --data DIR [--data DIR ...]
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.annotations.table import read_table
from data.images.decode import decode
from data.runtime.errors import InputError, add_debug_option, raise_all, run_script
from data.runtime.processes import parallel_map

LEVELS = 256
CHUNK = 16


def count_levels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """How often each level occurs in each channel of an image [H, W, 3]: [3, 256].

    >>> count_levels(np.array([[[0, 7, 255], [0, 8, 255]]], np.uint8))[:, [0, 7, 8, 255]].tolist()
    [[2, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 2]]
    """
    return np.stack([np.bincount(pixels[..., c].ravel(), minlength=LEVELS) for c in range(pixels.shape[-1])])


def mean_and_std(counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and population standard deviation, both [C] in 0..1, from the counts of levels [C, 256].

    The counts are exact, and so the order of the images does not matter.

    >>> mean_and_std(np.eye(1, 256, 255, dtype=np.int64))
    (array([1.]), array([0.]))
    """
    share = counts / counts.sum(axis=1, keepdims=True)
    level = np.arange(LEVELS) / (LEVELS - 1)
    mean = share @ level
    std = np.sqrt((share * (level - mean[:, None]) ** 2).sum(axis=1))
    return mean, std


def count_all(paths: Iterable[Path]) -> npt.NDArray[np.int64]:
    """Counts of levels [3, 256] over all pixels of all images; raises `InputError` telling all bad ones."""
    counts = np.zeros((3, LEVELS), dtype=np.int64)
    problems = []
    for found in parallel_map(_count_or_problem, paths, chunk=CHUNK):
        if isinstance(found, InputError):
            problems.append(str(found))
        else:
            counts += found
    raise_all("some images cannot be decoded:", problems)
    return counts


def _count_or_problem(path: Path) -> npt.NDArray[np.int64] | InputError:
    """One image's counts, or what is wrong with it, so that one bad image does not hide the others."""
    try:
        return count_levels(decode(path))
    except InputError as problem:
        return problem


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the images' mean and standard deviation as lines for a config."""
    parser = argparse.ArgumentParser(
        prog="python -m data.statistics", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        help="a data folder or CSV file; may be given several times",
    )
    add_debug_option(parser)
    table = read_table(parser.parse_args(arguments).data)
    counts = count_all(Path(path) for path in table["path"])
    print(f"# {len(table)} images, {counts[0].sum()} pixels")
    for name, values in zip(("mean", "std"), mean_and_std(counts), strict=True):
        print(f"{name}: [{', '.join(f'{value:.6f}' for value in values)}]")


if __name__ == "__main__":
    run_script(main)
