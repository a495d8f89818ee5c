"""The sections on inference: what is listed, answered, compared and written."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import combine
from bench.plain import __main__ as plain
from bench.speed import combining, loaded, memory
from bench.speed.images import read_heads, shared_images, write_listing
from bench.speed.running import Process, run, watched
from data.images.inputs import list_inputs
from data.runtime.arrays import write_arrays
from data.runtime.errors import InputError
from ensemble.joint import decode
from heads.run.folder import run_folder
from tests.conftest import Outcome

TASKS = ["mask", "gender", "age"]
SCRIPT = """
import sys, time
from torch.utils.data import DataLoader
time.sleep(0.2)
for loader in range(2):
    for batch in DataLoader([int(sys.argv[1]), 6]):
        print(batch.item(), flush=True)
time.sleep(0.2)
"""


@pytest.fixture
def in_process(call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Run commands in this process, each in three seconds of which the first two go by before its first batch."""
    commands: list[Sequence[str]] = []

    def answer(command: Sequence[str]) -> Process:
        name, *arguments = command[command.index("bench.speed.watch") + 1 :]
        outcome = call({"combine.py": combine, "bench.plain": plain}[name], *arguments, "--workers", 0)
        assert outcome.code == 0, outcome.err
        commands.append([name, *arguments])
        return Process(seconds=3.0, first=2.0, peak=100 * len(commands))

    for module in (combining, memory):
        monkeypatch.setattr(module, "run", answer)
    monkeypatch.setattr(combining, "MIN_IMAGES", 16)  # too few to measure engines
    return commands


def test_a_script_reports_its_first_batch_and_memory(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    process = run(watched(tmp_path / "script.py", 5))
    assert 0.2 < process.first < process.seconds - 0.2
    assert 50 < process.peak < 2000


def test_listings_spread_over_the_images_or_repeat_them(faces: Path, tmp_path: Path) -> None:
    images = sorted(str(path) for path in (faces / "eval/images").iterdir())[:5]
    few = write_listing(images, 3, tmp_path / "few")
    assert few.paths == [images[0], images[2], images[4]]
    assert combining.describe(few) == "3 images"
    many = write_listing(images, 12, tmp_path / "many")
    assert combining.describe(many) == "12 images (5 images and copies of them)"
    listed = [Path(path).read_bytes() for path in list_inputs(many.folder).paths]
    assert listed == [Path(images[place % 5]).read_bytes() for place in range(12)]
    os.utime(tmp_path / "few")  # a second call replaces the first one's files
    assert len(list_inputs(write_listing(images, 2, tmp_path / "few").folder)) == 2


def test_images_are_those_that_all_heads_were_validated_on(runs: Path, tmp_path: Path) -> None:
    heads = read_heads(runs, TASKS)
    paths, codes = shared_images(heads, [3, 2, 3])
    for head, digits in zip(heads.values(), decode(codes, [3, 2, 3]), strict=True):
        truth = dict(zip(head["path"].tolist(), head["truth"].tolist(), strict=True))
        assert [truth[path] for path in paths] == digits.tolist()
    with np.load(run_folder(runs, "age").validation) as saved:
        arrays = {**saved, "path": np.char.add(saved["path"], ".gone")}
    write_arrays(run_folder(tmp_path, "age").validation, arrays)
    with pytest.raises(InputError, match=r"(?s)not where they were.*\.gone"):
        read_heads(tmp_path, ["age"])


def rows_of(section: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:2] == "| "][2:]


def test_loops_of_the_same_views_are_compared(
    runs: Path, configs: Path, in_process: list[Sequence[str]], tmp_path: Path
) -> None:
    fast = ["--views", "adaptive", "--margin", "1", "--engine", "torch"]
    text = combining.measure(runs, configs / "joint.yaml", 10, 1, fast, tmp_path)
    loop, good, exact, default, adaptive = rows_of(text)
    for row in (loop, good, exact, default, adaptive):
        assert row[1:6] == ["3 (3 to 3)", "1.00x", "1.00x", "2 (2 to 2)", "10 (10 to 10)"]
    assert (loop[7], loop[8]) == ("100.00% of the plain loop's", "0.0e+00")
    assert exact[0] == "combine.py --views all --engine torch --precision fp32"
    assert exact[7] == "100.00% of the plain loop's"
    assert float(exact[8]) < 1e-4
    assert exact[6] == loop[6], "joint macro F1"
    assert default[7].endswith("of the good loop's")
    assert [command[0] for command in in_process].count("bench.plain") == 2, "which are not warmed up"


def test_fast_answers_are_scored_on_each_heads_own_people(
    runs: Path, configs: Path, in_process: list[Sequence[str]], tmp_path: Path
) -> None:
    text = combining.measure_fast(
        runs, configs / "joint.yaml", 50, 1, ["--engine", "torch", "--views", "all"], tmp_path
    )
    assert "50 (50 to 50) images a second from its first batch on" in text
    heads = read_heads(runs, TASKS)
    for row in rows_of(text):
        assert row[1] == str(len(heads[row[0]]["truth"]))
        assert row[4:] == ["+0.0000", "100.00%"], "the same views, in float32"


def test_memory_is_compared_as_images_grow(configs: Path, in_process: list[Sequence[str]], tmp_path: Path) -> None:
    text = memory.measure(configs, (20, 40), tmp_path)
    assert rows_of(text) == [["20", "100", "20"], ["40", "200", "40"]]
    assert "2 times the images take +100.0% of memory" in text
    assert all("plain" in command for command in in_process)


def test_shared_layers_change_no_bit(runs: Path, configs: Path) -> None:
    text = loaded.measure_shared(runs, configs / "joint.yaml", 6, 1)
    assert "6 images, all views, PyTorch in float32, without decoding; the probabilities are equal bit for bit" in text
    assert len(rows_of(text)) == 2


def test_one_image_is_timed_as_a_loaded_model_answers_it(runs: Path, configs: Path) -> None:
    [[first, others]] = rows_of(loaded.measure_image(runs, configs / "joint.yaml"))
    assert 0 < float(others.split()[0]) < 10_000
    assert float(first) > 0
