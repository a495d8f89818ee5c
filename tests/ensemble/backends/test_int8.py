"""Heads in int8: never calibrated on validation people, refused where they lose, cached while nothing changed."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import combine
import ensemble.inference.parts
from data.annotations.table import read_table
from data.audit.validation import read_validation
from data.dataset import make_scaled_reader
from data.runtime.errors import InputError
from ensemble.backends import int8
from ensemble.backends.engines import input_size, openvino_model
from ensemble.backends.int8 import Int8Backend, Model, has_dot_products, quantise, run_model
from ensemble.files.predictions import read_probabilities
from ensemble.inference.predictor import Predictor, build_task
from heads.load import TrainedHead, load_head
from heads.run.folder import file_checksum

openvino = pytest.importorskip("openvino", reason="needs requirements-fast.txt")
pytest.importorskip("nncf", reason="needs requirements-fast.txt")

pytestmark = pytest.mark.engines
ROOT = Path(__file__).parents[3]


def copy_run(source: Path, folder: Path) -> Path:
    """Copy what int8 needs of a run."""
    folder.mkdir(parents=True)
    for name in ("best.safetensors", "validation.npz", "manifest.json"):
        shutil.copy(source / name, folder)
    return folder


@pytest.fixture(scope="module")
def run(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_run(runs / "mask", tmp_path_factory.mktemp("int8") / "mask")


@pytest.fixture(scope="module")
def trained(run: Path) -> TrainedHead:
    best = run / "best.safetensors"
    return replace(load_head(best), checksum=file_checksum(best))


@pytest.fixture(scope="module")
def images(trained: TrainedHead) -> list[np.ndarray]:
    size = (60, 3, *input_size(trained))
    return list(torch.rand(size, generator=torch.Generator().manual_seed(0)).numpy())


@pytest.fixture(scope="module")
def models(trained: TrainedHead, images: list[np.ndarray]) -> tuple[Model, Model]:
    """The head in int8, with the overflow fix and without."""
    return quantise(trained, images, True), quantise(trained, images, False)


def make(trained: TrainedHead, data: Path, beside: Path) -> Int8Backend:
    backend = Int8Backend({"mask": build_task([trained])}, [data], beside)
    assert backend.digest
    return backend


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
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
def test_dot_products_are_read_from_the_processor_s_description(cpuinfo: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert has_dot_products(tmp_path / "cpuinfo") == expected
    assert not has_dot_products(tmp_path / "none")


def test_heads_are_calibrated_and_checked_on_the_pixels_that_combine_decodes(trained: TrainedHead, tmp_path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 384, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg")
    task = build_task([trained])
    pixels = Int8Backend({"mask": task}, [], tmp_path).read(tmp_path / "large.jpg")
    np.testing.assert_array_equal(
        pixels, make_scaled_reader(Predictor({"mask": task}).pipelines)(tmp_path / "large.jpg")
    )
    assert pixels.shape < noise.shape


def largest_weight(model: Model) -> int:
    """The largest of all 8-bit constants in a model."""
    nodes = openvino.Core().read_model(*model).get_ops()
    constants = [node for node in nodes if node.get_type_name() == "Constant"]
    values = [node.data for node in constants if node.get_element_type() == openvino.Type.i8]
    assert len(values) > 15  # resnet18's convolutions
    return max(int(np.abs(value.astype(int)).max()) for value in values)


def test_int8_is_int8_and_the_overflow_fix_limits_weights_to_seven_bits(trained, images, models) -> None:
    fixed, plain = models
    assert largest_weight(plain) > 64 >= largest_weight(fixed)
    whole = sum(parameter.numel() for parameter in trained.head.parameters()) * 4
    assert len(plain[1]) < 0.3 * whole
    pixels = torch.from_numpy(np.stack(images[:19]))
    with torch.inference_mode():
        expected = trained.target.probabilities(trained.head(pixels))
        for model in (fixed, plain):
            found = trained.target.probabilities(run_model(model)(pixels)[0])
            assert found.shape == expected.shape
            assert 0 < (found - expected).abs().max() < 0.1
    assert openvino_model([trained]).inputs[0].partial_shape[0].is_dynamic  # the head itself is unchanged


def test_calibration_images_are_of_training_people_of_the_head_s_own_sources(run, faces, tmp_path) -> None:
    held_out = read_validation(run / "validation.npz")
    shutil.copytree(faces / "train", tmp_path / "copy")
    people = set(held_out["person"].astype(str))
    for folder in (faces / "train", tmp_path / "copy"):  # a copy's people have other names
        table = read_table([folder])
        assert table["person"].isin(people).any()
        paths = int8.select_calibration_images(table, held_out)
        assert 50 <= len(paths) <= int8.CALIBRATION_IMAGES
        assert len(set(paths)) == len(paths)
        assert not {path.parent.name for path in paths} & people
    moved = {"path": "/elsewhere" + table["path"], "person": [f"other-1/{n}" for n in range(len(table))]}
    other = table.assign(source="/elsewhere", **moved)
    assert int8.select_calibration_images(pd.concat([table, other], ignore_index=True), held_out) == paths
    # Where no source has validation people, all are taken.
    assert len(int8.select_calibration_images(other, held_out)) == min(300, len(other))
    few = table[table["person"].isin(table["person"].unique()[:9])]
    with pytest.raises(InputError, match=r"found \d+ images .* expected at least 50 .*--calibration"):
        int8.select_calibration_images(few, held_out)


def test_validation_images_that_moved_are_found_in_the_training_data(run: Path, faces: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "train"
    shutil.copytree(faces / "train", moved)
    held_out = read_validation(run / "validation.npz")
    gone = held_out | {"path": np.array([f"/nowhere/{Path(str(p)).name}" for p in held_out["path"]])}
    table = read_table([moved])
    paths = int8.find_validation_images(table, gone, run / "validation.npz")
    for found, before in zip(paths, held_out["path"], strict=True):
        assert found.is_relative_to(moved)
        assert found.read_bytes() == Path(str(before)).read_bytes()
    with pytest.raises(InputError, match=r"validation\.npz: (\d+) of its \1 images.*--calibration"):
        int8.find_validation_images(table.iloc[:0], gone, run / "validation.npz")


def test_a_quantised_head_is_cached_until_anything_changes(
    trained: TrainedHead,
    run: Path,
    faces: Path,
    tmp_path: Path,
    models: tuple[Model, Model],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    quantised: list[TrainedHead] = []
    monkeypatch.setattr(int8, "quantise", lambda head, *_: quantised.append(head) or models[1])
    first = make(trained, faces / "train", tmp_path)
    assert f"macro F1 {trained.validation['macro_f1']:.4f} in float32" in capsys.readouterr().err
    [file] = (run / ".int8").iterdir()
    assert make(trained, faces / "train", tmp_path).heads == first.heads
    assert len(quantised) == 1
    content = file.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    for damaged in (content[:middle], b"", flipped):
        file.write_bytes(damaged)
        (run / ".int8" / f".{file.stem}.unfinished-x.npz").write_bytes(damaged)
        quantised.clear()
        again = make(trained, faces / "train", tmp_path)
        assert (len(quantised), again.digest) == (1, first.digest)
        assert [path.name for path in (run / ".int8").iterdir()] == [file.name]
    monkeypatch.setattr(int8, "has_dot_products", lambda: not has_dot_products())
    other = make(trained, faces / "train", tmp_path)
    assert other.digest != first.digest
    assert [path.stem for path in (run / ".int8").iterdir()] == [other.digest]


def test_convolutions_stay_in_float_until_a_head_loses_little_and_it_is_refused_if_it_never_does(
    trained: TrainedHead, run: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.9, 0.8969, 0.8971])  # in float, all in int8, one convolution in float
    monkeypatch.setattr(int8, "macro_f1", lambda *_: next(scores))
    own = replace(trained, file=copy_run(run, tmp_path / "good" / "mask") / "best.safetensors")
    [head] = make(own, faces / "train", tmp_path).heads.values()
    nodes = openvino.Core().read_model(*head.model).get_ordered_ops()
    convolutions = [node for node in nodes if node.get_type_name() == "Convolution"]
    # Weights in float are a constant; those in int8 are scaled first.
    in_int8 = [node.input_value(1).get_node().get_type_name() != "Constant" for node in convolutions]
    assert in_int8 == [False] + [True] * (len(convolutions) - 1)

    scores = iter([0.9, 0.8, 0.8, 0.8969])
    monkeypatch.setattr(int8, "quantise", lambda *_: head.model)
    own = replace(trained, file=copy_run(run, tmp_path / "bad" / "mask") / "best.safetensors")
    for _ in range(2):  # the second time from the cache
        with pytest.raises(InputError, match=r"macro F1 0\.9000 in float32, 0\.8969 in int8 .* at most 0\.003"):
            make(own, faces / "train", tmp_path)


def test_openvino_and_nncf_send_no_usage_statistics() -> None:
    program = "import sys; from ensemble.backends.int8 import versions; versions(); "
    program += "print({'openvino', 'nncf'} <= set(sys.modules), sys.modules['openvino_telemetry'])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True None\n"


@pytest.mark.slow
def test_combine_predicts_in_int8(runs, configs, faces, call, tmp_path, monkeypatch) -> None:
    for task in ("mask", "gender", "age"):
        copy_run(runs / task, tmp_path / "runs" / task)
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(faces / "train"))
    monkeypatch.setattr(int8, "MAX_LOSS", 1.0)  # heads of one epoch have nothing to lose
    given = ["--config", configs / "joint.yaml", "--runs", tmp_path / "runs", "--data", faces / "eval"]
    found, keys, inner = [], [], ensemble.inference.parts.make_key
    monkeypatch.setattr(ensemble.inference.parts, "make_key", lambda *args: keys.append(inner(*args)) or keys[-1])
    for precision in ("fp32", "int8"):
        out = tmp_path / precision / "submission.csv"
        options = ["--engine", "openvino", "--precision", precision, "--workers", 0, "--out", out]
        outcome = call(combine, *given, *options)
        assert outcome.code == 0, outcome.err
        found.append(read_probabilities(out.parent / "probabilities.npz"))
    assert len(set(keys)) == 2  # parts of one precision are not used for the other
    for task in ("mask", "gender", "age"):
        assert 0 < np.abs(found[1][task] - found[0][task]).max() < 0.3
