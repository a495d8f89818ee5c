"""A Keras ResNet-50 and what `heads.convert` makes of its file say the same of the same images."""

import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data.runtime.errors import InputError
from heads.build import build_head, load_backbone_weights
from heads.config.task import Backbone, TaskConfig
from heads.convert import __main__ as convert
from heads.convert.keras_file import read_keras
from heads.model.backbones import BACKBONES, RELEASES, build_backbone
from heads.model.weights import apply_weights_metadata, fill_backbone
from heads.run.checkpoint import save_tensors

SIDE = 64
AGES = 101
Model = Any


def randomised(model: Model) -> Model:
    """The model with batch-norm statistics, scales and biases that are not the initial ones."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            ranges = ((0.3, 0.7), (-0.2, 0.2), (-0.2, 0.2), (0.5, 2.0))
            layer.set_weights([rng.uniform(low, high, shape).astype(np.float32) for low, high in ranges])
        elif isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, rng.uniform(-0.1, 0.1, bias.shape).astype(np.float32)])
    return model


@pytest.fixture(scope="module")
def ages() -> Model:
    """Keras's ResNet-50 with 101 ages on it and no bias, as age-only weights have them."""
    keras.utils.set_random_seed(0)
    base = keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=(SIDE, SIDE, 3), pooling="avg"
    )
    ages = keras.layers.Dense(AGES, use_bias=False, activation="softmax", name="pred_age")(base.output)
    return randomised(keras.Model(base.input, ages))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Sixteen images [16, 64, 64, 3] uint8, RGB."""
    return np.random.default_rng(1).integers(0, 256, (16, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def expected(ages: Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keras's own features [16, 2048] and ages [16, 101], of pixels as its preprocess_input makes them."""
    shown = keras.applications.resnet.preprocess_input(images.astype(np.float32))
    features = keras.Model(ages.input, ages.layers[-2].output)
    return features.predict(shown, verbose=0), ages.predict(shown, verbose=0)


def without_names(path: Path) -> None:
    """Rewrite a .weights.h5 as earlier releases of Keras 3 wrote it: its groups do not tell the layers."""
    with h5py.File(path, "r+") as file:
        groups: list[Any] = []
        file.visititems(lambda name, item: groups.append(item) if name.endswith("/vars") else None)
        for group in groups:
            del group.attrs["name"]


def archive_without_names(model: Model, path: Path) -> None:
    model.save(path.with_name("named.keras"))
    with zipfile.ZipFile(path.with_name("named.keras")) as old, zipfile.ZipFile(path, "w") as new:
        old.extract("model.weights.h5", path.parent)
        without_names(path.parent / "model.weights.h5")
        for name in ("config.json", "metadata.json"):
            new.writestr(name, old.read(name))
        new.write(path.parent / "model.weights.h5", "model.weights.h5")


def legacy_weights(model: Model, path: Path) -> None:
    """Weights alone in the old layout, which Keras 3 only writes within a whole model."""
    model.save(path.with_name("whole.h5"))
    with h5py.File(path.with_name("whole.h5")) as whole, h5py.File(path, "w") as file:
        for name in whole["model_weights"]:
            whole.copy(f"model_weights/{name}", file)
        file.attrs.update(whole["model_weights"].attrs)


def within(model: Model) -> Model:
    """The same network, the ResNet a layer of it."""
    resnet = keras.Model(model.input, model.layers[-2].output)
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), resnet, model.layers[-1]])


WRITERS: dict[str, Callable[[Model, Path], None]] = {
    "whole.h5": lambda model, path: model.save(path),
    "weights.hdf5": legacy_weights,
    "new.weights.h5": lambda model, path: model.save_weights(path),
    "whole.keras": lambda model, path: model.save(path),
    "nameless.keras": archive_without_names,
    "within.h5": lambda model, path: within(model).save(path),
    "within.weights.h5": lambda model, path: within(model).save_weights(path),
}


