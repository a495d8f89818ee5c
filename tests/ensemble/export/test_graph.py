"""Exported graphs predict what combine.py predicts for the same images."""

import json
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnxruntime
import pytest
import torch

import combine
from data.images.decode import decode
from ensemble.export import __main__ as export
from ensemble.files.predictions import read_probabilities
from ensemble.joint import joint_probabilities

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load:FutureWarning")
LEAST = (36, 48)  # combine.py's of the tests' heads: larger JPEGs are decoded at a smaller scale
NAMES = ["mask", "gender", "age", "joint", "age_number"]
REAL = Path(__file__).parents[4] / "shared" / "faces18" / "base"


@pytest.fixture(scope="module")
def out(runs: Path, configs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ensemble in every format."""
    folder = tmp_path_factory.mktemp("export")
    for kind in ("safetensors", "torchscript", "onnx"):
        given = ["--runs", runs, "--config", configs / "joint.yaml", "--format", kind, "--out", folder]
        with patch.object(sys, "argv", ["export", *map(str, given)]):
            export.main()
    return folder


@pytest.fixture(scope="module")
def session(out: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(out / "ensemble.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("kind", ["drawn", "real"])
def test_graphs_predict_combine_s_probabilities(kind, out, session, faces, runs, configs, call, tmp_path) -> None:
    source = faces / "eval" / "images" if kind == "drawn" else REAL
    if not source.is_dir():
        pytest.skip("no real images here")
    (tmp_path / "images").mkdir()
    for image in sorted(source.iterdir())[:12]:
        shutil.copy(image, tmp_path / "images")
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", tmp_path / "images", "--workers", 0]
    outcome = call(combine, *given, "--out", tmp_path / "submission.csv")
    assert outcome.code == 0, outcome.err
    arrays = read_probabilities(tmp_path / "probabilities.npz")
    joint = joint_probabilities([arrays[name] for name in NAMES[:3]])
    expected = arrays | {"joint": joint, "age_number": arrays["age/number"]}
    scripted = torch.jit.load(out / "ensemble.pt")
    assert [output.name for output in session.get_outputs()] == NAMES
    for row, image in enumerate(arrays["ImageID"]):
        pixels = decode(tmp_path / "images" / image, LEAST)[None]
        with torch.inference_mode():
            results = session.run(None, {"photographs": pixels}), scripted(torch.from_numpy(pixels))
        for found in results:
            for name, array in zip(NAMES, found, strict=True):
                tolerance = 1e-2 if name == "age_number" else 1e-4  # years, or probabilities
                np.testing.assert_allclose(array[0], expected[name][row], rtol=0, atol=tolerance, err_msg=name)


def test_a_batch_gives_the_predictions_of_its_images_alone(session) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 91, 70, 3), dtype=np.uint8)
    batch = session.run(None, {"photographs": pixels})
    for row in range(3):
        alone = session.run(None, {"photographs": pixels[row : row + 1]})
        for one, several in zip(alone, batch, strict=True):
            np.testing.assert_allclose(one[0], several[row], atol=1e-6)


def test_the_card_names_outputs_scores_and_views(out: Path, runs: Path) -> None:
    card = (out / "ensemble.md").read_text()
    figures = json.loads((runs / "age" / "metrics.json").read_text())
    assert (
        "`age` [n, 3], `joint` [n, 3 * 2 * 3], the first task being the most significant digit; `age_number` [n]"
        in card
    )
    assert f"| macro_f1 | {figures['macro_f1']:.3f} |" in card
    assert "Views: identity, hflip; 1 heads." in card
