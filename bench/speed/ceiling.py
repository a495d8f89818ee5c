"""combine.py against OpenVINO's own rate on the same graphs and passes, and the machine's matrix multiplication."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.cost import answer_gflop
from bench.markdown import table
from bench.speed.forward import measure_rate
from bench.speed.images import read_heads, shared_images
from bench.speed.results import spread
from data.images.inputs import list_inputs
from ensemble import Ensemble
from ensemble.backends.engines import CHUNK, OpenVinoHeads, import_optional, openvino_core
from ensemble.inference.predictor import Predictor
from ensemble.joint import load_tasks

PRECISIONS = "fp32", "bf16", "int8"
SIDE = 2048  # of the multiplied matrices
Tally = dict[str, list[float]]


def measure(
    runs: Path,
    config: Path,
    images: int,
    rounds: int,
    calibration: Sequence[Path],
    precisions: Sequence[str] = PRECISIONS,
) -> str:
    """Write the section: rates of combine.py's ensemble, of OpenVINO alone and of matrices, as Markdown.

    OpenVINO alone computes pixels that are ready, as its benchmark_app does: requests of `CHUNK` images, as many at
    once as it likes best for throughput. The ensemble reads and decodes the images as well; the time of loading,
    compiling and of the first, smaller prediction is not counted.
    """
    tasks = load_tasks(config)
    paths, _ = shared_images(read_heads(runs, list(tasks)), [len(names) for names in tasks.values()])
    places = np.linspace(0, len(paths) - 1, min(images, len(paths))).astype(int)
    chosen = list_inputs([paths[place] for place in places])
    load = partial(Ensemble.load, runs, config, engine="openvino", workers=None)
    models = {each: load(precision=each, calibration=calibration if each == "int8" else ()) for each in precisions}
    alone = {name: [make_loop(*part) for part in graph_parts(model.predictor)] for name, model in models.items()}
    gflop = answer_gflop(Predictor(models["fp32"].tasks))
    rates: dict[str, Tally] = {name: {"ours": [], "openvino": [], "matrices": []} for name in precisions}
    for number in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            for _ in model.stream(chosen):
                pass
            seconds = time.perf_counter() - start
            per_image = sum(1 / (CHUNK * measure_rate(loop)) for loop in alone[name])
            matrices = 2 * SIDE**3 * measure_rate(make_product(name)) / 1e9
            if number:  # the first round compiles
                for key, rate in (("ours", len(chosen) / seconds), ("openvino", 1 / per_image), ("matrices", matrices)):
                    rates[name][key].append(rate)
    rows = []
    for name, each in rates.items():
        shares = [100 * ours / other for ours, other in zip(each["ours"], each["openvino"], strict=True)]
        own = [gflop * rate for rate in each["openvino"]]
        rows.append(
            [name, *map(spread, (each["matrices"], own, each["openvino"], each["ours"])), f"{spread(shares)} %"]
        )
    header = ["", "GFLOP/s of matrices", "OpenVINO's GFLOP/s", "images a second, OpenVINO alone", "combine.py", "share"]
    intro = (
        f"{len(chosen)} images, default views, {gflop:.2f} GFLOP each. Matrices are {SIDE}x{SIDE}, by "
        "torch.matmul and, in int8, torch._int_mm."
    )
    return f"{intro}\n\n{table(header, rows)}"


def graph_parts(predictor: Predictor) -> list[tuple[OpenVinoHeads, tuple[int, ...]]]:
    """The passes of an image: for each view of a group of heads, a model and the outputs that the view needs."""
    parts = []
    for group in predictor.groups:
        models = [each for each in group.module.modules() if isinstance(each, OpenVinoHeads)]
        for view in dict.fromkeys(view for task in group.tasks.values() for view in task.views):
            users = [place for name, task in group.tasks.items() if view in task.views for place in group.places[name]]
            if len(models) == 1:
                parts.append((models[0], tuple(users)))
            else:  # a model of each head
                parts += [(models[place], (0,)) for place in users]
    return parts


def make_loop(heads: OpenVinoHeads, places: tuple[int, ...]) -> Callable[[], object]:
    """Make a function that computes `CHUNK` images as soon as a request is free."""
    openvino: Any = import_optional("openvino", "the ceiling")
    model = openvino.Model([heads.model.outputs[place] for place in places], heads.model.get_parameters()).clone()
    shape = [CHUNK, *(dimension.get_length() for dimension in model.input().partial_shape[1:])]
    model.reshape(shape)
    hint = {"bf16": "bf16"}.get(heads.precision, "f32")
    properties = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": hint,
    }
    queue = openvino.AsyncInferQueue(openvino_core().compile_model(model, "CPU", properties))
    pixels = np.random.default_rng(0).random(shape, dtype=np.float32)
    return partial(queue.start_async, [pixels])


def make_product(precision: str) -> "partial[torch.Tensor]":
    """Make a function that multiplies two matrices."""
    if precision == "int8":
        small = torch.randint(-127, 128, (SIDE, SIDE), dtype=torch.int8)
        return partial(torch._int_mm, small, small)
    matrix = torch.rand(SIDE, SIDE, dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[precision])
    return partial(torch.matmul, matrix, matrix)
