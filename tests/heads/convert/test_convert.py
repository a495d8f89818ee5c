"""A Keras ResNet-50 and the head on its converted file have the same outputs for the same images."""

import json
import os
import sys
import zipfile
from collections.abc import Callable
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
from heads.build import load_backbone_weights
from heads.config.task import Backbone, TaskConfig
from heads.convert.__main__ import main
from heads.convert.keras_resnet import convert
from heads.load import build_head
from heads.model.head import build_backbone
from heads.model.weights import apply_weights_metadata, fill_backbone
from heads.run.checkpoint import save_tensors

SIDE = 64
AGES = 101
Model = Any
Layers = dict[str, list[np.ndarray]]
pytestmark = pytest.mark.filterwarnings("ignore")  # Keras's, about the layout that it calls legacy


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
    options = {"include_top": False, "weights": None, "input_shape": (SIDE, SIDE, 3), "pooling": "avg"}
    base = keras.applications.ResNet50(**options)
    ages = keras.layers.Dense(AGES, use_bias=False, activation="softmax", name="pred_age")(base.output)
    return randomised(keras.Model(base.input, ages))


IMAGES = np.random.default_rng(1).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8)  # RGB


@pytest.fixture(scope="module")
def expected(ages: Model) -> tuple[np.ndarray, np.ndarray]:
    """Keras's own features [8, 2048] and ages [8, 101], of pixels as its preprocess_input makes them."""
    pixels = keras.applications.resnet.preprocess_input(IMAGES.astype(np.float32))
    features = keras.Model(ages.input, ages.layers[-2].output)
    return features.predict(pixels, verbose=0), ages.predict(pixels, verbose=0)


def archive_without_names(model: Model, path: Path) -> None:
    """Write a .keras as earlier releases of Keras 3 did: the groups of its weights do not name the layers."""
    model.save(path.with_name("named.keras"))
    with zipfile.ZipFile(path.with_name("named.keras")) as old, zipfile.ZipFile(path, "w") as new:
        with h5py.File(old.extract("model.weights.h5", path.parent), "r+") as file:
            groups: list[Any] = []
            file.visititems(lambda name, item: groups.append(item) if name.endswith("/vars") else None)
            for group in groups:
                del group.attrs["name"]
        new.write(path.with_name("model.weights.h5"), "model.weights.h5")
        new.writestr("config.json", old.read("config.json"))
        new.writestr("metadata.json", old.read("metadata.json"))


def legacy_weights(model: Model, path: Path) -> None:
    """Weights alone in the old layout, which Keras 3 only writes within a whole model."""
    model.save(path.with_name("whole.h5"))
    with h5py.File(path.with_name("whole.h5")) as whole, h5py.File(path, "w") as file:
        for name in whole["model_weights"]:
            whole.copy(f"model_weights/{name}", file)
        file.attrs.update(whole["model_weights"].attrs)


def nested(model: Model) -> Model:
    """The same network, the ResNet a layer of it."""
    resnet = keras.Model(model.input, model.layers[-2].output)
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), resnet, model.layers[-1]])


WRITERS: dict[str, Callable[[Model, Path], None]] = {
    "whole.h5": lambda model, path: model.save(path),
    "weights.hdf5": legacy_weights,
    "new.weights.h5": lambda model, path: model.save_weights(path),
    "whole.keras": lambda model, path: model.save(path),
    "nameless.keras": archive_without_names,
    "nested.h5": lambda model, path: nested(model).save(path),
    "nested.weights.h5": lambda model, path: nested(model).save_weights(path),
}


@pytest.fixture
def age_config(colour_config: Callable[..., TaskConfig]) -> Callable[..., TaskConfig]:
    """The config of a head for 101 ages with initial weights from a file."""
    years = {"low": 0, "high": 100, "sigma": 2.5}
    label = {"column": "age", "classes": ["young", "old"], "borders": [30.0], "distribution": years}

    def make(weights: Path, **pixels: Any) -> TaskConfig:
        backbone, classifier = {"weights": str(weights), "with_classifier": True}, {"hidden": [], "dropout": 0.0}
        return colour_config(label=label, backbone=backbone, classifier=classifier, pixels=pixels)

    return make


