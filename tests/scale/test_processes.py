"""Several processes train one head as one process does: the same losses, images, metrics and weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.scale.conftest import Launch

pytestmark = pytest.mark.scale
SCRIPT = Path(__file__).with_name("one_of_several.py")
# 24 squares in batches of 5 (the last has 4) and of 23 (the last has 1: one process goes without).
CASES = [("focal", 5, 2), ("soft_f1", 5, 3), ("cross_entropy", 23, 2)]


def trained(launch: Launch, squares: Any, out: Path, *case: object, processes: int) -> list[dict[str, Any]]:
    out.mkdir()
    process = launch(str(SCRIPT), squares.folder, out, *case, processes=processes)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    return [dict(np.load(out / f"{index}.npz")) for index in range(processes)]


@pytest.mark.parametrize(("loss", "batch", "processes"), CASES)
def test_several_processes_train_as_one_does(
    launch: Launch, squares: Any, tmp_path: Path, loss: str, batch: int, processes: int
) -> None:
    [alone] = trained(launch, squares, tmp_path / "alone", loss, batch, processes=1)
    several = trained(launch, squares, tmp_path / "several", loss, batch, processes=processes)
    assert len(alone["losses"]) >= 20
    for one in several:
        for name in ("losses", "weights", "train_loss", "macro_f1"):
            np.testing.assert_allclose(one[name], alone[name], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(several[0]["weights"], several[1]["weights"])
    # The main process has the validation output: every row once, in order.
    np.testing.assert_allclose(several[0]["probabilities"], alone["probabilities"], rtol=0, atol=1e-5)
    assert [len(one["probabilities"]) for one in several[1:]] == [0] * (processes - 1)
    # Each row of an epoch goes to one process; an empty share reads the first image for its shape, once an epoch.
    counts = [len(one["draws"]) for one in several]
    assert sum(counts) - len(alone["draws"]) == (10 if batch == 23 else 0)
    draws = np.unique(np.concatenate([one["draws"] for one in several]), axis=0)
    np.testing.assert_array_equal(draws, np.unique(alone["draws"], axis=0))
    assert max(counts) - min(counts) <= len(alone["losses"])
