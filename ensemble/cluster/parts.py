"""Predictions in parts: Parquet files that many machines write, each atomically and once.

PARTS/plan.json describes the images and heads, PARTS/listing/ holds the listing split into parts, and
PARTS/answers/part-NNNNNN.parquet their predictions: ImageID, ans (the joint code), and for each task `NAME` (all views
merged) and `NAME/identity` (the identity view alone) as lists of probabilities, `NAME/number` where it predicts one,
and with an exit threshold `NAME/views`, the number of views used.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import default_collate

from data.dataset import Sample, apply_pipelines
from data.images.decode import decode_bytes
from data.images.find import ID, path_problem
from data.runtime.errors import InputError, raise_all
from data.transforms.pipeline import Pipeline, least_size
from ensemble.backends.engines import software_versions
from ensemble.cluster import listing
from ensemble.cluster import remote as urls
from ensemble.ensemble import Ensemble
from ensemble.files.predictions import REASON, Predictions
from ensemble.files.submission import ANSWER, write_rows
from ensemble.inference.early_exit import predict_adaptive
from ensemble.inference.parts import part_size
from ensemble.inference.predictor import Predictor

READERS = 8  # images read at once, since reading from a distance is waiting


@dataclass(frozen=True)
class ClusterPlan:
    """What is predicted, and how: two runs with the same plan write the same parts.

    Attributes:
        listing, images: where they are.
        state: of the listing's content (`ensemble.cluster.remote.state_of`); empty for a folder.
        tasks: the most significant digit of the joint code first.
        heads: checksums of each task's checkpoints.
        views: names of each task's test-time views.
        batch_size: images computed together.
        part_rows: images of a part, whole batches (with a margin, whole windows of them), so that what is
            computed together is what one machine does.
        engine: computes the heads, a key of `ensemble.backends.engines.PACKAGES`.
        margin: exit threshold (`ensemble.inference.early_exit`); None for all views of every image.
        temperatures: by task, that probabilities are scaled by (`heads.objective.calibration`).
        versions: of the software, the same on every machine (`ensemble.backends.engines.software_versions`).
        format: 1: a JPEG is decoded at the smallest scale that covers what the heads see; 2: with numbers; 3: with the
            order of the tasks and their views.
    """

    listing: str
    images: str
    state: str
    tasks: Sequence[str]
    heads: Mapping[str, str]
    views: Mapping[str, Sequence[str]]
    batch_size: int
    part_rows: int
    engine: str
    margin: float | None
    temperatures: Mapping[str, float]
    versions: Mapping[str, str]
    format: int = 3


def make_plan(model: Ensemble, data: str, part_rows: int) -> ClusterPlan:
    """Make the plan for `--data` (see `ensemble.cluster.listing.find_listing`) and an ensemble with its margin chosen.

    `part_rows` is rounded up to whole batches, or windows of them.
    """
    found, images = listing.find_listing(data)
    if not urls.exists(found):
        raise InputError(f"{data}: not there, expected a listing, a folder that holds one, or a folder of images")
    together = model.batch_size if model.margin is None else part_size(model.batch_size)
    return ClusterPlan(
        listing=found,
        images=images,
        state=urls.state_of(found) if found != images else "",
        tasks=[*model.tasks],
        heads={task: ",".join(each) for task, each in model.checksums.items()},
        views={name: [*task.views] for name, task in model.tasks.items()},
        batch_size=model.batch_size,
        part_rows=-(-part_rows // together) * together,
        engine=model.backend.engine,
        margin=model.margin,
        temperatures=model.temperatures,
        versions=software_versions(model.backend.engine),
    )


class ParquetParts:
    """The folder of a plan's parts.

    Args:
        place: path or URL of the folder.
        plan: resumes the plan in the folder, if that is the same, or starts it.

    Raises:
        InputError: the folder has another plan, or the listing is wrong.
    """

    def __init__(self, place: str, plan: ClusterPlan) -> None:
        self.place, self.plan = place, plan
        self._pieces = urls.join(place, "listing")
        file = urls.join(place, "plan.json")
        if urls.exists(file):
            self.lengths = self._resume(file)
        else:
            self.lengths = listing.split_listing(plan.listing, self._pieces, plan.part_rows)
            saved = {"plan": asdict(plan), "lengths": self.lengths}
            urls.write_bytes(file, json.dumps(saved, indent=2).encode())

    def _resume(self, file: str) -> list[int]:
        try:
            saved = json.loads(urls.read_bytes(file))
            before, lengths = dict(saved["plan"]), [int(length) for length in saved["lengths"]]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{file}: not readable; remove {self.place} to start again") from None
        raise_all(
            f"{self.place}: holds parts of other predictions; name another folder, or remove this one",
            _differences(before, asdict(self.plan)),
        )
        return lengths

    def file(self, part: int) -> str:
        """Path or URL of a part's predictions."""
        return urls.join(self.place, "answers", f"part-{part:06d}.parquet")

    def missing(self) -> list[int]:
        """List the parts without predictions."""
        written = urls.names_in(urls.join(self.place, "answers"))
        return [part for part in range(len(self.lengths)) if self.file(part).rpartition("/")[2] not in written]

    def predict(self, predictor: Predictor, part: int) -> int:
        """Write a part's predictions, unless they are there; return its number of images.

        Raises:
            InputError: an image cannot be read, or this machine has other versions than the plan.
        """
        if not urls.exists(self.file(part)):
            raise_all(
                f"{self.file(part)}: this machine has other software than the plan, expected the same on all",
                _differences(software_versions(self.plan.engine), self.plan.versions),
            )
            ids, size = listing.read_piece(self._pieces, part), self.plan.batch_size
            read = make_image_reader(self.plan.images, least_size(predictor.pipelines))
            batches = load_batches(predictor.pipelines, ids, read, size)
            if self.plan.margin is not None:
                results = predict_adaptive(predictor, batches, self.plan.margin, size, part_size(size))
            else:
                results = predictor.map_batches(predictor, batches)
            predictions = Predictions.concat(list(results))
            columns: dict[str, object] = {ID: ids, ANSWER: predictions.joint_codes()}
            for name, array in predictions.to_arrays().items():
                rows = pa.array(array.ravel())
                columns[name] = rows if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(rows, array.shape[1])
            del columns[REASON]  # an image that cannot be decoded ends its part
            urls.write_bytes(self.file(part), listing.to_parquet(columns))
        return self.lengths[part]

    def write_submission(self, path: Path) -> None:
        """Write all parts as one submission, in the listing's order and with one part in memory."""
        contents = (io.BytesIO(urls.read_bytes(self.file(part))) for part in range(len(self.lengths)))
        tables = (pq.read_table(content, columns=[ID, ANSWER]) for content in contents)
        write_rows(path, [ID, ANSWER], ([row[ID], row[ANSWER]] for table in tables for row in table.to_pylist()))