@pytest.mark.parametrize("name", WRITERS)
def test_a_head_on_the_converted_file_has_kerass_features_and_ages(
    name: str, ages: Model, expected: tuple[np.ndarray, np.ndarray], age_config: Callable, tmp_path: Path
) -> None:
    WRITERS[name](ages, tmp_path / name)
    out = tmp_path / "out.safetensors"
    with patch.object(sys, "argv", ["heads.convert", str(tmp_path / name), str(out)]):
        main()
    config = apply_weights_metadata(age_config(out), "age.yaml")
    assert config.backbone.name == "resnet50_keras"
    head = build_head(config).eval()
    assert "0 unused, 0 missing; with its classifier" in load_backbone_weights(head, config.backbone)
    with torch.inference_mode():
        features = head.features(torch.from_numpy(IMAGES.transpose(0, 3, 1, 2)))
        logits = head(features)
    np.testing.assert_allclose(features.numpy(), expected[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(F.softmax(logits, dim=1).numpy(), expected[1], rtol=0, atol=1e-4)


def old_resnet50(same: bool, pool_pad: bool) -> Model:
    """A ResNet-50 with the names and stems that Keras had up to 2.2, and a bias on its output."""
    layers = keras.layers

    def conv_bn(x: Any, filters: int, kernel: int, strides: int, conv: str, bn: str) -> Any:
        x = layers.Conv2D(filters, kernel, strides=strides, padding="same", name=conv)(x)
        return layers.BatchNormalization(epsilon=1e-3, name=bn)(x)

    x = pixels = keras.Input((SIDE, SIDE, 3))
    if not same:
        x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = layers.Conv2D(64, 7, strides=2, padding="same" if same else "valid", name="conv1")(x)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-3, name="bn_conv1")(x))
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
    [("resnet50_keras_2_0", False, False), ("resnet50_keras_2_1", True, False), ("resnet50_keras_2_2", False, True)],
)
def test_old_releases_are_recognised_by_their_names_and_stems(
    backbone: str, same: bool, pool_pad: bool, tmp_path: Path
) -> None:
    model, pixels, (net, _) = old_resnet50(same, pool_pad), IMAGES[:2], build_backbone(Backbone(name=backbone).name)
    for write in (WRITERS["whole.h5"], legacy_weights):
        write(model, tmp_path / "old.h5")
        tensors, description = convert(tmp_path / "old.h5", "bgr", None)
        assert (description["trunk"]["name"], description["outputs"]) == (backbone, 5)
    fill_backbone(net, tensors, "old")
    rgb = torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float()  # the file was for BGR
    with torch.inference_mode():
        logits = F.linear(net.eval()(rgb), tensors["classifier.1.weight"], tensors["classifier.1.bias"])
    expected = model.predict(pixels[..., ::-1].astype(np.float32), verbose=0)
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), expected, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def layers(ages: Model) -> Layers:
    """Arrays of every layer of a ResNet-50 under its Keras names, all of them zeros."""
    shapes = {layer.name: [tuple(w.shape) for w in layer.weights] for layer in ages.layers[:-1] if layer.weights}
    return {name: [np.zeros(shape, np.float32) for shape in found] for name, found in shapes.items()}


def write_layers(path: Path, arrays: Layers, configs: dict[str, dict] | None = None) -> None:
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
        ({"conv5_block3_3_bn": OUTPUT}, None, "conv5_block3_3_bn: 1 arrays, expected weight, bias"),
        ({"age": OUTPUT, "gender": OUTPUT}, None, "found several outputs, age, gender: choose one"),
        ({}, {"conv3_block1_1_conv": {"strides": [1, 1]}}, "conv3_block1_1_conv: strides [1, 1], expected [2, 2]"),
        ({}, {"conv1_bn": {"epsilon": 0.01}}, "epsilon=0.01"),
        ({}, {"max_pool": {}}, "max_pool: takes the largest value of each map, expected their mean"),
        ({}, {"conv1_bn": {"epsilon": 0.01}, "conv2_block1_1_bn": {"epsilon": 0.1}}, "epsilons [0.01, 0.1]"),
    ],
)
def test_another_resnet50_than_kerass_is_refused_with_the_reason(
    change: dict, configs: Any, message: str, layers: Layers, tmp_path: Path
) -> None:
    write_layers(tmp_path / "odd.hdf5", layers | change, configs)
    with pytest.raises(InputError) as raised:
        convert(tmp_path / "odd.hdf5", "caffe", None)
    assert message in str(raised.value)


