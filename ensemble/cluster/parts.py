"""Answers in parts: Parquet files that many machines write, each whole or not at all, and each once.

PARTS/plan.json says what is answered by which heads, PARTS/listing/ holds the listing cut into parts, and
PARTS/answers/part-NNNNNN.parquet their answers: ImageID, ans (the joint code), and for each task `NAME` (all
views merged) and `NAME/identity` (the plain view alone) as lists of probabilities, and `NAME/number` where it
predicts one; with margins also `NAME/views`, in how many views each was shown.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor
from torch.utils.data import default_collate

from data.annotations.listing import ID
from data.dataset import apply_pipelines
from data.images import remote as urls
from data.images.decode import decode_bytes
from data.runtime.errors import InputError, raise_all
from data.runtime.files import write_atomically
from data.transforms.pipeline import Pipeline, least_size
from ensemble.cluster import listing
from ensemble.files.image_paths import path_problem
from ensemble.files.predictions import IDENTITY, NUMBER, VIEWS
from ensemble.files.submission import ANSWER
from ensemble.inference.early_exit import adaptive_views, count_views
from ensemble.inference.parts import window_size
from ensemble.inference.predictor import (
    Predictor,
    Probabilities,
    Result,
    Task,
    all_views,
    concat_outputs,
)
from ensemble.metrics.decide import argmax

READERS = 8  # images on their way at once: reading from afar is waiting


@dataclass(frozen=True)
class ClusterPlan:
    """What is answered, and how: two runs with the same plan write the same parts.

    Attributes:
        listing, images: where they are.
        state: of the listing's content (`data.images.remote.state_of`); empty for a folder.
        heads: a digest of each task's checkpoints.
        batch_size: images computed together.
        part_rows: images of a part, whole batches (with margins, whole windows of them), so that what is
            computed together is what one machine does.
        engine: computes the heads, a key of `ensemble.backends.engines.BACKENDS`.
        margins: of `ensemble.inference.early_exit`, by task; none where every image is shown in all views.
        format: 1: a JPEG is decoded at the smallest scale that covers what the heads see; 2: with numbers.
    """

    listing: str
    images: str
    state: str
    heads: Mapping[str, str]
    batch_size: int
    part_rows: int
    engine: str
    margins: Mapping[str, float]
    format: int = 2


def make_plan(
    data: str,
    heads: Mapping[str, Sequence[Path]],
    batch_size: int,
    part_rows: int,
    engine: str = "torch",
    margins: Mapping[str, float] | None = None,
) -> ClusterPlan:
    """The plan for `--data` (see `ensemble.cluster.listing.find_listing`) and the checkpoints of each task.

    `part_rows` is rounded up to whole batches, or windows of them.
    """
    found, images = listing.find_listing(data)
    if not urls.exists(found):
        raise InputError(
            f"{data}: not there, expected a listing, a folder that holds one, or a folder of images"
        )
    state = urls.state_of(found) if found != images else ""
    digests = {}
    for task, files in heads.items():
        digest = hashlib.sha256()
        for path in files:
            digest.update(path.read_bytes())
        digests[task] = digest.hexdigest()
    together = window_size(batch_size) if margins else batch_size
    rows = -(-part_rows // together) * together
    return ClusterPlan(found, images, state, digests, batch_size, rows, engine, margins or {})


class ParquetParts:
    """The folder of a plan's parts.

    Args:
        place: path or URL of the folder.
        plan: it goes on with the plan that stands there, if that is the same, or begins it.

    Raises:
        InputError: another plan stands there, or the listing is wrong.
    """

    def __init__(self, place: str, plan: ClusterPlan) -> None:
        self.place, self.plan = place, plan
        self._pieces = urls.join(place, "listing")
        file = urls.join(place, "plan.json")
        if urls.exists(file):
            self.lengths = self._go_on(file)
        else:
            self.lengths = listing.split_listing(plan.listing, self._pieces, plan.part_rows)
            kept = {"plan": asdict(plan), "lengths": self.lengths}
            urls.write_bytes(file, json.dumps(kept, indent=2).encode())

    def _go_on(self, file: str) -> list[int]:
        try:
            kept = json.loads(urls.read_bytes(file))
            before, lengths = dict(kept["plan"]), [int(length) for length in kept["lengths"]]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{file}: not readable; remove {self.place} to begin again") from None
        now = asdict(self.plan)
        raise_all(
            f"{self.place}: holds parts of other answers; name another folder, or remove this one",
            [
                f"{key}: found {before.get(key)!r}, expected {now[key]!r}"
                for key in now
                if before.get(key) != now[key]
            ],
        )
        return lengths

    def file(self, part: int) -> str:
        """Where a part's answers stand."""
        return urls.join(self.place, "answers", f"part-{part:06d}.parquet")

    def missing(self) -> list[int]:
        """The parts without answers."""
        written = urls.names_in(urls.join(self.place, "answers"))
        return [part for part in range(len(self.lengths)) if self.file(part).rpartition("/")[2] not in written]

    def answer(self, predictor: Predictor, part: int) -> int:
        """Write a part's answers, unless they are there; return its number of images."""
        if not urls.exists(self.file(part)):
            ids = listing.read_piece(self._pieces, part)
            read = make_image_reader(self.plan.images, least_size(predictor.pipelines))
            first, size = part * self.plan.part_rows, self.plan.batch_size
            pixels = load_batches(predictor.pipelines, ids, read, first, size)
            if self.plan.margins:
                batches = adaptive_views(predictor, pixels, self.plan.margins, size, window_size(size))
            else:
                batches = all_views(predictor, pixels)
            urls.write_bytes(
                self.file(part),
                listing.to_parquet(_columns(ids, list(batches), predictor.tasks, self.plan.margins)),
            )
        return self.lengths[part]

    def write_submission(self, path: Path) -> int:
        """Write all parts' answers as one submission, in the listing's order, a part at a time in memory."""
        count = 0
        with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([ID, ANSWER])
            for part in range(len(self.lengths)):
                table = pq.read_table(io.BytesIO(urls.read_bytes(self.file(part))), columns=[ID, ANSWER])
                writer.writerows(
                    zip(table.column(ID).to_pylist(), table.column(ANSWER).to_pylist(), strict=True)
                )
                count += table.num_rows
        return count