def _differences(found: Mapping[str, Any], expected: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Describe the values that differ, by key."""
    problems = []
    for key in {**expected, **found}:
        before, now = found.get(key), expected.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            problems += _differences(before, now, f"{key}.")
        elif before != now:
            problems.append(f"{prefix}{key}: found {before!r}, expected {now!r}")
    return problems


Read = Callable[[str], np.ndarray]


def make_image_reader(images: str, least: tuple[int, int] | None = None) -> Read:
    """Make what decodes an image of a folder by its id; `least` is that of `data.images.decode.decode_bytes`.

    It raises `InputError` where there is no such image, and on this machine where a link leads out of the folder.
    """
    root = urls.local_folder(images)

    def read(name: str) -> np.ndarray:
        place = urls.join(images, name)
        if root and (why := path_problem(root, name)):
            raise InputError(f"{place}: {why}")
        return decode_bytes(urls.read_bytes(place), place, least)

    return read


def load_batches(pipelines: Sequence[Pipeline], ids: Sequence[str], read: Read, batch_size: int) -> Iterator[Sample]:
    """Load batches, uint8 [B, 3, H, W] for each pipeline; threads read the next batch while one is computed."""
    pool = ThreadPoolExecutor(READERS)
    try:
        ahead = [pool.submit(read, name) for name in ids[:batch_size]]
        for end in range(batch_size, len(ids) + batch_size, batch_size):
            batch, ahead = ahead, [pool.submit(read, name) for name in ids[end : end + batch_size]]
            # Not in the threads: a pipeline's ops hold the state of their random generator.
            yield default_collate(
                [Sample(apply_pipelines(pipelines, image.result(), (0,)), torch.zeros(()), "") for image in batch]
            )
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
