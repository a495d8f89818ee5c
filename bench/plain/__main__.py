"""The plain loop: the baseline that training and inference are compared with.

What one writes without this project: every image is decoded by Pillow in every pass; NCHW, float32, eager
PyTorch; one head after the other, one view after the other; training updates the whole backbone. Its outputs
are those of `combine.py --raw-probabilities` and `train_task.py`.

`answer --good` is the loop of `bench.plain.good`, written with care.

python -m bench.plain answer --runs RUNS --data DIR --out FILE [--good [--compile]]
python -m bench.plain train --task NAME --data DIR --runs RUNS
"""

import argparse
import atexit
import gc
from pathlib import Path

from data.runtime.errors import add_debug_option, run_script

COLLECTOR = gc.get_threshold()  # Python's own


def main() -> None:
    """Read the command line and run its command."""
    # Nobody's own script has what `run_script` sets to start and end sooner.
    gc.set_threshold(*COLLECTOR)
    atexit.unregister(gc.freeze)
    parser = argparse.ArgumentParser(prog="python -m bench.plain", description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(required=True)
    answering = actions.add_parser("answer")
    answering.set_defaults(action="answer")
    answering.add_argument("--config", type=Path, default=Path("configs/joint.yaml"), metavar="FILE")
    answering.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds info.csv and images/")
    answering.add_argument("--out", type=Path, required=True, metavar="FILE")
    answering.add_argument("--good", action="store_true", help="decode once, channels last, bfloat16, views batched")
    answering.add_argument("--compile", action="store_true", help="torch.compile the heads of the good loop")
    training = actions.add_parser("train")
    training.set_defaults(action="train")
    training.add_argument("--task", required=True, metavar="NAME")
    training.add_argument("--config", type=Path, default=Path("configs"), metavar="DIR")
    training.add_argument("--data", type=Path, action="append", required=True, metavar="DIR")
    training.add_argument("--set", action="append", default=[], metavar="key.sub=value")
    for each in (answering, training):
        each.add_argument("--runs", type=Path, required=True, metavar="DIR")
        each.add_argument("--workers", type=int, help="decoding processes (default: one per core)")
    add_debug_option(parser, answering, training)
    args = parser.parse_args()
    from bench.plain.loop import answer, train  # late, for --help

    (answer if args.action == "answer" else train)(args)


if __name__ == "__main__":
    run_script(main)
