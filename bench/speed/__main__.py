"""Measure the program against the plain loop and write bench/results.md.

python -m bench.speed --data DIR --runs DIR [--only combine forward ...]
"""

import argparse
import os
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.speed.running import python, run
from data.runtime.errors import add_debug_option, run_script, whole_number_from
from data.runtime.files import write_text

SCRIPTS = ("train_task.py", "combine.py", "evaluate.py")
FAST = "--views adaptive --precision int8"
OURS = "--cache CACHE"
SECTIONS = ("combine", "shared", "ceiling", "fast", "image", "help")  # by default
LONGER = ("forward", "memory", "frozen", "training")


def measure_help(rounds: int) -> str:
    """Write the section on `--help`: seconds until it is printed."""
    from bench.markdown import table
    from bench.speed.results import spread

    seconds: dict[str, list[float]] = {script: [] for script in SCRIPTS}
    for _ in range(rounds):
        for script in SCRIPTS:
            seconds[script].append(run(python(script, "--help")).seconds)
    return table(["--help of", "seconds"], [[script, spread(each)] for script, each in seconds.items()])


def make_sections(args: argparse.Namespace, work: Path) -> dict[str, Callable[[], str]]:
    """Functions that measure a section and write it, by name."""
    from bench.speed import ceiling, combining, forward, loaded, memory, training

    cache = str(work / "training" / "cache")  # inside the folder that each round of trainings removes first
    ours = [cache if word == "CACHE" else word for word in shlex.split(args.ours)]
    recipe = training.Recipe(args.data / "train", args.weights, args.configs, args.set, ours)
    joint, fast = args.configs / "joint.yaml", shlex.split(args.fast)
    calibration = args.calibration or [args.data / "train"]
    if "int8" in fast:
        for folder in calibration:
            fast += ["--calibration", str(folder)]
    return {
        "combine": lambda: combining.measure(args.runs, joint, args.images, args.rounds, fast, work),
        "fast": lambda: combining.measure_fast(args.runs, joint, args.many, args.rounds, fast, work),
        "shared": lambda: loaded.measure_shared(args.runs, joint, args.few, args.rounds),
        "ceiling": lambda: ceiling.measure(args.runs, joint, args.some, args.rounds, calibration),
        "image": lambda: loaded.measure_image(args.runs, joint),
        "memory": lambda: memory.measure(args.configs, memory.COUNTS, work / "memory"),
        "forward": lambda: forward.measure(args.configs / "gender.yaml", args.rounds),
        "frozen": lambda: training.measure_frozen(recipe, args.rounds, work / "frozen"),
        "training": lambda: training.measure_whole(recipe, args.rounds, work / "training"),
        "help": lambda: measure_help(args.rounds),
    }


def main() -> None:
    """Read the command line and measure; each section is written into the page as soon as it is finished."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds train/")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="trained heads")
    weights = "resnet18 from ImageNet, for frozen and training"
    parser.add_argument("--weights", type=Path, default=Path("resnet18.safetensors"), metavar="FILE", help=weights)
    parser.add_argument("--configs", type=Path, default=Path("configs"), metavar="DIR")
    every = (*SECTIONS, *LONGER)
    only = f"some of {', '.join(every)} (default: {' '.join(SECTIONS)})"
    parser.add_argument("--only", nargs="+", choices=every, default=SECTIONS, metavar="SECTION", help=only)
    parser.add_argument("--rounds", type=whole_number_from(1), default=5, metavar="N")
    parser.add_argument("--images", type=whole_number_from(1), default=600, metavar="N", help="of combine")
    parser.add_argument("--few", type=whole_number_from(1), default=128, metavar="N", help="images of shared")
    parser.add_argument("--some", type=whole_number_from(1), default=256, metavar="N", help="images of ceiling")
    parser.add_argument("--many", type=whole_number_from(1), default=6000, metavar="N", help="images of fast")
    parser.add_argument("--fast", default=FAST, metavar="OPTIONS", help="of combine.py (default: %(default)s)")
    calibration = "training data of the heads of --runs, for int8 (default: train/)"
    parser.add_argument("--calibration", type=Path, nargs="+", metavar="DIR", help=calibration)
    ours = "of train_task.py in the whole training (default: %(default)s)"
    parser.add_argument("--ours", default=OURS, metavar="OPTIONS", help=ours)
    parser.add_argument("--set", action="append", default=[], metavar="key=value", help="for all trainings")
    parser.add_argument("--out", type=Path, default=Path("bench/results.md"), metavar="FILE")
    parser.add_argument("--work", type=Path, metavar="DIR", help="for copies and runs (default: temporary)")
    add_debug_option(parser)
    args = parser.parse_args()
    from bench.speed.results import machine_header, merge_page  # late, for --help

    for name in ("data", "weights", "runs", "configs"):
        setattr(args, name, getattr(args, name).resolve())  # commands run in the project's root
    args.calibration = [folder.resolve() for folder in args.calibration or []]
    with tempfile.TemporaryDirectory() as temporary:
        # A subfolder, since its content is removed or replaced.
        work = (args.work or Path(temporary)).resolve() / "bench-speed"
        sections = make_sections(args, work)
        for name in args.only:
            load = os.getloadavg()[0]
            print(f"{name} ...", flush=True)
            text = f"{sections[name]()}\n\n({args.rounds} rounds; load of the machine before them: {load:.1f})"
            before = args.out.read_text(encoding="utf-8") if args.out.is_file() else ""
            write_text(args.out, merge_page(before, machine_header(), {name: text}))
            print(f"{text}\n", flush=True)


if __name__ == "__main__":
    run_script(main)
