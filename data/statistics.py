"""Compute the mean and standard deviation of the images' channels, for a config's normalisation.

python -m data.statistics --data DIR [--data DIR ...]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.images.decode import decode
from data.runtime.errors import InputError, add_debug_option, raise_all, run_script
from data.runtime.processes import parallel_map

LEVELS = 256
CHUNK = 16


def count_levels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Count how often each level occurs in each channel of an image [H, W, 3]: [3, 256].

    >>> count_levels(np.array([[[0, 7, 255], [0, 8, 255]]], np.uint8))[:, [0, 7, 8, 255]].tolist()
    [[2, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 2]]
    """
    return np.stack([np.bincount(pixels[..., c].ravel(), minlength=LEVELS) for c in range(pixels.shape[-1])])


def mean_and_std(counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute mean and population standard deviation, both [C] in 0..1, from counts of levels [C, 256].

    >>> mean_and_std(np.eye(1, 256, 255, dtype=np.int64))
    (array([1.]), array([0.]))
    """
    share = counts / counts.sum(axis=1, keepdims=True)
    level = np.arange(LEVELS) / (LEVELS - 1)
    mean = share @ level
    return mean, np.sqrt((share * (level - mean[:, None]) ** 2).sum(axis=1))


def _count_levels_of(path: str) -> npt.NDArray[np.int64] | str:
    """An image's counts of levels, or why it cannot be decoded, as one must not hide the others."""
    try:
        return count_levels(decode(Path(path)))
    except InputError as error:
        return str(error)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the images' mean and standard deviation as lines for a config."""
    parser = argparse.ArgumentParser(prog="python -m data.statistics", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, action="append", required=True, help="as train_task.py's; may be repeated")
    add_debug_option(parser)
    args = parser.parse_args(arguments)

    from data.annotations.table import read_table  # late, so that --help is quick

    paths = read_table(args.data)["path"].tolist()
    counts, problems = np.zeros((3, LEVELS), dtype=np.int64), []
    for found in parallel_map(_count_levels_of, paths, chunk=CHUNK):
        if isinstance(found, str):
            problems.append(found)
        else:
            counts += found
    raise_all("some images cannot be decoded:", problems)
    print(f"# {len(paths)} images, {counts[0].sum()} pixels")
    for name, values in zip(("mean", "std"), mean_and_std(counts), strict=True):
        print(f"{name}: [{', '.join(f'{value:.6f}' for value in values)}]")


if __name__ == "__main__":
    run_script(main)
