"""Listings too long for one machine's memory: read as a stream and split into parts of equal length.

A listing is a CSV or a Parquet file with a column ImageID, or a folder of images. It is read once and stored in parts
beside the predictions, so that any machine can predict any part, and a stopped run resumes with the same ones.
"""

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from data.images.find import ID, IMAGES, LISTING, PARQUET_LISTING
from data.runtime.errors import InputError, raise_all
from data.runtime.files import unsafe_reason
from ensemble.cluster import remote as urls


def find_listing(data: str) -> tuple[str, str]:
    """Find the listing and the folder of its images for `--data`: a listing, a folder that holds one, or of images.

    For a folder on this machine with an info.csv or no listing, they are those of `data.images.find.list_images`.
    """
    if data.endswith((".csv", ".parquet")):
        return data, urls.join(data.rpartition("/")[0], IMAGES)
    for name in (LISTING, PARQUET_LISTING):
        if urls.exists(urls.join(data, name)):
            return urls.join(data, name), urls.join(data, IMAGES)
    return data, data


def read_ids(listing: str) -> Iterator[str]:
    """Yield the image ids of a CSV, a Parquet file or a folder, in order, with a bounded part of it in memory."""
    if not listing.endswith((".csv", ".parquet")):
        yield from urls.find_images_below(listing)
        return
    system, path = urls.open_filesystem(listing)
    try:
        with system.open(path, "rb") as file:
            for batch in _batches(file, listing):
                yield from batch.column(0).cast(pa.string()).to_pylist()
    except OSError as error:
        raise InputError(f"{listing}: cannot be read ({error}), expected a listing") from None
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{listing}: {reason}; expected a column {ID}, one row per image") from None


def _batches(file: io.IOBase, listing: str) -> Iterable[pa.RecordBatch]:
    is_csv = listing.endswith(".csv")
    columns = pyarrow.csv.open_csv(file).schema.names if is_csv else pq.ParquetFile(file).schema_arrow.names
    if columns.count(ID) != 1:
        raise InputError(f"{listing}: columns {', '.join(columns)}; expected {ID} once, one row per image")
    file.seek(0)
    convert = pyarrow.csv.ConvertOptions(include_columns=[ID], column_types={ID: pa.string()})
    if is_csv:
        return pyarrow.csv.open_csv(file, convert_options=convert)  # type: ignore[no-any-return]
    return pq.ParquetFile(file).iter_batches(columns=[ID])  # type: ignore[no-any-return]


def split_listing(listing: str, pieces: str, rows: int) -> list[int]:
    """Store a listing as Parquet files of `rows` ids each (the last has the rest); return their lengths.

    Raises:
        InputError: no image, empty or repeated ids, or ids that lead out of the images' folder.
    """
    ids = read_ids(listing)
    lengths: list[int] = []
    hashes: list[npt.NDArray[np.int64]] = []
    while part := list(islice(ids, rows)):
        reasons = ((row, name, _id_problem(name)) for row, name in enumerate(part, sum(lengths) + 1))
        problems = [f"image {row}: {ID}={name!r} {why}" for row, name, why in reasons if why]
        raise_all(f"{listing}: bad rows", problems)
        urls.write_bytes(piece_path(pieces, len(lengths)), to_parquet({ID: part}))
        hashes.append(np.fromiter(map(hash, part), dtype=np.int64, count=len(part)))
        lengths.append(len(part))
    if not lengths:
        raise InputError(f"{listing}: found no image, expected at least one")
    _check_duplicates(listing, pieces, np.concatenate(hashes), len(lengths))
    return lengths


def piece_path(pieces: str, part: int) -> str:
    """Path or URL of a part of the listing."""
    return urls.join(pieces, f"part-{part:06d}.parquet")


def read_piece(pieces: str, part: int) -> list[str]:
    """Read the image ids of a part."""
    table = pq.read_table(io.BytesIO(urls.read_bytes(piece_path(pieces, part))))
    return [str(name) for name in table.column(ID).to_pylist()]


def to_parquet(columns: dict[str, object]) -> bytes:
    """Convert columns to the bytes of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def _id_problem(name: str | None) -> str:
    return unsafe_reason(name) if name and name.strip() else "is empty, expected a file name"


def _check_duplicates(listing: str, pieces: str, hashes: npt.NDArray[np.int64], parts: int) -> None:
    """Raise InputError for repeated ids; eight bytes per image find candidates, and only those are compared as text."""
    hashes.sort()
    candidates = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    counts: Counter[str] = Counter()
    for part in range(parts if candidates else 0):
        counts.update(name for name in read_piece(pieces, part) if hash(name) in candidates)
    repeated = [(name, count) for name, count in counts.items() if count > 1]
    raise_all(f"{listing}: bad rows", [f"{ID}={name!r} is there {n} times, expected once" for name, n in repeated])