Read = Callable[[str], np.ndarray]


def make_image_reader(images: str, least: tuple[int, int] | None = None) -> Read:
    """What decodes an image of a folder by its id; `least` is that of `data.images.decode.decode_bytes`.

    It raises `InputError` where there is no such image, here also where a link leads out of the folder.
    """
    root = urls.local_folder(images)

    def read(name: str) -> np.ndarray:
        place = urls.join(images, name)
        if root and (why := path_problem(root, name)):
            raise InputError(f"{place}: {why}")
        return decode_bytes(urls.read_bytes(place), place, least)

    return read


def load_batches(
    pipelines: Sequence[Pipeline], ids: Sequence[str], read: Read, first_row: int, batch_size: int
) -> Iterator[Sequence[Tensor]]:
    """Batches of images as pipelines show them, read by threads; the next is read while one is computed.

    Args:
        pipelines: that each image goes through; a batch holds uint8 [B, 3, H, W] for each of them.
        ids: of the images.
        read: id -> RGB uint8 [H, W, 3].
        first_row: which row of the listing the first one is.
        batch_size: images of a batch.
    """
    with ThreadPoolExecutor(READERS) as pool:
        ahead = [pool.submit(read, name) for name in ids[:batch_size]]
        for start in range(0, len(ids), batch_size):
            here, next_start = ahead, start + batch_size
            ahead = [pool.submit(read, name) for name in ids[next_start : next_start + batch_size]]
            try:
                # Not in the threads: a pipeline's steps hold the state of their chance.
                seen = [
                    apply_pipelines(pipelines, image.result(), (0, 0, first_row + start + place))
                    for place, image in enumerate(here)
                ]
                yield default_collate(seen)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _columns(
    ids: Sequence[str], batches: Sequence[Result], tasks: Mapping[str, Task], margins: Mapping[str, float]
) -> dict[str, object]:
    said = {name: concat_outputs([batch[name] for batch in batches]) for name in batches[0]}
    columns: dict[str, object] = {ID: ids, ANSWER: argmax([its.merged for its in said.values()])}
    for name, its in said.items():
        columns |= {name: _lists(its.merged), f"{name}/{IDENTITY}": _lists(its.identity)}
        if its.number is not None:
            columns[f"{name}/{NUMBER}"] = its.number
        if margins:
            columns[f"{name}/{VIEWS}"] = count_views(its.identity, margins[name], len(tasks[name].views))
    return columns


def _lists(rows: Probabilities) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
