"""The code blocks of README.md and docs/python.md work."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

import combine
import evaluate
from ensemble.files.predictions import FILE_NAME, read_probabilities
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.load import build_head
from heads.objective.calibration import calibrate
from tests.conftest import Outcome

ROOT = Path(__file__).parents[2]


def blocks(file: str, kind: str = "") -> list[str]:
    """The fenced blocks of a document, of one language."""
    text = (ROOT / file).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for each, block in found if each == kind]


def block_with(text: str) -> str:
    [found] = [block for block in blocks("README.md") if text in block]
    return found


def test_the_yaml_of_a_new_task_is_a_head(tmp_path: Path) -> None:
    (tmp_path / "glasses.yaml").write_text(block_with("task: glasses"))
    config = load_config(TaskConfig, tmp_path / "glasses.yaml")
    assert config.label.classes == ["yes", "no"]
    assert config.split == load_config(TaskConfig, ROOT / "configs/mask.yaml").split
    assert build_head(config).classifier[-1].out_features == 2


def run_lines(text: str, names: dict[str, Any]) -> list[Any]:
    """Run each statement of a block; return the values of those that are expressions."""
    values = []
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Expr):
            values.append(eval(compile(ast.Expression(statement.value), "block", "eval"), names))
        else:
            exec(compile(ast.Module([statement], []), "block", "exec"), names)
    return values


def test_each_line_of_python_md_gives_what_combine_writes(
    runs: Path,
    configs: Path,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., Outcome],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "runs").mkdir()
    for task in ("mask", "gender", "age"):
        (tmp_path / "runs" / task).symlink_to(runs / task)
    (tmp_path / "photos").symlink_to(faces / "eval/images")
    (tmp_path / "eval").symlink_to(faces / "eval")
    images = sorted((faces / "eval/images").iterdir())
    with Image.open(images[0]) as lying:  # as phones store an upright image
        exif = lying.getexif()
        exif[ExifTags.Base.Orientation] = 6
        lying.save(tmp_path / "photo.jpg", quality="keep", exif=exif)
    out, printed = tmp_path / "combined", []
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--workers", 0]
    assert call(combine, *given, "--data", tmp_path / "photos", "--out", out / "submission.csv").code == 0
    one = call(combine, *given, "--data", tmp_path / "photo.jpg", "--out", tmp_path / "one" / "submission.csv")
    assert one.code == 0, one.err
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"print": lambda *values: printed.append(values)}
    first, folder, head, share, _ = [run_lines(block, names) for block in blocks("docs/python.md", "python")]
    frames, graph = [values[0] for values in printed if len(values) == 1], dict(v for v in printed if len(v) == 2)
    assert capsys.readouterr().out == ""

    face = read_probabilities(tmp_path / "one" / FILE_NAME)
    mask, age = (face[task][0] for task in ("mask", "age"))
    assert first[0] == (face["mask/classes"][mask.argmax()], mask.max())
    assert first[1] == (face["age/classes"][age.argmax()], face["age/number"][0])
    assert first[2] == dict(zip(face["mask/classes"].tolist(), mask.tolist(), strict=True))
    codes = pd.read_csv(tmp_path / "one" / "submission.csv")["ans"]
    assert first[3] == share[3] == codes[0]

    [table, _], arrays = folder, read_probabilities(out / FILE_NAME)
    assert table["ImageID"].tolist() == arrays["ImageID"].tolist() == [path.name for path in images]
    for task in ("mask", "gender", "age"):
        assert table[task].tolist() == arrays[f"{task}/classes"][arrays[task].argmax(axis=1)].tolist()
        np.testing.assert_array_equal(table[f"{task}_probability"], arrays[task].max(axis=1))
    np.testing.assert_array_equal(table["age_number"], arrays["age/number"])
    assert Path("submission.csv").read_bytes() == (out / "submission.csv").read_bytes()
    pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True), table)

    assert list(head[0]) == face["mask/classes"].tolist()
    raw = np.array([list(head[0].values())], dtype=np.float32)
    scaled = calibrate(raw, names["model"].tasks["mask"].temperature)
    np.testing.assert_allclose(scaled, face["mask/identity"], atol=1e-5)
    answers = ["--answers", "eval/answers.csv", "--submission", out / "submission.csv"]
    assert call(evaluate, *answers, "--config", configs / "joint.yaml", "--format", "json").code == 0
    assert share[0] == json.loads((out / "metrics.json").read_text())["joint"]["macro_f1"]
    assert share[1] == Path("runs/export/ensemble.onnx")
    assert share[1].with_suffix(".md").is_file()
    assert "drawn faces" in Path("heads_to_share/README.md").read_text(encoding="utf-8")

    assert list(graph) == ["mask", "gender", "age", "joint", "age_number"]
    for task in ("mask", "gender", "age"):
        np.testing.assert_allclose(graph[task], face[task], atol=1e-4)
    np.testing.assert_allclose(graph["age_number"], face["age/number"], atol=1e-2)
