"""combine.py ended by a signal keeps its answers; two of them do not write into one folder."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from torch import Tensor

import combine
import ensemble.inference.parts
from ensemble.inference.predictor import Task

FILES = ["probabilities.npz", "submission.csv"]


@pytest.fixture
def arguments(runs: Path, configs: Path, faces: Path) -> list[object]:
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", faces / "eval", "--workers", 0]
    return [*given, "--batch-size", 4]


def signalled(at: int) -> Callable:
    """Task.view_logits, which sends this process SIGTERM when it is called for the n-th time."""
    left, inner = [at], Task.view_logits

    def view_logits(task: Task, *given: object) -> Tensor:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGTERM)
        return inner(task, *given)

    return view_logits


def test_a_stopped_combine_goes_on_to_the_same_bytes(
    arguments: list[object], call: Callable, tmp_path: Path
) -> None:
    assert call(combine, *arguments, "--out", tmp_path / "whole" / "submission.csv").code == 0
    out = tmp_path / "parts" / "submission.csv"
    with patch.object(Task, "view_logits", signalled(20)):  # three tasks: in the seventh batch
        outcome = call(combine, *arguments, "--out", out)
    assert outcome.code == 143
    assert outcome.err.splitlines()[-1] == (
        "stopped by SIGTERM; 24 of 56 answers are kept; the same command goes on"
    )
    assert not out.exists()
    outcome = call(combine, *arguments, "--out", out)
    assert outcome.code == 0, outcome.err
    assert "going on after 24 of 56 answers" in outcome.out
    assert sorted(path.name for path in out.parent.iterdir()) == FILES
    for file in FILES:
        assert (out.parent / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_adaptive_views_go_on_to_the_same_bytes(
    arguments: list[object], call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensemble.inference.parts, "ROWS", 10)  # three batches
    arguments = [*arguments, "--views", "adaptive", "--margin", 0.05]
    assert call(combine, *arguments, "--out", tmp_path / "whole" / "submission.csv").code == 0
    out = tmp_path / "parts" / "submission.csv"
    with patch.object(Task, "view_logits", signalled(26)):
        outcome = call(combine, *arguments, "--out", out)
    assert outcome.code == 143
    [kept] = re.findall(r"(\d+) of 56 answers are kept", outcome.err)
    assert int(kept) in (12, 24)
    outcome = call(combine, *arguments, "--out", out)
    assert outcome.code == 0, outcome.err
    assert f"going on after {kept} of 56 answers" in outcome.out
    for file in FILES:
        assert (out.parent / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_two_do_not_write_into_one_folder(
    arguments: list[object], call: Callable, held_elsewhere: Callable, tmp_path: Path
) -> None:
    with held_elsewhere(tmp_path / ".combine.lock") as other:
        outcome = call(combine, *arguments, "--out", tmp_path / "submission.csv")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith(f"error: {tmp_path} is in use by process {other} on ")
    assert list(tmp_path.iterdir()) == []
