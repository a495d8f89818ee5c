"""probabilities.npz: written as numpy writes it, refused by its path if it is something else."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.runtime.errors import InputError
from ensemble.files.predictions import Predictions, TaskOutput, read_probabilities, write_probabilities


def test_streamed_arrays_are_numpy_s_own_and_read_back(tmp_path: Path) -> None:
    def make(first: int, stop: int) -> Predictions:
        rows, views = np.arange(3 * first, 3 * stop, dtype="f4").reshape(-1, 3), np.arange(first, stop, dtype=np.uint8)
        errors = [f"error {row}" if row % 4 == 0 else "" for row in range(first, stop)]
        return Predictions({"mask": TaskOutput(rows, -rows, rows[:, 1], views), "age": TaskOutput(rows)}, errors)

    whole, parts = make(0, 10), [make(0, 4), make(4, 8), make(8, 10)]
    joined = Predictions.concat(parts)
    back = Predictions.from_arrays(joined.to_arrays())
    assert len(joined) == 10
    assert back.errors == joined.errors == whole.errors
    for name, output in whole.tasks.items():
        for found, expected in zip(back.tasks[name], output, strict=True):
            assert (found is None) == (expected is None)
            assert expected is None or np.array_equal(found, expected)

    ids = [f"ä{number}.jpg" for number in range(10)]
    names = ["wear", "incorrect", "normal"]
    write_probabilities(tmp_path / "streamed.npz", ids, {"mask": names, "age": names}, parts, {"mask": 1.5})
    rows, _, _, views = whole.tasks["mask"]
    expected = {"ImageID": np.array(ids), "mask": rows, "mask/identity": -rows, "mask/number": rows[:, 1]}
    expected |= {"mask/views": views, "mask/classes": np.array(names), "mask/temperature": np.array(1.5)}
    expected |= {"age": rows, "age/classes": np.array(names)}
    np.savez_compressed(tmp_path / "numpy.npz", allow_pickle=False, **expected)
    assert (tmp_path / "streamed.npz").read_bytes() == (tmp_path / "numpy.npz").read_bytes()
    read = read_probabilities(tmp_path / "streamed.npz")
    assert {name: array.dtype for name, array in read.items()} == {n: a.dtype for n, a in expected.items()}


def test_rows_are_formatted_as_pandas_does() -> None:
    rows = np.random.default_rng(0).dirichlet([1, 1], 7).astype("f4")
    ids = ["a.jpg", "long name.jpg", 'ä,"b\n.jpg', "x", "y", "z", "w"]
    classes = {"mask": ["wear", "no"], "age": ["young", "old"]}
    for errors in [[""] * 7, ["", "no such\tfile", "", "", "", "", ""]]:
        tasks = {"mask": TaskOutput(rows), "age": TaskOutput(rows[::-1], value=100 * rows[:, 0])}
        found = Predictions(tasks, errors, ids=ids, classes=classes)
        expected = found.to_frame().head().to_string(index=False, float_format="{:.3f}".format)
        assert found.format_rows() == expected


def archive(name: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(name, content)
    return made.getvalue()


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header.encode()


def single() -> bytes:
    made = io.BytesIO()
    np.save(made, np.arange(5))
    return made.getvalue()


CONTENTS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"ImageID,ans\n",
    "single_array": single,
    "pickle": lambda: pickle.dumps({"ImageID": ["a.jpg"]}),
    "pickle_within": lambda: archive("ImageID.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n")),
    "header_without_end": lambda: npy("{'descr': '<i8', 'fortran_order\0\n"),  # found by the fuzzer
    "header_that_lies": lambda: archive(
        "mask.npy", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10**9, 10**6)}\n")
    ),
    "zip_cut_short": lambda: archive("mask.npy", single())[:-30],
    "other_within": lambda: archive("mask.npy", npy("[]\n")),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_other_files_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "probabilities.npz"
    path.write_bytes(CONTENTS[kind]())
    with pytest.raises(InputError, match=r"probabilities\.npz: cannot be read .* expected the \.npz file"):
        read_probabilities(path)


def test_a_header_of_python_2_is_no_warning(tmp_path: Path) -> None:
    header = "{'descr': '<i8', 'fortran_order': False, 'shape': (1L,)}\n"
    (tmp_path / "old.npz").write_bytes(archive("mask.npy", npy(header) + bytes(8)))
    assert read_probabilities(tmp_path / "old.npz")["mask"].tolist() == [0]
