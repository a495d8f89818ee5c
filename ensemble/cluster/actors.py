"""Parts predicted by many machines at once: Ray Data maps them over a pool of actors that hold the heads.

A part goes to one actor at a time. One that dies is restarted and its part predicted again. Each actor gets two parts
at most and reads one batch ahead, so memory does not grow with the listing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext

from data.runtime.errors import InputError, raise_all
from data.runtime.machine import reuse_freed_memory
from ensemble.backends.engines import EngineBackend
from ensemble.cluster.parts import ParquetParts
from ensemble.inference.predictor import Predictor, Task

PARTS_IN_FLIGHT = 2


class PartPredictor:
    """An actor: the heads, which it fetches and moves to its device once, and the folder of the parts."""

    def __init__(self, tasks: Any, parts: ParquetParts) -> None:
        reuse_freed_memory()
        self.predictor = Predictor(ray.get(tasks[0]), EngineBackend(parts.plan.engine))
        self.parts = parts

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        [part] = batch["part"]
        try:
            rows, problem = self.parts.predict(self.predictor, int(part)), ""
        except InputError as error:  # raised when all other parts are done
            rows, problem = 0, str(error)
        return {"rows": np.array([rows]), "problem": np.array([problem])}


def connect(engine: str) -> int:
    """Join the cluster of RAY_ADDRESS, or start one on this machine; return the number of actors that fit.

    They are its GPUs, or its cores where it has none or the engine uses none.
    """
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="WARNING")
    return max(_gpus(engine) or int(ray.cluster_resources().get("CPU", 1)), 1)


def predict_parts(tasks: Mapping[str, Task], parts: ParquetParts, actors: int) -> Iterator[int]:
    """Predict the missing parts with at most so many actors; yield the number of images of each as it is done.

    Raises:
        InputError: images cannot be read (the first one of each part is named); all other parts are done.
    """
    missing = parts.missing()
    if not missing:
        return
    DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_items([{"part": part} for part in missing], override_num_blocks=len(missing))
    pool = ActorPoolStrategy(
        min_size=1, max_size=actors, initial_size=actors, max_tasks_in_flight_per_actor=PARTS_IN_FLIGHT
    )
    results = dataset.map_batches(
        PartPredictor,
        batch_size=1,
        compute=pool,
        num_cpus=1,
        num_gpus=1 if _gpus(parts.plan.engine) else None,
        fn_constructor_args=([ray.put(dict(tasks))], parts),
    )
    problems = []
    for row in results.iter_rows():
        yield int(row["rows"])
        problems += [row["problem"]] if row["problem"] else []
    raise_all(f"{parts.place}: {len(problems)} parts have no predictions; repair these images and run again", problems)


def _gpus(engine: str) -> int:
    return int(ray.cluster_resources().get("GPU", 0)) if engine == "torch" else 0
