"""Heads in int8: never calibrated on validation people, refused where they lose, in one file for all images."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from data.images.crop import CroppedReader
from data.runtime.errors import InputError
from ensemble.backends import int8
from ensemble.backends.engines import OpenVinoHeads, input_size, openvino_model
from ensemble.backends.int8 import Int8Backend, has_dot_products, quantise
from ensemble.backends.int8_images import (
    CALIBRATION_IMAGES,
    find_validation_images,
    select_calibration_images,
    select_people,
)
from ensemble.export import __main__ as export
from ensemble.files.predictions import read_probabilities
from ensemble.inference.predictor import Predictor, Task, build_task
from heads.load import TrainedHead, load_verified_head

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
def own(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of mask and gender."""
    folder = tmp_path_factory.mktemp("int8")
    for name in ("mask", "gender"):
        copy_run(runs / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def tasks(own: Path) -> dict[str, Task]:
    """Two heads with the same first stages."""
    mask, gender = (load_verified_head(own / name / "best.safetensors") for name in ("mask", "gender"))
    for stage in ("conv1", "bn1", "layer1"):
        theirs = gender.head.backbone.get_submodule(stage)
        theirs.load_state_dict(mask.head.backbone.get_submodule(stage).state_dict())
    return {"mask": build_task([mask]), "gender": build_task([gender])}


@pytest.fixture(scope="module")
def heads(tasks: dict[str, Task]) -> list[TrainedHead]:
    return [task.heads[0] for task in tasks.values()]


@pytest.fixture(scope="module")
def images(heads: list[TrainedHead]) -> np.ndarray:
    size = (60, 3, *input_size(heads[0]))
    return torch.rand(size, generator=torch.Generator().manual_seed(0)).numpy()


@pytest.fixture(scope="module")
def models(heads: list[TrainedHead], images: np.ndarray) -> tuple[Any, Any]:
    """The heads in int8, with the overflow fix and without."""
    full = openvino_model(heads)
    fixed, plain = (quantise(full, images, fix, [0, 0]) for fix in (True, False))
    assert full.inputs[0].partial_shape[0].is_dynamic  # unchanged
    return fixed, plain


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


def convolutions(model: Any) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]


def largest_weight(model: Any) -> int:
    """The largest of all 8-bit constants in a model."""
    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    values = [node.data for node in constants if node.get_element_type() == openvino.Type.i8]
    assert len(values) > 30  # two resnet18
    return max(int(np.abs(value.astype(int)).max()) for value in values)


def test_int8_is_int8_and_the_overflow_fix_limits_weights_to_seven_bits(heads, images, models) -> None:
    fixed, plain = models
    assert largest_weight(plain) > 64 >= largest_weight(fixed)
    pixels = torch.from_numpy(images[:19])
    with torch.inference_mode():
        for model in (fixed, plain):
            for trained, logits in zip(heads, OpenVinoHeads(model)(pixels), strict=True):
                found, expected = (trained.target.probabilities(each) for each in (logits, trained.head(pixels)))
                assert found.shape == expected.shape
                assert 0 < (found - expected).abs().max() < 0.1


def test_shared_layers_are_quantised_once_and_parts_give_the_logits_of_the_whole(images, models) -> None:
    shared = 5  # convolutions of resnet18's stem and first stage, of 20
    assert len(convolutions(models[1])) == 2 * 20 - shared
    module = OpenVinoHeads(models[1])
    for count in (19, 2):
        pixels = torch.from_numpy(images[:count])
        whole = module(pixels)
        for places in ([0], [1], [1, 0]):
            for place, logits in zip(places, module(pixels, places), strict=True):
                torch.testing.assert_close(logits, whole[place], rtol=0, atol=1e-5)


def test_convolutions_stay_in_float_from_the_pixels_on(heads, images) -> None:
    model = quantise(openvino_model(heads), images[:2], False, [0, 6])
    # Weights in float are a constant; those in int8 are scaled first.
    in_float = [node.input_value(1).get_node().get_type_name() == "Constant" for node in convolutions(model)]
    assert sum(in_float) == 6  # five that mask has, too, and one of gender alone
    part = openvino.Model([model.outputs[0]], model.get_parameters())
    own = [node.input_value(1).get_node().get_type_name() == "Constant" for node in convolutions(part)]
    assert own == [True] * 5 + [False] * 15


