"""The ceiling is of the same graphs and passes as the ensemble's."""

from pathlib import Path

import pytest
import torch

from bench.cost import answer_gflop, head_gflop
from bench.speed.ceiling import graph_parts, make_product, measure
from bench.speed.forward import measure_rate
from ensemble import Ensemble
from ensemble.inference.predictor import Predictor

pytestmark = pytest.mark.engines


def test_every_view_of_every_head_is_a_pass(runs: Path, configs: Path) -> None:
    model = Ensemble.load(runs, configs / "joint.yaml", engine="openvino", precision="fp32")
    parts = graph_parts(model.predictor)
    passes = sum(len(places) for _, places in parts)
    assert passes == sum(len(task.views) for task in model.tasks.values())
    gflop = sum(head_gflop(task.heads[0]) * len(task.views) for task in model.tasks.values())
    assert answer_gflop(Predictor(model.tasks)) == pytest.approx(gflop), "heads of random weights share nothing"


def test_the_section_has_a_row_for_each_precision(runs: Path, configs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.speed.ceiling.SIDE", 64)
    monkeypatch.setattr("bench.speed.forward.SECONDS", 0.01)
    text = measure(runs, configs / "joint.yaml", 4, 1, (), ["fp32"])
    [row] = [line for line in text.splitlines() if line.startswith("| fp32")]
    matrices, own, alone, ours, share = (float(cell.split()[0]) for cell in row.split("|")[2:-1])
    assert share == pytest.approx(100 * ours / alone, rel=0.02)
    assert min(matrices, own) > 0


def test_rates_count_calls_after_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def work() -> None:
        now[0] += 0.25

    monkeypatch.setattr("bench.speed.forward.time.perf_counter", lambda: now[0])
    assert measure_rate(work) == 4.0
    assert now == [0.75], "the first of three calls is not counted"


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 1e-2), ("int8", 0)])
def test_products_are_of_the_matrices_in_their_precision(
    precision: str, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.speed.ceiling.SIDE", 32)
    work = make_product(precision)
    [one, other] = work.args
    torch.testing.assert_close(work().double(), one.double() @ other.double(), rtol=tolerance, atol=10 * tolerance)
