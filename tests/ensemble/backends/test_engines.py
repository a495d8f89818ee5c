"""Every engine gives PyTorch's probabilities, for any number of images, on the threads it is given."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import combine
from data.runtime.errors import InputError
from ensemble.backends.engines import BACKENDS, CHUNK, PACKAGES, CheckedBackend, input_size
from ensemble.inference.parts import make_key
from heads.build import TrainedHead, load_head

pytestmark = pytest.mark.engines
TASKS = ("mask", "gender", "age")


@pytest.fixture(scope="module")
def heads(runs: Path) -> dict[str, TrainedHead]:
    return {task: load_head(runs / task / "best.safetensors") for task in TASKS}


@pytest.fixture(scope="module")
def modules(heads: dict[str, TrainedHead]) -> Callable[[str], dict[str, nn.Module]]:
    """What an engine makes of each head, made once."""

    @cache
    def made(engine: str) -> dict[str, nn.Module]:
        pytest.importorskip(PACKAGES[engine])
        return {task: BACKENDS[engine](trained) for task, trained in heads.items()}

    return made


def shown(trained: TrainedHead, count: int) -> Tensor:
    return torch.rand(count, 3, *input_size(trained), generator=torch.Generator().manual_seed(count))


def probabilities(trained: TrainedHead, head: nn.Module, pixels: Tensor) -> Tensor:
    with torch.inference_mode():
        return trained.target.probabilities(head(pixels))


@pytest.mark.parametrize("engine", BACKENDS)
def test_every_engine_gives_pytorch_s_probabilities(
    engine: str, modules: Callable, heads: dict[str, TrainedHead]
) -> None:
    tolerance = 1e-5 if engine == "torch" else 1e-4
    for task, module in modules(engine).items():
        trained = heads[task]
        # None and one, and as many as do and do not fit whole chunks; the last one again: nothing is left over.
        for count in (1, CHUNK, CHUNK + 3, 1, 0):
            pixels = shown(trained, count).flip(-1).contiguous(memory_format=torch.channels_last)
            found, expected = (probabilities(trained, head, pixels) for head in (module, trained.head))
            torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
        levels = torch.randint(0, 256, (2, 3, *input_size(trained)), dtype=torch.uint8)
        torch.testing.assert_close(
            probabilities(trained, module, levels),
            probabilities(trained, trained.head, levels),
            rtol=0,
            atol=tolerance,
        )


class Off(nn.Module):
    """A head whose logits are others by so much for the first class."""

    def __init__(self, head: nn.Module, by: float) -> None:
        super().__init__()
        self.head, self.by = head, by

    def forward(self, pixels: Tensor) -> Tensor:
        logits = self.head(pixels).clone()
        logits[:, 0] += self.by
        return logits


@pytest.mark.parametrize("by", [0.01, float("nan")])
def test_an_engine_that_answers_otherwise_is_refused(by: float, heads: dict[str, TrainedHead]) -> None:
    trained = heads["mask"]
    pixels = shown(trained, 3)
    with torch.inference_mode():
        CheckedBackend(Off(trained.head, 1e-6), trained, "onnx")(pixels)
        with pytest.raises(InputError, match=r"--engine onnx: probabilities of mask differ .* --engine torch"):
            CheckedBackend(Off(trained.head, by), trained, "onnx")(pixels)


def test_the_script_offers_the_engines_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    choices: list[object] = []
    add = argparse.ArgumentParser.add_argument

    def noted(parser: argparse.ArgumentParser, *names: str, **how: object) -> argparse.Action:
        if names == ("--engine",):
            choices.append(how["choices"])
        return add(parser, *names, **how)

    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", noted)
    with patch.object(sys, "argv", ["combine.py", "--data", "x"]):
        assert combine.parse().engine == "torch"
    assert choices == [tuple(BACKENDS)]


@pytest.fixture(scope="module")
def combined(runs: Path, configs: Path, faces: Path, call: Callable, tmp_path_factory) -> Callable:
    """Every head's probabilities, as combine.py makes them with an engine."""
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", faces / "eval", "--workers", 0]

    def noted(*how: object) -> str:
        keys.append(make_key(*how))
        return keys[-1]

    keys: list[str] = []

    @cache
    def by(engine: str) -> dict[str, np.ndarray]:
        out = tmp_path_factory.mktemp(engine) / "submission.csv"
        with patch("ensemble.inference.parts.make_key", noted):
            outcome = call(combine, *given, "--engine", engine, "--batch-size", 24, "--out", out)
        assert outcome.code == 0, outcome.err
        assert len(set(keys)) == len(keys)  # parts of different engines are not mixed
        with np.load(out.parent / "probabilities.npz") as arrays:
            return dict(arrays)

    return by


@pytest.mark.parametrize("engine", [engine for engine in BACKENDS if engine != "torch"])
def test_the_script_answers_as_with_pytorch(engine: str, combined: Callable) -> None:
    pytest.importorskip(PACKAGES[engine])
    for name in [f"{task}{part}" for task in TASKS for part in ("", "/identity")]:
        np.testing.assert_allclose(combined(engine)[name], combined("torch")[name], rtol=0, atol=1e-4)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_an_engine_without_its_package_is_one_line_that_says_what_to_install(
    engine: str,
    runs: Path,
    configs: Path,
    faces: Path,
    call: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[engine], None)  # as if it were not there
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", faces / "eval"]
    outcome = call(combine, *given, "--engine", engine, "--out", tmp_path / "out" / "submission.csv")
    assert outcome.code == 2
    assert outcome.err == (
        f"error: --engine {engine}: {PACKAGES[engine]} is not installed; pip install -r requirements-fast.txt\n"
    )
    assert not (tmp_path / "out").exists()


def test_one_thread_is_one_thread_in_every_engine(modules: Callable, heads: dict[str, TrainedHead]) -> None:
    assert torch.get_num_threads() == 1
    trained = heads["mask"]
    pixels = shown(trained, 64)
    assert modules("onnx")["mask"].module.session.get_session_options().intra_op_num_threads == 1
    assert modules("openvino")["mask"].module.compiled.get_property("INFERENCE_NUM_THREADS") == 1
    for engine in BACKENDS:
        module = modules(engine)["mask"]
        wall, busy = time.perf_counter(), time.process_time()
        for _ in range(8):
            probabilities(trained, module, pixels)
        assert time.process_time() - busy < 1.2 * (time.perf_counter() - wall)


def test_heads_can_be_shown_pixels_of_any_pipeline(heads: dict[str, TrainedHead]) -> None:
    trained = heads["mask"]
    values = trained.config.model_dump()
    values["pixels"]["evaluate"] = [
        {"resize": {"height": 40, "width": 50}},
        {"center_crop": {"height": 32, "width": 24}},
    ]
    assert input_size(replace(trained, config=type(trained.config)(**values))) == (32, 24)
