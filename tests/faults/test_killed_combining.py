"""combine.py with SIGKILL at any moment, run again: the same bytes, and nothing done twice."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PHASES = ("loading", "predicting", "part", "merging")
Run = Callable[..., dict]
FILES = ("submission.csv", "probabilities.npz")


@pytest.fixture(scope="module", params=[[], ["--views", "adaptive", "--margin", 0.05]], ids=["all", "adaptive"])
def arguments(request: pytest.FixtureRequest, runs: Path, configs: Path, faces: Path) -> list[object]:
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", faces / "eval", "--workers", 0]
    return ["combine", *given, "--batch-size", 4, *request.param]


@pytest.fixture(scope="module")
def whole(
    arguments: list[object], nursery: Run, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict]]:
    out = tmp_path_factory.mktemp("whole")
    reply = nursery(*arguments, "--out", out / "submission.csv", part_rows=8)
    assert reply["code"] == 0, reply["err"]
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    return out, reply["phases"]


def kill_and_rerun(
    arguments: list[object], nursery: Run, whole: tuple[Path, dict], out: Path, phase: str, rng: random.Random
) -> bool:
    """Kill at a random moment of `phase`, check what is there, run again, compare; whether it came in time."""
    entries, seconds = whole[1][phase]
    kill = {"phase": phase, "entry": rng.randint(1, entries), "delay": rng.uniform(0, seconds)}
    (out / "submission.csv").write_text("yesterday's\n")
    reply = nursery(*arguments, "--out", out / "submission.csv", part_rows=8, **kill)
    assert reply["code"] in (0, -9), reply["err"]
    expected = (whole[0] / "submission.csv").read_bytes()
    assert (out / "submission.csv").read_bytes() in (b"yesterday's\n", expected)
    kept = sum(8 for _ in out.glob("submission.csv.parts/*/part-*.npz"))
    again = nursery(*arguments, "--out", out / "submission.csv", part_rows=8)
    assert again["code"] == 0, again["err"]
    for file in FILES:
        assert (out / file).read_bytes() == (whole[0] / file).read_bytes()
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert again["phases"]["loading"][0] == whole[1]["loading"][0] - kept
    return bool(reply["code"] == -9)


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_combine_goes_on_to_the_same_bytes(
    phase: str, arguments: list[object], nursery: Run, whole: tuple[Path, dict], tmp_path: Path
) -> None:
    kill_and_rerun(arguments, nursery, whole, tmp_path, phase, random.Random(phase))


@pytest.mark.faults
def test_twenty_random_moments(
    arguments: list[object], nursery: Run, whole: tuple[Path, dict], tmp_path: Path
) -> None:
    rng, counts = random.Random(), Counter[str]()
    while min(counts[phase] for phase in PHASES) < 5:
        phase = min(PHASES, key=lambda name: counts[name])
        counts[phase] += kill_and_rerun(arguments, nursery, whole, tmp_path, phase, rng)
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
    print(f"\ncombine.py killed {counts.total()} times, the same bytes each time: {dict(counts)}")
