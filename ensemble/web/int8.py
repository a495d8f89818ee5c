"""The page's graph in int8, by ONNX Runtime's static quantisation (Jacob et al. 2018, doi:10.1109/CVPR.2018.00286).

Weights of convolutions have seven bits, so that no processor overflows, and a scale per channel.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from data.images.decode import Read
from data.runtime.errors import raise_all
from ensemble.backends import int8
from ensemble.backends.engines import import_optional
from ensemble.backends.int8_images import select_images
from ensemble.inference.predictor import Task
from ensemble.web.graph import VIEWS, count_views
from heads.export.graph import INPUT
from heads.objective.metrics import macro_f1

Feeds = Iterator[dict[str, Any]]


def write_int8(source: Path, path: Path, tasks: Mapping[str, Task], training: Sequence[Path], read: Read) -> str:
    """Quantise the graph in `source` to `path`; return what it costs, in Markdown.

    Arguments and errors are those of `ensemble.backends.int8.write_int8`; each task must have one head.
    """
    folds = [f"{name}: {len(task.heads)} heads" for name, task in tasks.items() if len(task.heads) > 1]
    raise_all(f"{int8.OPTION}: folds validate on each other's people, expected one head a task; use fp32", folds)
    calibration, validation = select_images([task.heads[0] for task in tasks.values()], training)
    test = {name: paths for name, (paths, _) in zip(tasks, validation, strict=True)}
    truth = {name: classes for name, (_, classes) in zip(tasks, validation, strict=True)}
    before = _score(source, test, truth, read)
    for in_float in int8.FLOAT_CONVOLUTIONS:
        _quantise(source, path, _feeds(calibration, count_views(tasks), read), in_float)
        after = _score(path, test, truth, read)
        bad = [
            f"{name}: {int8.describe_loss(before[name], after[name])}"
            for name in tasks
            if int8.loses_too_much(before[name], after[name])
        ]
        if not bad:
            break
    raise_all(f"{int8.OPTION}: heads lose more than {int8.MAX_LOSS}, use --precision fp32", bad)
    rows = [f"\n| {name} | {before[name]:.4f} | {after[name]:.4f} |" for name in tasks]
    head = "| head | float32 | int8 |\n| --- | --- | --- |"
    return f"## int8\n\nMacro F1 on validation people, identity view.\n\n{head}{''.join(rows)}"


def _feeds(paths: Iterable[Path], views: int, read: Read) -> Feeds:
    return ({INPUT: read(path)[None], VIEWS: np.arange(views)} for path in paths)


def _score(graph: Path, test: Mapping[str, Sequence[Path]], truth: Mapping[str, Any], read: Read) -> dict[str, float]:
    """Macro F1 of each task on its images in the identity view; an image of several tasks is passed once."""
    runtime = import_optional("onnxruntime", int8.OPTION)
    session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    paths = list(dict.fromkeys(chain(*test.values())))
    outputs = {path: session.run([*test], feed) for path, feed in zip(paths, _feeds(paths, 1, read), strict=True)}
    probabilities = {
        name: np.concatenate([outputs[path][place] for path in test[name]]) for place, name in enumerate(test)
    }
    return {name: macro_f1(truth[name], each.argmax(axis=1), each.shape[1]) for name, each in probabilities.items()}


def _quantise(source: Path, path: Path, feeds: Feeds, in_float: int) -> None:
    """Quantise the convolutions, but not the first `in_float` ones from the pixels on, on every way to a head."""
    onnx, quantisation = (import_optional(name, int8.OPTION) for name in ("onnx", "onnxruntime.quantization"))
    reader = type("Images", (quantisation.CalibrationDataReader,), {"get_next": lambda _: next(feeds, None)})
    depths: dict[str, int] = {}  # of each tensor: the most convolutions on a way to it
    first = []
    for node in onnx.load(source).graph.node:  # each comes after its inputs
        depth = max((depths.get(name, 0) for name in node.input), default=0) + (node.op_type == "Conv")
        depths |= dict.fromkeys(node.output, depth)
        first += [node.name] if node.op_type == "Conv" and depth <= in_float else []
    with int8.silence():
        quantisation.quantize_static(
            source,
            path,
            reader(),
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=first,
            per_channel=True,
            reduce_range=True,
            activation_type=quantisation.QuantType.QUInt8,
        )
