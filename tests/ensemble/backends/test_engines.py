"""Every engine gives PyTorch's probabilities, for any number of images, on the threads it is given."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import combine
import ensemble.ensemble  # before `make_key` is replaced
import ensemble.inference.parts
from data.runtime.errors import InputError
from ensemble.backends.engines import CHUNK, PACKAGES, CheckedModule, EngineBackend, input_size
from ensemble.files.predictions import read_probabilities
from heads.load import TrainedHead, load_head

pytestmark = pytest.mark.engines
TASKS = ("mask", "gender", "age")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def heads(runs: Path) -> dict[str, TrainedHead]:
    return {task: load_head(runs / task / "best.safetensors") for task in TASKS}


@pytest.fixture(scope="module")
def modules(heads: dict[str, TrainedHead]) -> Callable[[str], nn.Module]:
    """What an engine makes of the heads, made once."""

    @cache
    def make(engine: str) -> nn.Module:
        pytest.importorskip(PACKAGES[engine])
        return EngineBackend(engine)([*heads.values()])

    return make


def random_pixels(trained: TrainedHead, count: int) -> Tensor:
    return torch.rand(count, 3, *input_size(trained), generator=torch.Generator().manual_seed(count))


def probabilities(trained: TrainedHead, logits: Tensor) -> Tensor:
    return trained.target.probabilities(logits)


@torch.inference_mode()
@pytest.mark.parametrize("engine", PACKAGES)
def test_every_engine_gives_pytorch_s_probabilities(engine, modules, heads) -> None:
    module, every, size = modules(engine), [*heads.values()], next(iter(heads.values()))
    # Whole chunks, none, and others; one again, so that nothing is left over from a larger batch.
    batches = [random_pixels(size, count).flip(-1) for count in (1, CHUNK, CHUNK + 3, 1, 0)]
    batches = [batch.contiguous(memory_format=torch.channels_last) for batch in batches]
    batches += [torch.randint(0, 256, (2, 3, *input_size(size)), dtype=torch.uint8)]
    for pixels, places in product(batches, (None, [0, 1, 2], [2], [1, 0])):
        outputs = module(pixels, places)
        for place, logits in zip(range(3) if places is None else places, outputs, strict=True):
            found, expected = (probabilities(every[place], each) for each in (logits, every[place].head(pixels)))
            tolerance = 1e-5 if engine == "torch" else 1e-4
            torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


class Shifted(nn.Module):
    """Heads, one of them with another logit of the first class."""

    def __init__(self, head: nn.Module, by: float) -> None:
        super().__init__()
        self.head, self.by = head, by

    def forward(self, pixels: Tensor, places: None = None) -> list[Tensor]:
        logits = self.head(pixels).clone()
        logits[:, 0] += self.by
        return [logits]


@pytest.mark.parametrize("by", [0.01, float("nan")])
def test_an_engine_that_differs_from_pytorch_is_refused(by: float, heads: dict[str, TrainedHead]) -> None:
    trained = heads["mask"]
    pixels = random_pixels(trained, 3)
    with torch.inference_mode():
        CheckedModule(Shifted(trained.head, 1e-6), [trained], EngineBackend("onnx"))(pixels)
        with pytest.raises(InputError, match=r"--engine onnx .*: probabilities of mask differ .* --engine torch"):
            CheckedModule(Shifted(trained.head, by), [trained], EngineBackend("onnx"))(pixels)


@torch.inference_mode()
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_graph_is_kept_and_read_again_for_heads_of_the_same_files(engine, heads, tmp_path, monkeypatch) -> None:
    pytest.importorskip(PACKAGES[engine])
    known = [replace(heads[task], checksum=task) for task in ("mask", "age")]
    pixels, backend = random_pixels(known[0], 3), EngineBackend(engine, folder=tmp_path)
    first = backend(known)(pixels)
    monkeypatch.setattr("ensemble.backends.engines.write_onnx", lambda *_: pytest.fail("exported again"))
    for again, expected in zip(backend(known)(pixels), first, strict=True):
        assert torch.equal(again, expected)
    with pytest.raises(pytest.fail.Exception, match="exported again"):
        backend([replace(known[0], checksum="other"), known[1]])


def test_combine_predicts_with_every_engine_what_pytorch_does(
    runs: Path, configs: Path, faces: Path, call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", faces / "eval", "--workers", 0]
    found, keys, inner = {}, [], ensemble.inference.parts.make_key
    monkeypatch.setattr(ensemble.inference.parts, "make_key", lambda *args: keys.append(inner(*args)) or keys[-1])
    for engine in PACKAGES:
        pytest.importorskip(PACKAGES[engine])
        out = tmp_path / engine / "submission.csv"
        outcome = call(combine, *given, "--engine", engine, "--batch-size", 24, "--out", out)
        assert outcome.code == 0, outcome.err
        found[engine] = read_probabilities(out.parent / "probabilities.npz")
        for name in [f"{task}{part}" for task in TASKS for part in ("", "/identity")]:
            np.testing.assert_allclose(found[engine][name], found["torch"][name], rtol=0, atol=1e-4)
    assert len(set(keys)) == len(PACKAGES)  # parts of one engine are not used for another
    for engine in ("onnx", "openvino"):
        monkeypatch.setitem(sys.modules, PACKAGES[engine], None)  # as if it were not installed
        out = tmp_path / "none" / "submission.csv"
        outcome = call(combine, *given, "--engine", engine, "--out", out)
        assert outcome.code == 2
        expected = f"--engine {engine}: {PACKAGES[engine]} is not installed; pip install -r requirements-fast.txt"
        assert outcome.err.splitlines()[-1] == f"error: {expected}"
        assert not out.parent.exists()


@torch.inference_mode()
def test_one_thread_is_one_thread_in_every_engine(modules: Callable, heads: dict[str, TrainedHead]) -> None:
    assert torch.get_num_threads() == 1
    trained = heads["mask"]
    pixels = random_pixels(trained, 64)
    assert modules("onnx").module.session((0,)).get_session_options().intra_op_num_threads == 1
    assert modules("openvino").module.compile((0,), CHUNK).get_property("INFERENCE_NUM_THREADS") == 1
    for engine in PACKAGES:
        module = modules(engine)
        wall, busy = time.perf_counter(), time.process_time()
        for _ in range(8):
            module(pixels, [0])
        assert time.process_time() - busy < 1.2 * (time.perf_counter() - wall)


def test_the_input_size_is_that_of_the_last_step(heads: dict[str, TrainedHead]) -> None:
    trained = heads["mask"]
    values = trained.config.model_dump()
    resize, crop = {"resize": {"height": 40, "width": 50}}, {"center_crop": {"height": 32, "width": 24}}
    values["pixels"]["evaluate"] = [resize, crop]
    assert input_size(replace(trained, config=type(trained.config)(**values))) == (32, 24)


MODELS_THAT_END = """
import signal, subprocess, sys
import torch
from ensemble.backends.engines import OpenVinoHeads, import_optional

openvino = import_optional("openvino", "a test")
signal.signal(signal.SIGCHLD, lambda *_: print("handled"))
opset = import_optional("openvino.opset13", "a test")


def predict():
    pixels = opset.parameter([-1, 3, 4, 4])
    heads = OpenVinoHeads(openvino.Model([opset.relu(pixels)], [pixels]))
    heads(torch.zeros(1, 3, 4, 4))
    return heads


first, second = predict(), predict()
del first
del second
subprocess.run(["true"], check=True)
"""


def test_signals_are_handled_after_models_end_in_the_order_in_which_they_were_made() -> None:
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", MODELS_THAT_END], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


THREADS_THAT_BEGIN = """
import sys, threading
from ensemble.backends.engines import import_optional, openvino_core

openvino_core()
types = import_optional("openvino", "a test").Type
sys.setswitchinterval(1e-6)
together = threading.Barrier(8)


def convert():
    together.wait()
    print(types.f32.to_dtype())


threads = [threading.Thread(target=convert) for _ in range(8)]
for thread in threads:
    thread.start()
"""


def test_threads_that_use_openvino_first_do_not_wait_for_each_other() -> None:
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", THREADS_THAT_BEGIN]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.count("float32") == 8, done.stderr
