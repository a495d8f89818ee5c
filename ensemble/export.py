"""Export the whole ensemble as one graph: images to every task's and the joint probabilities.

python -m ensemble.export --runs RUNS --format onnx

Scaling, normalisation, folds, test-time views and the joint code are inside; a model card is written beside it.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from data.runtime.errors import InputError, run_script
from ensemble.ensemble import Ensemble
from ensemble.files.predictions import NUMBER
from ensemble.inference.predictor import MERGES, Task, ViewCache
from ensemble.metrics.scores import JOINT
from heads.export.__main__ import SUFFIXES, add_arguments
from heads.export.graph import write_onnx, write_torchscript
from heads.export.letterbox import make_scaling
from heads.export.model_card import describe_interface, head_section, write_card
from heads.run.checkpoint import save_tensors

NAME = "ensemble"


class EnsembleGraph(nn.Module):
    """RGB images uint8 [N, h, w, 3] to each task's probabilities [N, C], the joint ones [N, prod C], and numbers [N].

    They are those of `combine.py`: views merged, folds averaged, tasks taken to be independent.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.tasks = tasks
        self.heads = nn.ModuleList(trained.head for task in tasks.values() for trained in task.heads)
        self.scalings = nn.ModuleDict(
            {name: make_scaling(task.heads[0].config.pixels.evaluate, name) for name, task in tasks.items()}
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        caches: dict[str, ViewCache] = {}  # tasks of one size share their pixels and views
        merged, numbers = [], []
        for name, task in self.tasks.items():
            if task.pixels not in caches:
                caches[task.pixels] = ViewCache(self.scalings[name](images))
            logits = task.view_logits(caches[task.pixels])
            merged.append(MERGES[task.merge](task.probabilities(logits)))
            if (number := task.numbers(logits)) is not None:
                numbers.append(number.mean(dim=0))
        joint = torch.ones_like(merged[0][:, :1])
        for probabilities in merged:
            joint = (joint[:, :, None] * probabilities[:, None, :]).flatten(1)
        return (*merged, joint, *numbers)


def export(tasks: Mapping[str, Task], out: Path, kind: str) -> Path:
    """Write the ensemble into the folder `out` in the format `kind` (a key of `SUFFIXES`); return the file."""
    if JOINT in tasks:
        raise InputError(f"a task is named {JOINT!r}, where the joint output goes: give it another name")
    path = out / f"{NAME}{SUFFIXES[kind]}"
    if kind == "safetensors":
        heads = {f"{name}/{i}": head for name, task in tasks.items() for i, head in enumerate(task.heads)}
        tensors = {f"{name}/{key}": t for name, h in heads.items() for key, t in h.head.state_dict().items()}
        configs = {name: head.config.model_dump() for name, head in heads.items()}
        save_tensors(path, tensors, {"tasks": list(tasks), "configs": configs})
    elif kind == "onnx":
        write_onnx(path, EnsembleGraph(tasks), [*tasks, JOINT, *_numbers(tasks)])
    else:
        write_torchscript(path, EnsembleGraph(tasks))
    return path


def describe_outputs(tasks: Mapping[str, Task]) -> str:
    """Describe the outputs in their order, for a model card."""
    sizes = {name: len(task.classes) for name, task in tasks.items()}
    each = [f"`{name}` [n, {size}]" for name, size in sizes.items()]
    each.append(
        f"`{JOINT}` [n, {' * '.join(map(str, sizes.values()))}], the first task being the most significant digit"
    )
    return "; ".join([", ".join(each), *(f"`{name}` [n]" for name in _numbers(tasks))])


def _numbers(tasks: Mapping[str, Task]) -> list[str]:
    """Names of the outputs that are numbers."""
    return [f"{name}_{NUMBER}" for name, task in tasks.items() if task.predicts_number]


def main() -> None:
    """Read the command line and write the ensemble."""
    parser = argparse.ArgumentParser(prog="python -m ensemble.export", description=(__doc__ or "").split("\n")[0])
    add_arguments(parser)
    parser.add_argument("--config", type=Path, default=Path("configs/joint.yaml"), metavar="FILE")
    args = parser.parse_args()
    out = args.out or args.runs / "export"
    tasks = Ensemble.load(args.runs, args.config).tasks
    path = export(tasks, out, args.kind)
    sections = [
        f"{head_section(task.heads[0])}\n\nViews: {', '.join(task.views)}; {len(task.heads)} heads."
        for task in tasks.values()
    ]
    interface = describe_interface(args.kind, describe_outputs(tasks))
    card = out / f"{NAME}.md"
    write_card(card, ", ".join(tasks), interface, sections, args.trained_on, args.terms)
    print(f"{path}, {card}")


if __name__ == "__main__":
    run_script(main)
