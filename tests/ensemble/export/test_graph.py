"""Exported graphs predict what combine.py predicts for the same images."""

import copy
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import combine
from data.images.decode import decode
from ensemble import Ensemble
from ensemble.export import __main__ as export
from ensemble.export.graph import EnsembleGraph
from ensemble.files.predictions import read_probabilities
from ensemble.inference.predictor import build_task, choose_views
from ensemble.joint import joint_probabilities
from ensemble.web.graph import write_graph
from heads.config.loader import check_config
from heads.config.task import TaskConfig
from heads.load import load_head

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


def test_tasks_of_one_backbone_and_other_views_share_layers_in_the_graph(runs: Path, tmp_path: Path) -> None:
    source, size = load_head(runs / "mask" / "best.safetensors"), {"letterbox": {"height": 40, "width": 32}}
    names = {"mask": {}, "gender": {"views": {"steps": ["hflip"]}}, "hat": {"pixels": {"evaluate": [size]}}}
    tasks = {}
    for seed, (name, changes) in enumerate(names.items()):
        values = source.config.model_dump() | {"views": {"steps": []}}
        values |= {section: values[section] | keys for section, keys in changes.items()}
        head = copy.deepcopy(source.head)
        torch.manual_seed(seed)
        nn.init.normal_(head.classifier[-1].weight)
        tasks[name] = build_task([replace(source, head=head, config=check_config(TaskConfig, values, name))])
    images = np.random.default_rng(0).integers(0, 256, (3, 91, 70, 3), dtype=np.uint8)
    write_graph(tmp_path / "page.onnx", tasks)
    page = onnxruntime.InferenceSession(tmp_path / "page.onnx", providers=["CPUExecutionProvider"])
    convolutions = [node for node in onnx.load(tmp_path / "page.onnx").graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2 * 20  # a resnet18's, for each size
    for count, chosen in ((2, tasks), (1, {name: choose_views(task, "plain") for name, task in tasks.items()})):
        expected = Ensemble(chosen).predict(list(images)).tasks
        found = dict(
            zip(list(tasks), page.run(list(tasks), {"photographs": images, "views": np.arange(count)}), strict=True)
        )
        graph = EnsembleGraph(tasks)(torch.from_numpy(images), torch.arange(count))
        for place, (name, output) in enumerate(expected.items()):
            np.testing.assert_allclose(found[name], output.probabilities, atol=1e-4)
            np.testing.assert_allclose(graph[place].detach().numpy(), output.probabilities, atol=1e-5)
