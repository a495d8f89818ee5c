"""The ensemble as one module, and its files and model card."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from data.runtime.errors import InputError
from ensemble.files.predictions import NUMBER
from ensemble.inference.predictor import MERGES, Task, ViewCache
from ensemble.metrics.scores import JOINT
from heads.export.__main__ import SUFFIXES
from heads.export.graph import calibrate_tensor, class_maps, has_maps, write_onnx, write_torchscript
from heads.export.letterbox import make_scaling
from heads.export.model_card import describe_interface, head_section, write_card
from heads.model.head import Head
from heads.run.checkpoint import save_tensors

NAME = "ensemble"
DISTRIBUTION, MAPS = "distribution", "maps"


class EnsembleGraph(nn.Module):
    """RGB images uint8 [N, h, w, 3] to each task's probabilities [N, C], the joint ones [N, prod C], and numbers [N].

    They are those of `combine.py`: views merged, folds averaged, tasks taken to be independent. With `maps`, two kinds
    of outputs follow: of tasks that predict a number, its distribution [N, outputs], and, where the heads have them,
    the classes' activation maps [N, C, h, w] in the identity view. `views`, int64 [K], chooses which of each task's
    views to use, modulo their number, the identity (0) first; None: all.
    """

    def __init__(self, tasks: Mapping[str, Task], maps: bool = False) -> None:
        super().__init__()
        self.tasks, self.maps = tasks, maps
        self.heads = nn.ModuleList(trained.head for task in tasks.values() for trained in task.heads)
        self.scalings = nn.ModuleDict(
            {name: make_scaling(task.heads[0].config.pixels.evaluate, name) for name, task in tasks.items()}
        )

    def forward(self, images: Tensor, views: Tensor | None = None) -> tuple[Tensor, ...]:
        caches: dict[str, ViewCache] = {}  # tasks of one size share their pixels and views
        merged, numbers, distributions, maps = [], [], [], []
        for name, task in self.tasks.items():
            if task.pixels not in caches:
                caches[task.pixels] = ViewCache(self.scalings[name](images))
            pixels = torch.stack([caches[task.pixels](view, step) for view, step in task.views.items()])
            if views is not None:
                pixels = pixels.index_select(0, views % len(task.views))
            with_maps, logits, found = self.maps and all(map(has_maps, task.heads)), [], []
            for trained in task.heads:
                rows = pixels.flatten(0, 1)  # one batch of all views: each head is once in the graph
                if with_maps:
                    outputs, activations = cast(Head, trained.head).activation_maps(rows)
                    identity = slice(None, images.shape[0])
                    found.append(class_maps(trained.target, outputs[identity], activations[identity]))
                else:
                    outputs = trained.head(rows)
                logits.append(outputs.view(pixels.shape[0], pixels.shape[1], -1))
            every = torch.stack(logits, dim=1)  # [V, F, N, outputs]
            merged.append(calibrate_tensor(MERGES[task.merge](task.probabilities(every)), task.temperature))
            if (number := task.numbers(every)) is not None:
                numbers.append(number.mean(dim=0))
                distributions.append(every.softmax(dim=-1).mean(dim=(0, 1)))
            maps += [torch.stack(found).mean(dim=0)] if with_maps else []
        joint = torch.ones_like(merged[0][:, :1])
        for probabilities in merged:
            joint = (joint[:, :, None] * probabilities[:, None, :]).flatten(1)
        return (*merged, joint, *numbers, *(distributions + maps if self.maps else []))


def export(tasks: Mapping[str, Task], out: Path, kind: str, maps: bool = False) -> Path:
    """Write the ensemble into the folder `out` in the format `kind` (a key of `SUFFIXES`); return the file."""
    if JOINT in tasks:
        raise InputError(f"a task is named {JOINT!r}, where the joint output goes: give it another name")
    path = out / f"{NAME}{SUFFIXES[kind]}"
    if kind == "safetensors":
        heads = {f"{name}/{i}": head for name, task in tasks.items() for i, head in enumerate(task.heads)}
        tensors = {f"{name}/{key}": t for name, h in heads.items() for key, t in h.head.state_dict().items()}
        configs = {name: head.config.model_dump() for name, head in heads.items()}
        temperatures = {name: task.temperature for name, task in tasks.items()}
        save_tensors(path, tensors, {"tasks": list(tasks), "configs": configs, "temperatures": temperatures})
    elif kind == "onnx":
        write_onnx(path, EnsembleGraph(tasks, maps), [*output_shapes(tasks, maps)])
    else:
        write_torchscript(path, EnsembleGraph(tasks, maps))
    return path


def output_shapes(tasks: Mapping[str, Task], maps: bool = False) -> dict[str, tuple[int | str, ...]]:
    """The graph's outputs in their order: names, and sizes without the number of images."""
    shapes: dict[str, tuple[int | str, ...]] = {name: (len(task.classes),) for name, task in tasks.items()}
    shapes[JOINT] = (" * ".join(str(size) for (size,) in shapes.values()),)
    numbers = {name: task.target.outputs for name, task in tasks.items() if task.predicts_number}
    shapes |= {f"{name}_{NUMBER}": () for name in numbers}
    if maps:
        mapped = {name: len(task.classes) for name, task in tasks.items() if all(map(has_maps, task.heads))}
        shapes |= {f"{name}_{DISTRIBUTION}": (size,) for name, size in numbers.items()}
        shapes |= {f"{name}_{MAPS}": (classes, "h", "w") for name, classes in mapped.items()}
    return shapes


def describe_outputs(tasks: Mapping[str, Task], maps: bool = False) -> str:
    """Describe the outputs in their order, for a model card."""
    shapes = output_shapes(tasks, maps).items()
    each = [f"`{name}` [{', '.join(map(str, ('n', *shape)))}]" for name, shape in shapes]
    digits, others = each[: len(tasks) + 1], each[len(tasks) + 1 :]
    return "; ".join([f"{', '.join(digits)}, the first task being the most significant digit", *others])


def card_sections(tasks: Mapping[str, Task]) -> list[str]:
    """Describe each task's heads and views in Markdown, for a model card."""
    return [
        f"{head_section(task.heads[0])}\n\nViews: {', '.join(task.views)}; {len(task.heads)} heads."
        for task in tasks.values()
    ]


def export_with_card(
    tasks: Mapping[str, Task],
    out: Path,
    kind: str,
    maps: bool = False,
    data: str | None = None,
    terms: str | None = None,
) -> Path:
    """Export the ensemble as `export` does, and a model card beside it; `write_card` explains `data` and `terms`."""
    path = export(tasks, out, kind, maps)
    interface = describe_interface(kind, describe_outputs(tasks, maps))
    write_card(path.with_suffix(".md"), ", ".join(tasks), interface, card_sections(tasks), data, terms)
    return path
