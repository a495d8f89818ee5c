"""Peak memory of combine.py as the number of images grows."""

from pathlib import Path
from shutil import copyfile

import torch

from bench.markdown import table
from bench.speed.images import write_listing
from bench.speed.running import run, watched
from data.synthetic.dataset import write_dataset
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.load import build_head
from heads.run.folder import run_folder, save_head

COUNTS = 20_000, 200_000
PEOPLE, SIZE = 16, (24, 32)  # width and height; a file has 65,000 links at most
ONE_ENGINE = ("--views", "plain", "--engine", "torch", "--precision", "fp32")  # none is measured in the first run
SMALL = "pixels.evaluate=[{letterbox: {height: 32, width: 24}}]"


def measure(configs: Path, counts: tuple[int, int], work: Path) -> str:
    """Write the section: peak memory of combine.py, with small random heads in one view, as Markdown.

    Images and heads are as small as they can be, so that the numbers of images may be large.
    """
    data, runs = work / "data", work / "runs"
    write_dataset(data, PEOPLE, PEOPLE, SIZE, seed=0, processes=1)
    for task in ("mask", "gender"):
        config = load_config(TaskConfig, configs / f"{task}.yaml", [SMALL])
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_head(run_folder(runs, task).best, build_head(config), config.model_dump(), {})
        copyfile(configs / f"{task}.yaml", runs / f"{task}.yaml")
    (runs / "joint.yaml").write_text("tasks: [mask, gender]\n", encoding="utf-8")
    images, peaks, rows = sorted(map(str, (data / "eval/images").iterdir())), [], []
    for count in counts:
        folder = write_listing(images, count, work / f"images-{count}").folder
        out = work / f"answers-{count}" / "submission.csv"
        options = ["--config", runs / "joint.yaml", "--runs", runs, *ONE_ENGINE, "--data", folder, "--out", out]
        process = run(watched("combine.py", *options))
        peaks.append(process.peak)
        rows.append([f"{count:,}", f"{process.peak}", f"{count / (process.seconds - process.first):.0f}"])
    growth = f"{counts[1] / counts[0]:.0f} times the images take {peaks[1] / peaks[0] - 1:+.1%} of memory"
    return f"Random heads of {SIZE[0]}x{SIZE[1]}, one view; {growth}.\n\n" + table(
        ["images", "MB at the peak", "images a second"], rows
    )
