"""Exported graphs and weights say what combine.py says of the same images."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import onnxruntime
import pytest
import torch

import combine
from data.images.decode import decode
from ensemble import export as ensemble_export
from ensemble.config import load_tasks
from ensemble.joint import joint_probabilities

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load:FutureWarning")
LEAST = (36, 48)  # combine.py's of the tests' heads: larger JPEGs are decoded at a smaller scale
SHARED = Path(__file__).parents[3] / "shared" / "faces18" / "base"


def run(module: ModuleType, *arguments: object) -> None:
    with patch.object(sys, "argv", [module.__name__, *map(str, arguments)]):
        module.main()


@pytest.fixture(scope="module")
def out(runs: Path, configs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The ensemble in every format, and one head."""
    folder = tmp_path_factory.mktemp("export")
    for kind in ("safetensors", "torchscript", "onnx"):
        joint = configs / "joint.yaml"
        run(ensemble_export, "--runs", runs, "--config", joint, "--format", kind, "--out", folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def session(out: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(out / "ensemble.onnx", providers=["CPUExecutionProvider"])


def expected_of(images: list[Path], folder: Path, runs: Path, configs: Path, call: Callable) -> dict:
    """Probabilities that combine.py writes for these images."""
    (folder / "images").mkdir()
    for image in images:
        shutil.copy(image, folder / "images")
    listing = "".join(f"{image.name},0\n" for image in images)
    (folder / "info.csv").write_text("ImageID,ans\n" + listing)
    joint, answers = configs / "joint.yaml", folder / "submission.csv"
    options = ["--config", joint, "--runs", runs, "--data", folder, "--out", answers, "--workers", 0]
    outcome = call(combine, *options)
    assert outcome.code == 0, outcome.err
    with np.load(folder / "probabilities.npz") as saved:
        found = {task: saved[task] for task in load_tasks(joint)}
        years = saved["age/number"]
    return found | {"joint": joint_probabilities(list(found.values())), "age_number": years}


def assert_equal_to_combine(
    images: list[Path],
    expected: dict,
    session: onnxruntime.InferenceSession,
    scripted: torch.jit.ScriptModule,
) -> None:
    names = [output.name for output in session.get_outputs()]
    assert names == ["mask", "gender", "age", "joint", "age_number"]
    for row, image in enumerate(images):
        pixels = decode(image, LEAST)[None]
        by_onnx = session.run(None, {"photographs": pixels})
        with torch.inference_mode():
            by_script = scripted(torch.from_numpy(pixels))
        for name, onnx, script in zip(names, by_onnx, by_script, strict=True):
            within = 1e-2 if name == "age_number" else 1e-4  # years, or probabilities
            np.testing.assert_allclose(onnx[0], expected[name][row], rtol=0, atol=within, err_msg=name)
            np.testing.assert_allclose(script[0], expected[name][row], rtol=0, atol=within, err_msg=name)


def test_drawn_faces_give_combine_s_probabilities(
    out: Path, session, faces: Path, runs: Path, configs: Path, call: Callable, tmp_path: Path
) -> None:
    images = sorted((faces / "eval" / "images").iterdir())[:12]
    expected = expected_of(images, tmp_path, runs, configs, call)
    assert_equal_to_combine(images, expected, session, torch.jit.load(out / "ensemble.pt"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real images here")
def test_real_images_give_combine_s_probabilities(
    out: Path, session, runs: Path, configs: Path, call: Callable, tmp_path: Path
) -> None:
    images = sorted(SHARED.iterdir())[:24]
    expected = expected_of(images, tmp_path, runs, configs, call)
    assert_equal_to_combine(images, expected, session, torch.jit.load(out / "ensemble.pt"))


def test_a_batch_gives_what_its_images_give_alone(session) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 91, 70, 3), dtype=np.uint8)
    together = session.run(None, {"photographs": pixels})
    for row in range(3):
        alone = session.run(None, {"photographs": pixels[row : row + 1]})
        for one, all_of_them in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], all_of_them[row], atol=1e-6)


def test_the_card_tells_classes_data_figures_limits_and_terms(
    out: Path, runs: Path, configs: Path, tmp_path: Path
) -> None:
    card = (out / "ensemble.md").read_text()
    figures = json.loads((runs / "age" / "metrics.json").read_text())
    for told in (
        "`mask` [n, 3], `gender` [n, 2], `age` [n, 3], `joint` [n, 3 * 2 * 3]",
        "; `age_number` [n]",
        "Classes: under 30, 30 to 59, 60 and over",
        f"| macro_f1 | {figures['macro_f1']:.3f} |",
        "fold 0 of 5 held out by person: 35 images of 5 people",
        "Views: identity, hflip; 1 heads.",
        "## Limits",
        "Not stated.",
    ):
        assert told in card, told
