"""train_task.py with SIGKILL at any moment, then --resume: the head of a run that nothing interrupted."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from heads.run.checkpoint import load_tensors

MORE = ("--set", "training.epochs=3", "--set", "classifier.dropout=0.5", "--set", "training.batch_size=8")
PHASES = ("loading", "step", "validation", "writing", "closing")
Run = Callable[..., dict]


@pytest.fixture(scope="module")
def arguments(configs: Path, faces: Path) -> list[object]:
    return ["train_task", "--task", "mask", "--config", configs / "mask.yaml", "--data", faces / "train", *MORE]


@pytest.fixture(scope="module")
def whole(
    arguments: list[object], nursery: Run, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict]]:
    """A run that nothing interrupted, and how often and how long it was in each phase."""
    runs = tmp_path_factory.mktemp("whole")
    reply = nursery(*arguments, "--runs", runs)
    assert reply["code"] == 0, reply["err"]
    yield runs / "mask", reply["phases"]
    shutil.rmtree(runs)


def kill_and_resume(arguments: list[object], nursery: Run, runs: Path, kills: list[dict]) -> int:
    """Kill a run as often as told, then let it end; returns how many of the kills came in time."""
    hit = 0
    for number, kill in enumerate(kills):
        reply = nursery(*arguments, "--runs", runs, *(["--resume"] if number else []), **kill)
        assert reply["code"] in (0, -9), reply["err"]
        hit += reply["code"] == -9
    reply = nursery(*arguments, "--runs", runs, "--resume")
    assert reply["code"] == 0, reply["err"]
    return hit


def assert_nothing_lost(whole: Path, run: Path) -> None:
    for file in ("best.safetensors", "last.safetensors"):
        first, second = load_tensors(whole / file)[0], load_tensors(run / file)[0]
        assert first.keys() == second.keys()
        assert [name for name in first if not torch.equal(first[name], second[name])] == []
    epochs = [line.split(",")[0] for line in (run / "history.csv").read_text().splitlines()]
    assert epochs == ["epoch", "1", "2", "3"]
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []


def chosen(phase: str, phases: dict, rng: random.Random, share: int = 1) -> dict:
    """A random moment in a phase: one of its (first) entries, and up to as long after as the phase lasts."""
    entries, seconds = phases[phase]
    entries = -(-entries // share)
    return {"phase": phase, "entry": rng.randint(1, entries), "delay": rng.uniform(0, seconds)}


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_training_goes_on_to_the_same_head(
    phase: str, whole: tuple[Path, dict], arguments: list[object], nursery: Run, tmp_path: Path
) -> None:
    kill = chosen(phase, whole[1], random.Random(phase))
    kill_and_resume(arguments, nursery, tmp_path, [kill])
    assert_nothing_lost(whole[0], tmp_path / "mask")
    shutil.rmtree(tmp_path)


@pytest.mark.faults
def test_thirty_random_moments(
    whole: tuple[Path, dict], arguments: list[object], nursery: Run, tmp_path: Path
) -> None:
    rng = random.Random()
    counts: Counter[str] = Counter()
    while min((counts[phase] for phase in PHASES), default=0) < 6:
        phase = min(PHASES, key=lambda name: counts[name])
        hit = kill_and_resume(arguments, nursery, tmp_path, [chosen(phase, whole[1], rng)])
        assert_nothing_lost(whole[0], tmp_path / "mask")
        counts[phase] += hit
        shutil.rmtree(tmp_path / "mask")
    print(f"\ntrain_task.py killed {counts.total()} times, resumed to the same head each time: {dict(counts)}")


@pytest.mark.faults
def test_killed_again_and_again(
    whole: tuple[Path, dict], arguments: list[object], nursery: Run, tmp_path: Path
) -> None:
    """Six kills in one run, with two loader workers; each soon after the run went on."""
    rng = random.Random()
    kills = [chosen(phase, whole[1], rng, share=6) for phase in 2 * PHASES[1:4]]
    hit = kill_and_resume([*arguments, "--set", "training.workers=2"], nursery, tmp_path, kills)
    assert_nothing_lost(whole[0], tmp_path / "mask")
    assert hit >= 4
    print(f"\ntrain_task.py killed {hit} times in one run, the same head in the end")
