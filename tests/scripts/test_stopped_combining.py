"""combine.py ended by a signal resumes to the same bytes; two of them do not write into one folder."""

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
from ensemble.inference.predictor import HeadGroup

FILES = ["probabilities.npz", "submission.csv"]


@pytest.fixture
def arguments(runs: Path, configs: Path, faces: Path) -> list[object]:
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", faces / "eval", "--workers", 0]
    return [*given, "--batch-size", 4]


def signalled(at: int) -> Callable:
    """HeadGroup.view_logits, which sends this process SIGTERM when it is called for the n-th time."""
    left, inner = [at], HeadGroup.view_logits

    def view_logits(group: HeadGroup, *given: object) -> dict[str, Tensor]:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGTERM)
        return inner(group, *given)

    return view_logits


@pytest.mark.parametrize(
    ("options", "call_at", "saved"),
    [([], 7, {24}), (["--views", "adaptive", "--margin", 0.05], 12, {12, 24})],  # whole batches, or windows
    ids=["all", "adaptive"],
)
def test_a_stopped_run_resumes_to_the_same_bytes(
    options: list[object],
    call_at: int,
    saved: set[int],
    arguments: list[object],
    call: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ensemble.inference.parts, "ROWS", 10)  # three batches
    assert call(combine, *arguments, *options, "--out", tmp_path / "whole" / "submission.csv").code == 0
    out = tmp_path / "parts" / "submission.csv"
    with patch.object(HeadGroup, "view_logits", signalled(call_at)):
        outcome = call(combine, *arguments, *options, "--out", out)
    assert outcome.code == 143
    last = outcome.err.splitlines()[-1]
    [rows] = re.findall(r"^stopped by SIGTERM; predictions of (\d+) of 56 images are saved; the same command", last)
    assert int(rows) in saved
    assert not out.exists()
    outcome = call(combine, *arguments, *options, "--out", out)
    assert outcome.code == 0, outcome.err
    assert f"resuming after {rows} of 56 images" in outcome.out
    assert sorted(path.name for path in out.parent.iterdir()) == FILES
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
