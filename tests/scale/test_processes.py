"""Several processes train one head as one process does: the same losses, images, figures and weights."""

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
        np.testing.assert_allclose(one["losses"], alone["losses"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(one["weights"], alone["weights"], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(one["macro_f1"], alone["macro_f1"])
        np.testing.assert_allclose(one["train_loss"], alone["train_loss"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(several[0]["weights"], several[1]["weights"])
    # One process tells of its epochs; its validation has every row once, in order.
    np.testing.assert_allclose(several[0]["probabilities"], alone["probabilities"], rtol=0, atol=1e-5)
    assert [len(one["probabilities"]) for one in several[1:]] == [0] * (processes - 1)


def test_each_draw_of_an_epoch_is_seen_by_one_process(launch: Launch, squares: Any, tmp_path: Path) -> None:
    [alone] = trained(launch, squares, tmp_path / "alone", "focal", 5, processes=1)
    several = trained(launch, squares, tmp_path / "several", "focal", 5, processes=2)
    dealt = np.concatenate([one["draws"] for one in several])
    for epoch in range(10):
        drawn = alone["draws"][alone["draws"][:, 0] == epoch, 1]
        assert sorted(dealt[dealt[:, 0] == epoch, 1]) == sorted(drawn)
        assert len(drawn) == 24
    assert abs(len(several[0]["draws"]) - len(several[1]["draws"])) <= len(alone["losses"])