def test_calibration_images_are_of_training_people_of_the_heads_own_sources(own, faces, tmp_path) -> None:
    held_out = read_validation(own / "mask" / "validation.npz")
    shutil.copytree(faces / "train", tmp_path / "copy")
    people = set(held_out["person"].astype(str))
    for folder in (faces / "train", tmp_path / "copy"):  # a copy's people have other names
        table = read_table([folder])
        assert table["person"].isin(people).any()
        paths = select_calibration_images(table, held_out)
        assert 50 <= len(paths) <= CALIBRATION_IMAGES
        assert len(set(paths)) == len(paths)
        assert not {path.parent.name for path in paths} & people
    moved = {"path": "/elsewhere" + table["path"], "person": [f"other-1/{n}" for n in range(len(table))]}
    other = table.assign(source="/elsewhere", **moved)
    assert select_calibration_images(pd.concat([table, other], ignore_index=True), held_out) == paths
    # Where no source has validation people, all are taken.
    assert len(select_calibration_images(other, held_out)) == min(CALIBRATION_IMAGES, len(other))
    few = table[table["person"].isin(table["person"].unique()[:9])]
    with pytest.raises(InputError, match=r"found \d+ images .* expected at least 50 .*--calibration"):
        select_calibration_images(few, held_out)


def test_validation_images_that_moved_are_found_in_the_training_data(own: Path, faces: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "train"
    shutil.copytree(faces / "train", moved)
    held_out = read_validation(own / "mask" / "validation.npz")
    gone = held_out | {"path": np.array([f"/nowhere/{Path(str(p)).name}" for p in held_out["path"]])}
    table = read_table([moved])
    paths = find_validation_images(table, gone, own / "mask" / "validation.npz")
    for found, before in zip(paths, held_out["path"], strict=True):
        assert found.is_relative_to(moved)
        assert found.read_bytes() == Path(str(before)).read_bytes()
    with pytest.raises(InputError, match=r"validation\.npz: (\d+) of its \1 images.*--calibration"):
        find_validation_images(table.iloc[:0], gone, own / "mask" / "validation.npz")


def test_people_to_compare_on_are_whole_and_always_the_same() -> None:
    people = [f"person {n % 50}" for n in range(500)]
    chosen = select_people(people, 100)
    assert chosen.sum() == 100  # ten people of ten images
    assert {people[row] for row in np.flatnonzero(chosen)}.isdisjoint(people[row] for row in np.flatnonzero(~chosen))
    backwards = select_people(people[::-1], 95)
    np.testing.assert_array_equal(backwards[::-1], chosen)
    assert select_people(people, 1000).all()


def test_one_file_serves_the_same_heads_whatever_images_follow(
    tasks, heads, own, faces, images, models, tmp_path, monkeypatch, capsys
) -> None:
    quantised: list[Any] = []
    monkeypatch.setattr(int8, "quantise", lambda *given: quantised.append(given) or models[1])
    monkeypatch.setattr(int8, "MAX_LOSS", 1.0)  # heads of one epoch have nothing to lose
    with pytest.raises(InputError, match=r"ensemble\.export --runs .* --format int8 --calibration DIR(.|\n)*int8\.npz"):
        Int8Backend(tasks, [own])
    first = Int8Backend(tasks, [own], [faces / "train"])
    scores = capsys.readouterr().err
    for name, task in tasks.items():
        if name == "mask":  # the other one was changed
            assert f"mask: macro F1 {task.heads[0].validation['macro_f1']:.4f} in float32" in scores
    content = (own / "int8.npz").read_bytes()
    # Nothing is calibrated again: not with other crops or fewer heads, nor from the training data.
    crops = CroppedReader(write_boxes(tmp_path / "boxes.csv"))
    for again in (Int8Backend(tasks, [own], [tmp_path], crops), Int8Backend({"gender": tasks["gender"]}, [own])):
        assert again.describe() == first.describe()
    assert len(quantised) == 1
    pixels = torch.from_numpy(images[:3])
    expected = OpenVinoHeads(models[1])(pixels)
    for group, places in ((heads, [0, 1]), (heads[::-1], [1, 0]), (heads[1:], [1])):
        for place, logits in zip(places, first(group)(pixels), strict=True):
            torch.testing.assert_close(logits, expected[place], rtol=0, atol=1e-5)
    # Other heads, packages or processors do, and a damaged file does.
    other = {"mask": build_task([replace(heads[0], checksum="other")])}
    with pytest.raises(InputError, match=r"of other heads(.|\n)*mask.*not in it"):
        Int8Backend(other, [own])
    with monkeypatch.context() as patched:
        patched.setattr(int8, "has_dot_products", lambda: not has_dot_products())
        with pytest.raises(InputError, match=r"weights of (seven|eight) bits"):
            Int8Backend(tasks, [own])
    middle = len(content) // 2
    for damaged in (content[:middle], b"", content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]):
        (own / "int8.npz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"int8\.npz: cannot be read"):
            Int8Backend(tasks, [own])
    assert Int8Backend(tasks, [own], [faces / "train"]).describe() == first.describe()
    assert len(quantised) == 2


def write_boxes(file: Path) -> Path:
    file.write_text("path,x0,y0,x1,y1\na.jpg,1,1,9,9\n")
    return file


def test_heads_are_compared_on_the_pixels_that_combine_decodes(tasks, faces, tmp_path, monkeypatch) -> None:
    read: list[np.ndarray] = []

    def load(*given: Any) -> None:
        read.append(given[-1](tmp_path / "large.jpg"))
        raise InputError("read")

    noise = np.random.default_rng(0).integers(0, 256, (512, 384, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg")
    monkeypatch.setattr(int8, "load_batches", load)
    with pytest.raises(InputError, match=r"^read$"):
        int8.write_int8(tasks, tmp_path, [faces / "train"])
    expected = make_scaled_reader(Predictor(tasks).pipelines)(tmp_path / "large.jpg")
    np.testing.assert_array_equal(read[0], expected)
    assert read[0].shape < noise.shape


def test_convolutions_stay_in_float_until_heads_lose_little_and_they_are_refused_if_they_never_do(
    tasks, faces, models, tmp_path, monkeypatch
) -> None:
    tried: list[list[int]] = []
    monkeypatch.setattr(int8, "quantise", lambda *given: tried.append(given[3]) or models[1])
    # Of mask and gender: in float, then all in int8, gender with one convolution in float, and mask with it.
    scores = iter([0.9, 0.8, 0.8971, 0.7969, 0.8971, 0.7971])
    monkeypatch.setattr(int8, "macro_f1", lambda *_: next(scores))
    assert int8.write_int8(tasks, tmp_path, [faces / "train"]) == tmp_path / "int8.npz"
    assert tried == [[0, 0], [0, 1]]
    scores = iter([0.9, 0.8, *[0.8969, 0.8] * 3])
    with pytest.raises(InputError, match=r"mask: macro F1 0\.9000 in float32, 0\.8969 in int8 .* at most 0\.003"):
        int8.write_int8(tasks, tmp_path / "bad", [faces / "train"])
    assert tried[2:] == [[0, 0], [1, 0], [5, 0]]
    assert not (tmp_path / "bad").exists()


def test_openvino_and_nncf_send_no_usage_statistics() -> None:
    program = "import sys; from ensemble.backends.int8 import _import_nncf; _import_nncf(); import openvino; "
    program += "print({'openvino', 'nncf'} <= set(sys.modules), sys.modules['openvino_telemetry'])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True None\n"


@pytest.mark.slow
def test_combine_predicts_in_int8(runs, configs, faces, call, tmp_path, monkeypatch) -> None:
    for task in ("mask", "gender", "age"):
        copy_run(runs / task, tmp_path / "runs" / task)
    monkeypatch.setattr(int8, "MAX_LOSS", 1.0)  # heads of one epoch have nothing to lose
    config = ["--config", configs / "joint.yaml", "--runs", tmp_path / "runs"]
    outcome = call(export, *config, "--format", "int8", "--calibration", faces / "train")
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"{tmp_path / 'runs' / 'int8.npz'}\n"
    given = [*config, "--data", faces / "eval"]
    found, keys, inner = [], [], ensemble.inference.parts.make_key
    monkeypatch.setattr(ensemble.inference.parts, "make_key", lambda *args: keys.append(inner(*args)) or keys[-1])
    for engine, precision in (("openvino", "fp32"), ("auto", "int8")):
        out = tmp_path / precision / "submission.csv"
        options = ["--engine", engine, "--precision", precision, "--workers", 0, "--out", out]
        outcome = call(combine, *given, *options)
        assert outcome.code == 0, outcome.err
        found.append(read_probabilities(out.parent / "probabilities.npz"))
    assert len(set(keys)) == 2  # parts of one precision are not used for the other
    for task in ("mask", "gender", "age"):
        assert 0 < np.abs(found[1][task] - found[0][task]).max() < 0.3
