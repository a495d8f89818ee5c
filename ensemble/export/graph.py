"""The ensemble as one module, and its files and model card."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from data.runtime.errors import InputError
from ensemble.files.predictions import NUMBER
from ensemble.inference.predictor import MERGES, Task
from ensemble.metrics.scores import JOINT
from heads.export.__main__ import SUFFIXES
from heads.export.graph import calibrate_tensor, class_maps, has_maps, write_onnx, write_torchscript
from heads.export.letterbox import make_scaling
from heads.export.model_card import describe_interface, head_section, write_card
from heads.model.head import Head
from heads.model.shared import SharedHeads
from heads.run.checkpoint import save_tensors

NAME = "ensemble"
DISTRIBUTION, MAPS = "distribution", "maps"


class EnsembleGraph(nn.Module):
    """RGB images uint8 [N, h, w, 3] to each task's probabilities [N, C], the joint ones [N, prod C], and numbers [N].

    They are those of `combine.py`: views merged, folds averaged, tasks taken to be independent. With `maps`, two kinds
    of outputs follow: of tasks that predict a number, its distribution [N, outputs], and, where the heads have them,
    the classes' activation maps [N, C, h, w] in the identity view. `views`, int64 [K], are the numbers from 0 to K - 1:
    of each task its first K views are used, the identity first, or all of fewer; None: all.
    """

    def __init__(self, tasks: Mapping[str, Task], maps: bool = False) -> None:
        super().__init__()
        self.tasks, self.maps = tasks, maps
        self.groups = _group_tasks(tasks, maps)
        self.heads = nn.ModuleList(
            SharedHeads(head.head for name in names for head in tasks[name].heads) for names in self.groups
        )
        self.scalings = nn.ModuleDict(
            {name: make_scaling(task.heads[0].config.pixels.evaluate, name) for name, task in tasks.items()}
        )

    def forward(self, images: Tensor, views: Tensor | None = None) -> tuple[Tensor, ...]:
        caches: dict[str, Tensor] = {}  # tasks of one size share their pixels
        merged, numbers, distributions, maps = {}, {}, {}, {}
        for names, heads in zip(self.groups, self.heads, strict=True):
            first = self.tasks[names[0]]  # has all views of the others
            if first.pixels not in caches:
                caches[first.pixels] = self.scalings[names[0]](images) / 255
            pixels = torch.stack([view(caches[first.pixels]) for view in first.views.values()])
            if views is not None:
                pixels = pixels.index_select(0, views[: len(first.views)])
            with_maps = self.maps and _has_maps(first)
            counts = [len(self.tasks[name].views) for name in names for _ in self.tasks[name].heads]
            rows = pixels.flatten(0, 1)  # one batch of all views: each layer is once in the graph
            outputs = iter(
                heads(rows, finish=Head.map_grid if with_maps else Head.classify, views=counts, images=images.shape[0])
            )
            for name in names:
                task, logits, found = self.tasks[name], [], []
                for trained in task.heads:
                    output = next(outputs)
                    if with_maps:
                        output, activations = output
                        identity = slice(None, images.shape[0])
                        found.append(class_maps(trained.target, output[identity], activations[identity]))
                    logits.append(output.view(-1, pixels.shape[1], output.shape[1]))
                every = torch.stack(logits, dim=1)  # [V, F, N, outputs]
                merged[name] = calibrate_tensor(MERGES[task.merge](task.probabilities(every)), task.temperature)
                if (number := task.numbers(every)) is not None:
                    numbers[name] = number.mean(dim=0)
                    distributions[name] = every.softmax(dim=-1).mean(dim=(0, 1))
                if found:
                    maps[name] = torch.stack(found).mean(dim=0)
        joint = torch.ones_like(images[:, :1, 0, 0], dtype=torch.float32)
        for name in self.tasks:
            joint = (joint[:, :, None] * merged[name][:, None, :]).flatten(1)
        further = (numbers, *((distributions, maps) if self.maps else ()))
        ordered = [[each[name] for name in self.tasks if name in each] for each in (merged, *further)]
        return (*ordered[0], joint, *chain.from_iterable(ordered[1:]))


def _group_tasks(tasks: Mapping[str, Task], maps: bool) -> list[list[str]]:
    """Group tasks that can share layers: of equal pixels, and whose views are the first of the group's first task."""
    groups: list[list[str]] = []
    for name, task in sorted(tasks.items(), key=lambda item: -len(item[1].views)):
        for group in groups:
            first = tasks[group[0]]
            same_maps = not maps or _has_maps(first) == _has_maps(task)
            if first.pixels == task.pixels and [*first.views][: len(task.views)] == [*task.views] and same_maps:
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def _has_maps(task: Task) -> bool:
    return all(map(has_maps, task.heads))


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
        mapped = {name: len(task.classes) for name, task in tasks.items() if _has_maps(task)}
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
