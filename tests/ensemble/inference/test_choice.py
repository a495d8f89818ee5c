"""`auto` takes the quickest backend that answers as PyTorch does in float32, and remembers it."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.runtime.errors import InputError
from ensemble import Ensemble
from ensemble.backends.engines import ENGINES_FOLDER, EngineBackend
from ensemble.inference import choice
from ensemble.inference.choice import MIN_IMAGES, HeadScore, choose_backend, list_candidates

TORCH, HALF = EngineBackend(), EngineBackend(precision="bf16")
ONNX, OTHER = EngineBackend("onnx"), EngineBackend("openvino")
SECONDS = {TORCH: 0.03, HALF: 0.002, ONNX: 0.02, OTHER: 0.01}


def choose(runs: Path, images: int = MIN_IMAGES, losses: float = 0.0, **options: object) -> EngineBackend:
    """Choose among all backends, of which `wrong` ones differ from PyTorch, and bfloat16 has `more` wrong answers."""

    def measure(backend: EngineBackend) -> Callable[[], None]:
        if backend in options.get("wrong", ()):
            raise InputError(f"{backend.engine} differs")
        return lambda: time.sleep(SECONDS.get(backend, 0.001))

    def score(backend: EngineBackend) -> dict[str, HeadScore]:
        if options.get("missing"):
            raise InputError("no validation images")
        loss, more = (losses, int(options.get("more", 9))) if backend.precision == "bf16" else (0, 0)
        age = HeadScore(0.8 - loss, np.arange(100) >= more)
        return {"mask": HeadScore(0.9, np.ones(100, bool)), "age": age}

    return choose_backend(
        options.get("candidates", [*SECONDS]), runs, str(options.get("key", "key")), images, measure, score
    )


def test_the_quickest_backend_that_passes_its_checks_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert choose(tmp_path / "a") == HALF
    assert choose(tmp_path / "b", losses=0.00099) == HALF
    capsys.readouterr()
    assert choose(tmp_path / "c", losses=0.0011) == OTHER
    assert "torch bf16 is not used: macro F1 falls from age 0.8000 to 0.7989" in capsys.readouterr().err
    assert choose(tmp_path / "g", losses=0.0011, more=4) == HALF  # four answers more that are wrong may be chance
    assert choose(tmp_path / "d", missing=True) == OTHER
    assert "cannot be checked: no validation images" in capsys.readouterr().err
    assert choose(tmp_path / "e", wrong=[HALF, OTHER]) == ONNX
    assert "engine: openvino differs" in capsys.readouterr().err
    with pytest.raises(InputError, match="torch differs"):  # the reference itself: bad images, not a bad engine
        choose(tmp_path / "f", wrong=[TORCH])


def test_bfloat16_alone_is_measured_and_not_compared_with_float32(tmp_path: Path) -> None:
    other = EngineBackend("openvino", "bf16")
    assert choose(tmp_path / "a", losses=1.0, candidates=[HALF, other]) in (HALF, other)
    with pytest.raises(InputError, match="none of torch bf16, openvino bf16 answers as PyTorch"):
        choose(tmp_path / "b", candidates=[HALF, other], wrong=[HALF, other])


def test_the_choice_is_remembered_by_its_key(tmp_path: Path) -> None:
    file = tmp_path / ENGINES_FOLDER / choice.FILE_NAME
    assert choose(tmp_path, images=MIN_IMAGES - 1) == TORCH  # not worth a measurement
    assert not file.exists()
    assert choose(tmp_path, wrong=[HALF]) == OTHER
    assert choose(tmp_path) == choose(tmp_path, images=1) == OTHER
    assert choose(tmp_path, images=1, key="other heads") == TORCH
    assert choose(tmp_path, key="other heads") == HALF
    file.write_text("damaged")
    assert choose(tmp_path) == HALF


def test_candidates_are_what_is_installed_and_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "gains_from_bfloat16", lambda: True)
    monkeypatch.setattr(choice, "_is_installed", lambda engine: engine != "onnx")
    bf16 = EngineBackend("openvino", "bf16")
    assert list_candidates("auto", "auto", tmp_path, False) == [TORCH, HALF, OTHER, bf16]
    assert list_candidates("auto", "fp32", tmp_path, False) == [TORCH, OTHER]
    assert list_candidates("openvino", "auto", tmp_path, False) == [OTHER, bf16]
    assert list_candidates("onnx", "fp32", tmp_path, False) == [ONNX]  # whose use says that it is missing
    assert list_candidates("auto", "auto", tmp_path, True) == [TORCH, HALF]
    monkeypatch.setattr(choice, "gains_from_bfloat16", lambda: False)
    assert list_candidates("auto", "auto", tmp_path, False) == [TORCH, OTHER]
    assert list_candidates("torch", "bf16", tmp_path, False) == [HALF]


def test_an_ensemble_measures_once_it_has_enough_images(
    runs: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "MIN_IMAGES", 20)
    monkeypatch.setattr(choice, "_is_installed", lambda engine: engine == "torch")
    monkeypatch.setattr(choice, "gains_from_bfloat16", lambda: True)
    monkeypatch.setattr(choice, "MAX_LOSS", 1.0)
    (tmp_path / "runs").mkdir()
    for task in ("mask", "gender", "age"):
        (tmp_path / "runs" / task).symlink_to(runs / task)
    model, images = Ensemble.load(tmp_path / "runs"), sorted((faces / "eval" / "images").iterdir())
    few = model.predict(images[:19])
    assert not (tmp_path / "runs" / ENGINES_FOLDER).exists()
    many = model.predict(images[:20])
    [saved] = choice._SAVED.validate_json((tmp_path / "runs" / ENGINES_FOLDER / choice.FILE_NAME).read_bytes()).values()
    assert set(saved.images_per_second) == {"torch fp32", "torch bf16"}
    assert min(saved.images_per_second.values()) > 0
    again = Ensemble.load(tmp_path / "runs").resolve(images[:1])
    assert Ensemble.load(tmp_path / "runs").resolve().backend == again.backend
    assert again.backend == EngineBackend(saved.engine, saved.precision)
    for name, output in few.tasks.items():
        assert abs(output.probabilities - many.tasks[name].probabilities[:19]).max() < 0.02
