"""Heads in int8: never calibrated on validation people, refused where they lose, kept while they are true."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import combine
import ensemble.backends.int8
import ensemble.inference.parts
from data.annotations.table import person_name, read_table
from data.audit.predictions import read_validation
from data.images.decode import decode
from data.runtime.errors import InputError
from ensemble.backends.calibration_data import (
    CALIBRATED_ON,
    CalibrationData,
    find_validation_images,
    select_calibration_images,
)
from ensemble.backends.engines import input_size, openvino_model
from ensemble.backends.int8 import Int8Backend, load_int8_backend
from ensemble.backends.quantise import Model, has_dot_products, quantise, run_model
from ensemble.inference.predictor import Task, build_task
from heads.build import TrainedHead, load_head
from heads.run.manifest import file_checksum

openvino = pytest.importorskip("openvino", reason="needs requirements-fast.txt")
pytest.importorskip("nncf", reason="needs requirements-fast.txt")


pytestmark = pytest.mark.engines
ROOT = Path(__file__).parents[3]


def run_of(source: Path, folder: Path) -> Path:
    """A copy of what int8 needs of a run."""
    folder.mkdir(parents=True)
    for name in ("best.safetensors", "validation.npz", "manifest.json"):
        shutil.copy(source / name, folder)
    return folder


@pytest.fixture(scope="module")
def run(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(runs / "mask", tmp_path_factory.mktemp("int8") / "mask")


@pytest.fixture(scope="module")
def trained(run: Path) -> TrainedHead:
    best = run / "best.safetensors"
    return replace(load_head(best), checksum=file_checksum(best))


@pytest.fixture(scope="module")
def images(trained: TrainedHead) -> list[np.ndarray]:
    size = (60, 3, *input_size(trained))
    return list(torch.rand(size, generator=torch.Generator().manual_seed(0)).numpy())


def make(trained: TrainedHead, data: Path, beside: Path) -> Int8Backend:
    tasks: dict[str, Task] = {"mask": build_task([trained])}
    return load_int8_backend(tasks, [data], beside, decode)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n" * 2, True),
        ("flags : avx2 avx_vnni\n", True),
        ("flags : avx2 avx512f avx512_vnni\nflags : avx2\n", False),
        ("flags : fpu sse avx avx2 fma\n", False),
        ("model name : avx512_vnni\n", False),
        ("Features : fp asimd asimddp\n", True),
        ("", False),
    ],
)
def test_a_processor_is_asked_for_its_dot_products(told: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(told)
    assert has_dot_products(tmp_path / "cpuinfo") == expected
    assert not has_dot_products(tmp_path / "none")


def largest_weight(graph: bytes, weights: bytes) -> int:
    """Of all constants of eight bits in a model."""
    model = openvino.Core().read_model(graph, weights)
    kept = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    values = [node.data for node in kept if node.get_element_type() == openvino.Type.i8]
    assert len(values) > 15  # resnet18's convolutions
    return max(int(np.abs(value.astype(int)).max()) for value in values)


@pytest.fixture(scope="module")
def models(trained: TrainedHead, images: list[np.ndarray]) -> tuple[Model, Model]:
    """The head in int8, with the overflow fix and without."""
    return quantise(trained, images, True), quantise(trained, images, False)


def test_int8_is_int8_and_the_overflow_fix_leaves_seven_bits(
    trained: TrainedHead, images: list[np.ndarray], models: tuple[Model, Model]
) -> None:
    fixed, plain = models
    assert largest_weight(*plain) > 64 >= largest_weight(*fixed)
    whole = sum(parameter.numel() for parameter in trained.head.parameters()) * 4
    assert len(plain[1]) < 0.3 * whole
    pixels = torch.from_numpy(np.stack(images[:19]))
    with torch.inference_mode():
        expected = trained.target.probabilities(trained.head(pixels))
        for model in (fixed, plain):
            found = trained.target.probabilities(run_model(model)(pixels))
            assert found.shape == expected.shape
            assert 0 < (found - expected).abs().max() < 0.1
    assert openvino_model(trained).inputs[0].partial_shape[0].is_dynamic  # the head itself is as it was


def test_nobody_whom_a_head_validates_on_is_calibrated_on(run: Path, faces: Path, tmp_path: Path) -> None:
    held_out = read_validation(run / "validation.npz")
    shutil.copytree(faces / "train", tmp_path / "copy")
    people = {person_name(str(person)) for person in held_out["person"]}
    for data in (faces / "train", tmp_path / "copy"):  # a copy's people go by other names
        table = read_table([data])
        assert table["person"].map(person_name).isin(people).any()
        paths = select_calibration_images(CalibrationData(table, "data", decode, 0), held_out)
        assert 50 <= len(paths) <= CALIBRATED_ON
        assert len(set(paths)) == len(paths)
        assert not {path.parent.name for path in paths} & people


def test_sources_that_a_head_was_not_trained_on_are_not_calibrated_on(run: Path, faces: Path) -> None:
    held_out = read_validation(run / "validation.npz")
    table = read_table([faces / "train"])
    places = "/elsewhere" + table["path"]
    other = table.assign(source="/elsewhere", path=places, person=[f"other-1/{n}" for n in range(len(table))])
    both = CalibrationData(pd.concat([table, other], ignore_index=True), "data", decode, 0)
    assert select_calibration_images(both, held_out) == select_calibration_images(
        CalibrationData(table, "data", decode, 0), held_out
    )
    # Where no source holds anybody of its validation, all are taken.
    assert len(select_calibration_images(CalibrationData(other, "data", decode, 0), held_out)) == min(
        CALIBRATED_ON, len(other)
    )


def test_too_few_to_calibrate_on_is_told(run: Path, faces: Path) -> None:
    held_out = read_validation(run / "validation.npz")
    table = read_table([faces / "train"])
    few = table[table["person"].isin(table["person"].unique()[:9])]
    with pytest.raises(InputError, match=r"data: found \d+ images .* expected at least 50 .*--calibration"):
        select_calibration_images(CalibrationData(few, "data", decode, 0), held_out)


def test_images_that_moved_are_found_in_the_training_data(run: Path, faces: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "train"
    shutil.copytree(faces / "train", moved)
    held_out = read_validation(run / "validation.npz")
    gone = held_out | {"path": np.array([f"/nowhere/{Path(str(p)).name}" for p in held_out["path"]])}
    sources = CalibrationData(read_table([moved]), "data", decode, 0)
    paths = find_validation_images(sources, gone, run / "validation.npz")
    for found, before in zip(paths, held_out["path"], strict=True):
        assert found.is_relative_to(moved)
        assert found.read_bytes() == Path(str(before)).read_bytes()
    nobody = replace(sources, table=sources.table.iloc[:0])
    with pytest.raises(InputError, match=r"validation\.npz: (\d+) of its \1 images.*--calibration"):
        find_validation_images(nobody, gone, run / "validation.npz")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, models: tuple[Model, Model]) -> list[TrainedHead]:
    """The heads that are load_int8_backend; each comes out as one that was before."""
    heads: list[TrainedHead] = []

    def noted(trained: TrainedHead, *_: object, **__: object) -> Model:
        heads.append(trained)
        return models[1]

    monkeypatch.setattr(ensemble.backends.int8, "quantise", noted)
    return heads


def test_what_is_kept_is_used_while_it_is_true(
    trained: TrainedHead,
    run: Path,
    faces: Path,
    tmp_path: Path,
    counted: list[TrainedHead],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = make(trained, faces / "train", tmp_path)
    [file] = (run / ".int8").iterdir()
    assert make(trained, faces / "train", tmp_path) == first
    assert len(counted) == 1
    content = file.read_bytes()
    middle = len(content) // 2
    for damaged in (
        content[:middle],
        b"",
        content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
    ):
        file.write_bytes(damaged)
        (run / ".int8" / f".{file.stem}.unfinished-x.npz").write_bytes(damaged)
        counted.clear()
        again = make(trained, faces / "train", tmp_path)
        assert (len(counted), again.digest) == (1, first.digest)
        assert [path.name for path in (run / ".int8").iterdir()] == [file.name]
    monkeypatch.setattr(ensemble.backends.int8, "has_dot_products", lambda: not has_dot_products())
    other = make(trained, faces / "train", tmp_path)
    assert other.digest != first.digest
    assert [path.stem for path in (run / ".int8").iterdir()] == [other.digest]


def test_a_head_that_loses_too_much_is_refused(
    trained: TrainedHead,
    run: Path,
    faces: Path,
    tmp_path: Path,
    counted: list[TrainedHead],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter([0.9, 0.8, 0.9, 0.8, 0.9, 0.8969])  # whole, then with one convolution in float, then five
    monkeypatch.setattr(ensemble.backends.int8, "figures", lambda *_: {"macro_f1": next(answers)})
    own = replace(trained, file=run_of(run, tmp_path / "runs" / "mask") / "best.safetensors")
    for _ in range(2):  # the second time as it was kept
        with pytest.raises(InputError, match=r"macro F1 0\.9000 in float32, 0\.8969 in int8 .* at most 0\.003"):
            make(own, faces / "train", tmp_path)
    assert len(counted) == 3


@pytest.mark.parametrize(("after", "in_float"), [([0.8969, 0.8971], 1), ([0.8969, 0.8, 0.8971], 5)])
def test_the_first_convolutions_stay_in_float_where_a_head_would_lose_too_much(
    trained: TrainedHead,
    run: Path,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: list[float],
    in_float: int,
) -> None:
    answers = iter([figure for each in after for figure in (0.9, each)])
    monkeypatch.setattr(ensemble.backends.int8, "figures", lambda *_: {"macro_f1": next(answers)})
    own = replace(trained, file=run_of(run, tmp_path / "runs" / "mask") / "best.safetensors")
    [(graph, weights)] = make(own, faces / "train", tmp_path).models.values()
    convolutions = [
        node
        for node in openvino.Core().read_model(graph, weights).get_ordered_ops()
        if node.get_type_name() == "Convolution"
    ]
    # Weights in float are a constant; those in int8 are scaled first.
    in_int8 = [node.input_value(1).get_node().get_type_name() != "Constant" for node in convolutions]
    assert in_int8 == [False] * in_float + [True] * (len(convolutions) - in_float)


def test_the_figures_are_those_of_the_run(
    trained: TrainedHead,
    run: Path,
    faces: Path,
    tmp_path: Path,
    counted: list[TrainedHead],
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(trained, faces / "train", tmp_path)
    assert f"macro F1 {trained.validation['macro_f1']:.4f} in float32" in capsys.readouterr().out


def test_openvino_and_nncf_report_to_nobody() -> None:
    program = "import sys; from ensemble.backends.quantise import versions; versions(); "
    program += "print({'openvino', 'nncf'} <= set(sys.modules), sys.modules['openvino_telemetry'])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True None\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "int8"], "goes with --engine openvino"),
        (["--precision", "int8", "--engine", "onnx"], "goes with --engine openvino"),
        (
            ["--precision", "int8", "--engine", "openvino", "--place", "ray", "--parts", "x"],
            "goes with --engine openvino and --place here alone",
        ),
        (["--precision", "int8", "--engine", "openvino"], "SM_CHANNEL_TRAIN is not set"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: list[str], message: str, call: Callable) -> None:
    outcome = call(combine, "--data", "x", *options)
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.slow
def test_the_script_answers_in_int8_and_keeps_its_parts_apart(
    runs: Path,
    configs: Path,
    faces: Path,
    call: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for task in ("mask", "gender", "age"):
        run_of(runs / task, tmp_path / "runs" / task)
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(faces / "train"))
    monkeypatch.setattr(ensemble.backends.int8, "MOST_LOST", 1.0)  # heads of one epoch know nothing to lose
    keys: list[str] = []
    inner = ensemble.inference.parts.make_key
    monkeypatch.setattr(ensemble.inference.parts, "key_of", lambda *how: keys.append(inner(*how)) or keys[-1])
    given = ["--config", configs / "joint.yaml", "--runs", tmp_path / "runs", "--data", faces / "eval"]
    saved = []
    for precision in ("fp32", "int8"):
        out = tmp_path / str(len(keys)) / "submission.csv"
        outcome = call(
            combine, *given, "--engine", "openvino", "--precision", precision, "--workers", 0, "--out", out
        )
        assert outcome.code == 0, outcome.err
        with np.load(out.parent / "probabilities.npz") as arrays:
            saved.append(dict(arrays))
    assert len(set(keys)) == 2
    for task in ("mask", "gender", "age"):
        assert 0 < np.abs(saved[1][task] - saved[0][task]).max() < 0.3
