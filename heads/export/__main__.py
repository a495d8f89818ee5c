"""Export trained heads for other programs: from images to class probabilities and, for some, a number.

python -m heads.export --runs RUNS --format onnx

Each head of RUNS is written with a model card into RUNS/export/. `python -m ensemble.export --runs RUNS` writes
all of them as one graph, with test-time views and the joint code.
"""

import argparse
from collections.abc import Collection
from pathlib import Path

from data.runtime.errors import InputError, add_debug_option, run_script

SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "safetensors": ".safetensors"}


def find_checkpoints(runs: Path) -> dict[str, Path]:
    """Checkpoints of all heads of a folder, one per fold: `mask`, or `mask-fold-0`."""
    found = sorted([*runs.glob("*/best.safetensors"), *runs.glob("*/fold-*/best.safetensors")])
    if not found:
        raise InputError(f"{runs}: found no TASK/best.safetensors, expected heads of train_task.py")
    return {"-".join(path.parent.relative_to(runs).parts): path for path in found}


def add_arguments(parser: argparse.ArgumentParser, formats: Collection[str] = tuple(SUFFIXES)) -> None:
    """Add the options of every export."""
    parser.add_argument("--runs", type=Path, required=True, metavar="RUNS")
    parser.add_argument("--format", choices=formats, default="onnx", dest="kind")
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder (default: RUNS/export)")
    maps = "onnx, torchscript: also class activation maps, of heads whose classifier is one layer a class or number"
    parser.add_argument("--maps", action="store_true", help=maps)
    parser.add_argument("--trained-on", metavar="TEXT", help="the training data, for the model card")
    parser.add_argument("--terms", metavar="TEXT", help="the terms of that data, for the model card")
    add_debug_option(parser)


def main() -> None:
    """Read the command line and write every head with its card; torch is imported after, so that --help is quick."""
    parser = argparse.ArgumentParser(prog="python -m heads.export", description=(__doc__ or "").split("\n")[0])
    add_arguments(parser)
    args = parser.parse_args()
    from heads.export.graph import export_head, output_shapes
    from heads.export.model_card import describe_interface, head_section, write_card
    from heads.load import load_head

    out = args.out or args.runs / "export"
    for name, file in find_checkpoints(args.runs).items():
        trained, path, card = load_head(file), out / f"{name}{SUFFIXES[args.kind]}", out / f"{name}.md"
        export_head(trained, path, args.maps)
        shapes = output_shapes(trained, args.maps).items()
        outputs = ", ".join(f"`{output}` [{', '.join(map(str, ('n', *size)))}]" for output, size in shapes)
        interface = describe_interface(args.kind, outputs)
        write_card(card, f"Head {name}", interface, [head_section(trained)], args.trained_on, args.terms)
        print(f"{path}, {card}", flush=True)
    print(f"all heads as one graph: python -m ensemble.export --runs {args.runs} --format {args.kind}")


if __name__ == "__main__":
    run_script(main)