def run(*arguments: object) -> None:
    with patch.object(sys, "argv", ["heads.convert", *map(str, arguments)]):
        convert.main()


@pytest.fixture
def emptied(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied after the test: each of these files has 94 MB."""
    yield tmp_path
    for path in tmp_path.iterdir():
        path.unlink()


AGE_CONFIG: dict[str, Any] = {
    "task": "age",
    "label": {
        "column": "age",
        "classes": ["under 30", "30 and over"],
        "borders": [30.0],
        "distribution": {"low": 0, "high": 100, "sigma": 2.5},
    },
    "loss": {"terms": [{"name": "cross_entropy"}]},
    "pixels": {"train": [{"resize": {"height": SIDE, "width": SIDE}}]},
    "training": {"epochs": 1},
}


def age_config(weights: Path, **pixels: Any) -> TaskConfig:
    plain = json.loads(json.dumps(AGE_CONFIG))
    plain["backbone"] = {"weights": str(weights), "with_classifier": True}
    plain["pixels"] |= {"evaluate": plain["pixels"]["train"], **pixels}
    return TaskConfig.model_validate(plain)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.filterwarnings("ignore")  # of Keras, on the layout that it calls legacy
def test_a_head_on_the_converted_file_gives_keras_s_features_and_ages(
    name: str, ages: Model, images: np.ndarray, expected: tuple[np.ndarray, np.ndarray], emptied: Path
) -> None:
    WRITERS[name](ages, emptied / name)
    out = emptied / "out.safetensors"
    run(emptied / name, out)
    config = apply_weights_metadata(age_config(out), "age.yaml")
    assert config.backbone.name == "resnet50_keras"
    head = build_head(config)
    told = load_backbone_weights(head, config.backbone, emptied, None)
    assert "0 unused, 0 missing; with its classifier" in told
    seen = torch.from_numpy(images.transpose(0, 3, 1, 2))
    head.eval()
    with torch.inference_mode():
        logits = head(seen)
        features = head.backbone((seen / 255 - head.mean) / head.std)
    assert np.abs(expected[0]).max() > 0.1
    np.testing.assert_allclose(features.numpy(), expected[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(F.softmax(logits, dim=1).numpy(), expected[1], rtol=0, atol=1e-4)


def old_resnet50(same: bool, pool_pad: bool, epsilon: float = 1e-3) -> Model:
    """A ResNet-50 with the names and stems that Keras had up to 2.2, and a bias on its output."""
    layers = keras.layers

    def conv_bn(x: Any, filters: int, kernel: int, strides: int, conv: str, bn: str) -> Any:
        x = layers.Conv2D(filters, kernel, strides=strides, padding="same", name=conv)(x)
        return layers.BatchNormalization(epsilon=epsilon, name=bn)(x)

    x = pixels = keras.Input((SIDE, SIDE, 3))
    if not same:
        x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = layers.Conv2D(64, 7, strides=2, padding="same" if same else "valid", name="conv1")(x)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=epsilon, name="bn_conv1")(x))
    if pool_pad:
        x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2)(x)
    for stage, blocks in enumerate((3, 4, 6, 3), start=2):
        width = 32 * 2**stage // 2
        for block in "abcdef"[:blocks]:
            name, strides = f"{stage}{block}_branch", 2 if block == "a" and stage > 2 else 1
            short = x
            if block == "a":
                short = conv_bn(x, 4 * width, 1, strides, f"res{name}1", f"bn{name}1")
            y = layers.ReLU()(conv_bn(x, width, 1, strides, f"res{name}2a", f"bn{name}2a"))
            y = layers.ReLU()(conv_bn(y, width, 3, 1, f"res{name}2b", f"bn{name}2b"))
            y = conv_bn(y, 4 * width, 1, 1, f"res{name}2c", f"bn{name}2c")
            x = layers.ReLU()(layers.add([y, short]))
    x = layers.GlobalAveragePooling2D()(x)
    return randomised(keras.Model(pixels, layers.Dense(5, activation="softmax", name="fc")(x)))


@pytest.mark.parametrize(
    ("backbone", "same", "pool_pad"),
    [
        ("resnet50_keras_2_0", False, False),
        ("resnet50_keras_2_1", True, False),
        ("resnet50_keras_2_2", False, True),
    ],
)
@pytest.mark.parametrize("write", [WRITERS["whole.h5"], legacy_weights], ids=["whole", "weights"])
@pytest.mark.filterwarnings("ignore")
def test_names_and_stems_of_old_releases_are_told_apart(
    backbone: str, same: bool, pool_pad: bool, write: Any, images: np.ndarray, emptied: Path
) -> None:
    keras.utils.set_random_seed(0)
    model = old_resnet50(same, pool_pad)
    write(model, emptied / "old.h5")
    tensors, description = convert.convert(emptied / "old.h5", "bgr", None)
    assert description["trunk"]["name"] == backbone
    assert description["outputs"] == 5
    net, _ = build_backbone(backbone)
    fill_backbone(net, tensors, "old")
    seen = torch.from_numpy(images[:4].transpose(0, 3, 1, 2)).float()  # RGB: the file was for BGR
    with torch.inference_mode():
        logits = F.linear(net.eval()(seen), tensors["classifier.1.weight"], tensors["classifier.1.bias"])
    expected = model.predict(images[:4, ..., ::-1].astype(np.float32), verbose=0)
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), expected, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def layers() -> dict[str, list[np.ndarray]]:
    """Arrays of every layer of a ResNet-50 under its Keras names, all of them zeros."""
    model = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))
    shapes = {layer.name: [tuple(w.shape) for w in layer.weights] for layer in model.layers if layer.weights}
    return {name: [np.zeros(shape, np.float32) for shape in found] for name, found in shapes.items()}


def write_legacy(
    path: Path, arrays: dict[str, list[np.ndarray]], configs: dict[str, dict] | None = None
) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in arrays]
        for name, values in arrays.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{place}:0".encode() for place in range(len(values))]
            for place, value in enumerate(values):
                group.create_dataset(f"{name}/{place}:0", data=value)
        if configs is not None:
            listed = [{"class_name": "x", "config": {"name": n, **c}} for n, c in configs.items()]
            file.attrs["model_config"] = json.dumps({"config": {"layers": listed}})


BLOCK = [np.zeros((1, 1, 1024, 256), np.float32), np.zeros(256, np.float32)]
OUTPUT = [np.zeros((2048, 3), np.float32)]


@pytest.mark.parametrize(
    ("change", "configs", "message"),
    [
        ({"conv4_block7_1_conv": BLOCK}, None, "more than it has: layer3.6.conv1"),
        ({"conv5_block3_3_bn": None}, None, "missing layer4.2.bn3.weight"),
        ({"conv5_block3_3_bn": OUTPUT}, None, "conv5_block3_3_bn: 1 arrays, expected weight, bias"),
        ({"age": OUTPUT, "gender": OUTPUT}, None, "found several outputs, age, gender: choose one"),
        (
            {},
            {"conv3_block1_1_conv": {"strides": [1, 1]}},
            "conv3_block1_1_conv: strides [1, 1], expected [2, 2]",
        ),
        ({}, {"conv1_bn": {"epsilon": 0.01}}, "epsilon=0.01"),
        ({}, {"max_pool": {}}, "max_pool: takes the largest value of each map, expected their mean"),
        ({}, {"global_max_pooling2d": {}}, "global_max_pooling2d: takes the largest"),
        ({}, {"conv1_bn": {"epsilon": 0.01}, "conv2_block1_1_bn": {"epsilon": 0.1}}, "epsilons [0.01, 0.1]"),
    ],
)
def test_what_is_no_resnet50_of_keras_is_refused_with_the_reason(
    change: dict, configs: Any, message: str, layers: dict[str, list[np.ndarray]], emptied: Path
) -> None:
    arrays = {name: values for name, values in (layers | change).items() if values is not None}
    write_legacy(emptied / "odd.hdf5", arrays, configs)
    with pytest.raises(InputError) as raised:
        convert.convert(emptied / "odd.hdf5", "caffe", None)
    assert message in str(raised.value)


def test_one_of_several_outputs_is_chosen_by_name(layers: dict, emptied: Path) -> None:
    write_legacy(emptied / "two.hdf5", layers | {"age": [np.ones((2048, 4), np.float32)], "gender": OUTPUT})
    tensors, description = convert.convert(emptied / "two.hdf5", "caffe", "age")
    assert description["outputs"] == 4
    assert tensors["classifier.1.weight"].eq(1).all()
    with pytest.raises(InputError, match="--output mask: found age, gender on the backbone's features"):
        convert.convert(emptied / "two.hdf5", "caffe", "mask")


def test_another_network_and_files_of_no_network_are_refused(emptied: Path) -> None:
    write_legacy(emptied / "other.h5", {"block1_conv1": [np.zeros((3, 3, 3, 64), np.float32)]})
    (emptied / "text.h5").write_text("not HDF5")
    with zipfile.ZipFile(emptied / "other.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with h5py.File(emptied / "empty.h5", "w"):
        pass
    for name, message in (
        ("other.h5", "found block1_conv1, ..., expected Keras's ResNet-50"),
        ("text.h5", "not readable as a file of Keras"),
        ("other.keras", "not readable as a file of Keras: .*metadata.json"),
        ("empty.h5", "found no layer with weights"),
        ("none.h5", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            convert.convert(emptied / name, "caffe", None)


def test_an_archive_that_unpacks_to_more_than_memory_should_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heads.convert.keras_file.LIMIT", 10**6)
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(10**6 + 1))
    assert (tmp_path / "bomb.keras").stat().st_size < 10**4
    with pytest.raises(InputError, match=r"bomb\.keras: unpacks to 1000001 bytes, expected at most 1000000"):
        read_keras(tmp_path / "bomb.keras")


@pytest.mark.filterwarnings("ignore")
def test_weights_without_names_and_without_a_config_are_refused(ages: Model, emptied: Path) -> None:
    ages.save_weights(emptied / "new.weights.h5")
    without_names(emptied / "new.weights.h5")
    with pytest.raises(InputError, match=r"have no names; save the model as \.keras or \.h5 instead"):
        read_keras(emptied / "new.weights.h5")


def test_a_config_that_contradicts_the_file_is_refused_and_one_without_a_description_stays(
    emptied: Path,
) -> None:
    backbone = {"name": "resnet50_keras", "mean": [0.5, 0.5, 0.5], "std": [0.1, 0.1, 0.1]}
    save_tensors(emptied / "made.safetensors", {"a": torch.zeros(1)}, {"trunk": backbone})
    save_tensors(emptied / "plain.safetensors", {"a": torch.zeros(1)}, {"config": {}})
    found = apply_weights_metadata(age_config(emptied / "made.safetensors", std=[0.1, 0.1, 0.1]), "age.yaml")
    assert (found.backbone.name, found.pixels.mean) == ("resnet50_keras", [0.5, 0.5, 0.5])
    with pytest.raises(InputError, match=r"age\.yaml: pixels\.std is \[0\.2.*expected \[0\.1"):
        apply_weights_metadata(age_config(emptied / "made.safetensors", std=[0.2, 0.2, 0.2]), "age.yaml")
    for name in ("plain.safetensors", "none.safetensors"):
        config = age_config(emptied / name)
        assert apply_weights_metadata(config, "age.yaml") == config


def test_every_release_can_be_named_in_a_config() -> None:
    allowed = Backbone.model_json_schema()["properties"]["name"]["enum"]
    assert set(allowed) == set(BACKBONES) > set(RELEASES)