def test_one_of_several_outputs_is_chosen_by_name(layers: Layers, tmp_path: Path) -> None:
    write_layers(tmp_path / "two.hdf5", layers | {"age": [np.ones((2048, 4), np.float32)], "gender": OUTPUT})
    tensors, description = convert(tmp_path / "two.hdf5", "caffe", "age")
    assert description["outputs"] == 4
    assert tensors["classifier.1.weight"].eq(1).all()
    with pytest.raises(InputError, match="--output mask: found age, gender on the backbone's features"):
        convert(tmp_path / "two.hdf5", "caffe", "mask")


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_layers(tmp_path / "other.h5", {"block1_conv1": [np.zeros((3, 3, 3, 64), np.float32)]})
    write_layers(tmp_path / "empty.h5", {})
    (tmp_path / "text.h5").write_text("not HDF5")
    for name, content in (("other.keras", b"{}"), ("bomb.keras", bytes(10**6 + 1))):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", content)
    monkeypatch.setattr("heads.convert.keras_file.LIMIT", 10**6)
    for name, message in (
        ("other.h5", "found block1_conv1, ..., expected Keras's ResNet-50"),
        ("empty.h5", "found no layer with weights"),
        ("text.h5", "not readable as a file of Keras"),
        ("other.keras", r"not readable as a file of Keras: .*metadata\.json"),
        ("none.h5", "no such file"),
        ("bomb.keras", "unpacks to 1000001 bytes, expected at most 1000000"),
    ):
        with pytest.raises(InputError, match=rf"{name}: .*{message}"):
            convert(tmp_path / name, "caffe", None)


def test_a_config_that_contradicts_the_weights_is_refused(age_config: Callable, tmp_path: Path) -> None:
    backbone = {"name": "resnet50_keras", "mean": [0.5, 0.5, 0.5], "std": [0.1, 0.1, 0.1]}
    save_tensors(tmp_path / "made.safetensors", {"a": torch.zeros(1)}, {"trunk": backbone})
    save_tensors(tmp_path / "plain.safetensors", {"a": torch.zeros(1)}, {"config": {}})
    found = apply_weights_metadata(age_config(tmp_path / "made.safetensors", std=[0.1, 0.1, 0.1]), "age.yaml")
    assert (found.backbone.name, found.pixels.mean) == ("resnet50_keras", [0.5, 0.5, 0.5])
    with pytest.raises(InputError, match=r"age\.yaml: pixels\.std is \[0\.2.*expected \[0\.1"):
        apply_weights_metadata(age_config(tmp_path / "made.safetensors", std=[0.2, 0.2, 0.2]), "age.yaml")
    for name in ("plain.safetensors", "none.safetensors"):
        config = age_config(tmp_path / name)
        assert apply_weights_metadata(config, "age.yaml") == config


@pytest.mark.parametrize(
    ("trunk", "message"),
    [
        ({}, "its description has no name, mean, std of the backbone, expected those"),
        ({"name": "vgg16", "mean": [0.5] * 3, "std": [1.0]}, r"2 problems.*\n.*backbone.name='vgg16'.*\n.*pixels.std"),
    ],
)
def test_a_foreign_description_of_weights_is_refused(
    trunk: dict[str, Any], message: str, age_config: Callable, tmp_path: Path
) -> None:
    save_tensors(tmp_path / "made.safetensors", {"a": torch.zeros(1)}, {"trunk": trunk})
    with pytest.raises(InputError, match=f"made.safetensors: {message}"):
        apply_weights_metadata(age_config(tmp_path / "made.safetensors"), "age.yaml")
