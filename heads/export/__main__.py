"""Trained heads as files for other programs: each from an image to its class probabilities, and its number.

python -m heads.export --runs RUNS --format onnx

Each head of RUNS is written with a model card into RUNS/export/; then `python -m ensemble.export` writes all of
them as one graph, with test-time views and the joint code: in its own process, since no head knows another.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from data.runtime.errors import InputError, add_debug_option, run_script
from heads.build import TrainedHead, load_head
from heads.export.graph import INPUT, SUFFIXES, HeadGraph, output_shapes, write_onnx, write_torchscript
from heads.export.model_card import head_section, write_card
from heads.run.checkpoint import save_tensors


def find_checkpoints(runs: Path) -> dict[str, Path]:
    """Checkpoints of all heads of a folder, folds each by itself: `mask`, or `mask-fold-0`."""
    found = sorted([*runs.glob("*/best.safetensors"), *runs.glob("*/fold-*/best.safetensors")])
    if not found:
        raise InputError(f"{runs}: found no TASK/best.safetensors, expected heads of train_task.py")
    return {"-".join(path.parent.relative_to(runs).parts): path for path in found}


def export_head(trained: TrainedHead, name: str, out: Path, kind: str) -> Path:
    """Write one head as `out`/`name` in the format `kind` (a key of `SUFFIXES`); returns the file."""
    path = out / f"{name}{SUFFIXES[kind]}"
    if kind == "safetensors":
        description = {
            "config": trained.config.model_dump(),
            "validation": trained.validation,
            "box_margin": trained.box_margin,
        }
        save_tensors(path, trained.head.state_dict(), description)
    elif kind == "onnx":
        write_onnx(path, HeadGraph(trained, name), list(output_shapes(trained)))
    else:
        write_torchscript(path, HeadGraph(trained, name))
    return path


def describe_interface(kind: str, outputs: str) -> str:
    """What goes in and comes out, for a model card."""
    if kind == "safetensors":
        return "Weights with their config, for `heads.build.load_head`."
    return (
        f"Input: `{INPUT}` uint8 [n, height, width, 3], RGB, upright, any size. Output: {outputs}; rows of "
        "probabilities sum to 1. Scaling to the working size and normalisation are inside."
    )


def describe_outputs(trained: TrainedHead) -> str:
    """A head's outputs in their order, for a model card."""
    sizes = {name: ", ".join(map(str, ("n", *size))) for name, size in output_shapes(trained).items()}
    return ", ".join(f"`{name}` [{size}]" for name, size in sizes.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every export has."""
    parser.add_argument("--runs", type=Path, required=True, metavar="RUNS")
    parser.add_argument("--format", choices=SUFFIXES, default="onnx", dest="kind")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where it is written (default: RUNS/export)")
    parser.add_argument("--trained-on", metavar="TEXT", help="what it was trained on, for the model card")
    parser.add_argument("--terms", metavar="TEXT", help="the terms of that data, for the model card")
    add_debug_option(parser)


def export_whole(
    config: str | None, runs: Path, kind: str, out: Path, trained_on: str | None, terms: str | None
) -> int:
    """Have `ensemble.export` write all heads of `runs` as one graph; returns its exit code."""
    given = {"--config": config, "--trained-on": trained_on, "--terms": terms}
    more = [text for name, value in given.items() if value is not None for text in (name, value)]
    command = [sys.executable, "-m", "ensemble.export", "--runs", str(runs), "--format", kind]
    return subprocess.run([*command, "--out", str(out), *more], check=False).returncode


def main() -> None:
    """Read the command line and write every head, and all of them together."""
    parser = argparse.ArgumentParser(prog="python -m heads.export", description=(__doc__ or "").split("\n")[0])
    add_arguments(parser)
    parser.add_argument(
        "--config", metavar="FILE", help="which heads make one graph (default: configs/joint.yaml)"
    )
    parser.add_argument("--heads-only", action="store_true", help="each head by itself, not all as one graph")
    args = parser.parse_args()
    out = args.out or args.runs / "export"
    for name, file in find_checkpoints(args.runs).items():
        trained = load_head(file)
        path = export_head(trained, name, out, args.kind)
        told = describe_interface(args.kind, describe_outputs(trained))
        sections = [head_section(trained)]
        write_card(out / f"{name}.md", f"Head {name}", told, sections, args.trained_on, args.terms)
        print(f"{path}, {out / f'{name}.md'}", flush=True)
    if not args.heads_only:
        sys.exit(export_whole(args.config, args.runs, args.kind, out, args.trained_on, args.terms))


if __name__ == "__main__":
    run_script(main)
