"""What is no .npz of combine.py is refused by its path."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.runtime.errors import InputError
from ensemble.files.predictions import read_arrays


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
    "pickle_within": lambda: archive(
        "ImageID.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n")
    ),
    "header_without_end": lambda: npy("{'descr': '<i8', 'fortran_order\0\n"),  # found by the fuzzer
    "header_that_lies": lambda: archive(
        "mask.npy", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10**9, 10**6)}\n")
    ),
    "zip_cut_short": lambda: archive("mask.npy", single())[:-30],
    "other_within": lambda: archive("mask.npy", npy("[]\n")),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_what_is_none_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "probabilities.npz"
    path.write_bytes(CONTENTS[kind]())
    with pytest.raises(InputError, match=r"probabilities\.npz: cannot be read .* expected the \.npz file"):
        read_arrays(path)


def test_a_header_in_an_old_dialect_is_no_warning(tmp_path: Path) -> None:
    header = "{'descr': '<i8', 'fortran_order': False, 'shape': (1L,)}\n"  # as Python 2 wrote it
    (tmp_path / "old.npz").write_bytes(archive("mask.npy", npy(header) + bytes(8)))
    assert read_arrays(tmp_path / "old.npz")["mask"].tolist() == [0]
