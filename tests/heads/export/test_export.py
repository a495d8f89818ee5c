"""Each head of a folder is exported with its model card and predicts what it did before."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime
import pytest
import torch

from data.runtime.errors import InputError
from heads.config.task import TaskConfig
from heads.export import __main__ as export
from heads.export.graph import HeadGraph, export_head, has_maps
from heads.export.model_card import head_section
from heads.load import build_head, load_head
from heads.objective.calibration import calibrate
from heads.run.folder import save_head, write_json
from heads.run.leakage import find_training_people

pytestmark = [
    pytest.mark.usefixtures("tiny_backbone"),
    pytest.mark.filterwarnings("ignore:.torch.jit.load:FutureWarning"),
]
YEARS = {"low": 0, "high": 100, "sigma": 2.5}
AGE = {"column": "age", "classes": ["under 30", "30 and over"], "borders": [30], "distribution": YEARS}


def write_run(folder: Path, config: TaskConfig) -> None:
    """Write a head with random weights as its training does."""
    folder.mkdir(parents=True)
    save_head(folder / "best.safetensors", build_head(config).eval(), config.model_dump(), {"macro_f1": 0.5}, None, 0.5)


@pytest.fixture
def runs(colour_config: Callable[..., TaskConfig], tmp_path: Path) -> Path:
    runs = tmp_path / "runs"
    size = {"height": 48, "width": 36}
    write_run(runs / "age", colour_config(label=AGE, pixels={"evaluate": [{"center_crop": size}]}))
    mask = colour_config(label={"classes": ["wear", "normal"]}, pixels={"evaluate": ["aligned_crop", {"resize": size}]})
    write_run(runs / "mask" / "fold-0", mask)
    write_json(runs / "age" / "metrics.json", {"classes": {"under 30": {"support": 9, "f1-score": 0.75}}})
    return runs


def run(*arguments: object) -> None:
    with patch.object(sys, "argv", ["heads.export", *map(str, arguments)]):
        export.main()


def by_onnx(path: Path, pixels: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = ["probabilities", "number"][: len(session.get_outputs())]
    assert [output.name for output in session.get_outputs()] == names
    return session.run(None, {"photographs": pixels.numpy()})


READERS: dict[str, Callable[[Path, torch.Tensor], Any]] = {
    "onnx": by_onnx,
    "pt": lambda path, pixels: torch.jit.load(path)(pixels),
    "safetensors": lambda path, pixels: HeadGraph(load_head(path), path.stem)(pixels),
}


@pytest.mark.parametrize("suffix", READERS)
def test_an_exported_head_predicts_what_its_checkpoint_does(
    suffix: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = "torchscript" if suffix == "pt" else suffix
    run("--runs", runs, "--format", kind, "--trained-on", "drawn faces", "--terms", "free")
    out = runs / "export"
    names = ("age", "mask-fold-0")
    assert {path.name for path in out.iterdir()} == {f"{n}.{end}" for n in names for end in (suffix, "md")}
    assert f"python -m ensemble.export --runs {runs} --format {kind}" in capsys.readouterr().out
    pixels = torch.randint(0, 256, (3, 80, 71, 3), dtype=torch.uint8)
    for name in names:
        graph = HeadGraph(load_head(runs.joinpath(*name.split("-", 1)) / "best.safetensors"), name)
        with torch.inference_mode():
            expected, found = graph(pixels), READERS[suffix](out / f"{name}.{suffix}", pixels)
            logits = graph.head(graph.scaling(pixels) / 255)
        calibrated = calibrate(graph.target.probabilities(logits).numpy(), 0.5)
        np.testing.assert_allclose(expected[0], calibrated, rtol=0, atol=1e-6)
        assert len(found) == len(expected) == (2 if name == "age" else 1)
        for one, other, tolerance in zip(found, expected, (1e-5, 1e-2), strict=False):
            np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=tolerance)
    card = (out / "age.md").read_text(encoding="utf-8")
    for text in ("Trained on\n\ndrawn faces", "Terms\n\nfree", "macro_f1 | 0.500", "F1 of under 30 (9 images) | 0.750"):
        assert text in card


def test_the_card_names_the_box_margin(runs: Path, tmp_path: Path) -> None:
    whole = load_head(runs / "age" / "best.safetensors")
    cropped = replace(whole, box_margin=0.5)
    for head, count in ((whole, 0), (cropped, 1)):
        assert head_section(head).count("cropped to boxes of faces, with 0.5 times the margin") == count
    export_head(cropped, tmp_path / "age.safetensors")
    exported = load_head(tmp_path / "age.safetensors")
    assert (exported.box_margin, exported.temperature) == (0.5, 0.5)


def test_a_class_s_exported_map_is_of_the_numbers_that_it_is_made_of(colour_config: Callable, tmp_path: Path) -> None:
    scaling = {"evaluate": [{"letterbox": {"height": 96, "width": 64}}]}
    write_run(tmp_path / "age", colour_config(label=AGE, pixels=scaling, classifier={"hidden": []}))
    run("--runs", tmp_path, "--maps", "--out", tmp_path)
    assert "`maps` [n, 2, h, w]" in (tmp_path / "age.md").read_text(encoding="utf-8")
    write_run(tmp_path / "hidden", colour_config(label=AGE))
    assert not has_maps(load_head(tmp_path / "hidden" / "best.safetensors"))
    pixels = torch.randint(0, 256, (2, 80, 71, 3), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "age.onnx", providers=["CPUExecutionProvider"])
    [found] = session.run(["maps"], {"photographs": pixels.numpy()})
    graph = HeadGraph(load_head(tmp_path / "age" / "best.safetensors"), "age")
    with torch.no_grad():
        logits, maps = graph.head.activation_maps(graph.scaling(pixels) / 255)
    for place in range(2):  # the gradient of the class's own logit
        own = logits.clone().requires_grad_()
        own[:, graph.target.pool == place].logsumexp(dim=1).sum().backward()
        expected = torch.einsum("no,nohw->nhw", own.grad, maps)
        np.testing.assert_allclose(found[:, place], expected.numpy(), rtol=0, atol=1e-5)


def test_a_head_of_other_steps_is_exported_as_weights_only(colour_config: Callable, tmp_path: Path) -> None:
    steps = ["aligned_crop", {"center_crop": {"height": 48, "width": 36}}]
    write_run(tmp_path / "age", colour_config(label=AGE, pixels={"evaluate": steps}))
    run("--runs", tmp_path, "--format", "safetensors", "--out", tmp_path / "out")
    people = find_training_people(tmp_path / "out" / "age.safetensors")  # so that leakage through it is found
    assert people == find_training_people(tmp_path / "age" / "best.safetensors")
    assert "## Terms\n\nNot stated." in (tmp_path / "out" / "age.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match=r"found no TASK/best\.safetensors"):
        run("--runs", tmp_path / "age")
    with pytest.raises(InputError, match=r"age: pixels\.evaluate is .*--format safetensors takes any"):
        run("--runs", tmp_path, "--format", "onnx")
