"""The code blocks of README.md and docs/python.md work."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from data.annotations.table import read_table
from ensemble import export
from heads.build import build_head
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from tests.conftest import Outcome

ROOT = Path(__file__).parents[2]


def blocks(file: str, kind: str = "") -> list[str]:
    """The fenced blocks of a document, of one language."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def block_with(text: str) -> str:
    [found] = [block for block in blocks("README.md") if text in block]
    return found


def test_the_yaml_of_a_new_task_is_a_head(tmp_path: Path) -> None:
    (tmp_path / "glasses.yaml").write_text(block_with("task: glasses"))
    config = load_config(TaskConfig, tmp_path / "glasses.yaml")
    assert config.label.classes == ["yes", "no"]
    assert config.split == load_config(TaskConfig, ROOT / "configs/mask.yaml").split
    assert build_head(config).classifier[-1].out_features == 2


def test_class_folders_become_a_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = {}
    for place in ("wear/1.jpg", "wear/2 of them.jpg", "incorrect/1.jpg", "normal/3.png"):
        (tmp_path / "path/to" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "path/to" / place).touch()
        expected[str(tmp_path / "mine/images" / place)] = place.partition("/")[0]
    subprocess.run(["sh", "-ec", block_with("mkdir -p mine/images")], check=True)
    table = read_table([tmp_path / "mine"])
    assert dict(zip(table["path"], table["mask"], strict=True)) == expected


def test_heads_and_their_graph_are_called_from_python(
    runs: Path,
    configs: Path,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., Outcome],
) -> None:
    (tmp_path / "configs").symlink_to(configs)
    shutil.copytree(runs, tmp_path / "runs")
    for name, image in zip(("a.jpg", "b.jpg"), sorted((faces / "eval/images").iterdir()), strict=False):
        shutil.copy(image, tmp_path / name)
    with Image.open(tmp_path / "a.jpg") as lying:  # as phones store an upright image
        exif = lying.getexif()
        exif[ExifTags.Base.Orientation] = 6
        lying.save(tmp_path / "a.jpg", quality="keep", exif=exif)
    monkeypatch.chdir(tmp_path)
    outcome = call(export, "--runs", "runs", "--format", "onnx", "--config", configs / "joint.yaml")
    assert outcome.code == 0, outcome.err
    printed: list[tuple] = []
    for block in blocks("docs/python.md", "python"):
        exec(block, {"print": lambda *values: printed.append(values)})
    heads, graph = printed[:3], dict(printed[3:])
    assert [name for name, *_ in heads] == ["mask", "gender", "age"]
    assert list(graph) == ["mask", "gender", "age", "joint", "age_number"]
    for name, classes, probabilities, numbers in heads:
        assert probabilities.shape == (2, len(classes))
        np.testing.assert_allclose(graph[name], probabilities[:1], atol=1e-4)
        assert (numbers is None) == (name != "age")
    np.testing.assert_allclose(graph["age_number"], heads[2][3][:1], atol=1e-2)
