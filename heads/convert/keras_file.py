"""Read files of Keras without Keras: every layer's arrays by the layer's name; only h5py is needed.

Three layouts: HDF5 with `layer_names` (Keras 1 and 2, and Keras 3's legacy .h5), Keras 3's `.weights.h5`, and
`.keras`, a zip archive of such a file and the model's config.
"""

import io
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.runtime.errors import InputError

Arrays = list[npt.NDArray[np.float32]]
# Scaling of the pixels: mean (red first) and std of values in 0..1; whether the network takes blue first.
INPUTS: dict[str, tuple[tuple[float, ...], float, bool]] = {
    # keras.applications' preprocess_input for ResNet50
    "caffe": ((123.68 / 255, 116.779 / 255, 103.939 / 255), 1 / 255, True),
    "bgr": ((0.0, 0.0, 0.0), 1 / 255, True),  # 0..255 as OpenCV reads them
    "rgb": ((0.0, 0.0, 0.0), 1 / 255, False),
    "unit": ((0.0, 0.0, 0.0), 1.0, False),  # 0..1
    "signed": ((0.5, 0.5, 0.5), 0.5, False),  # -1..1
}
LIMIT = 2**31  # bytes that an archive unpacks to; ResNet-50 takes 0.1 GB


@dataclass(frozen=True)
class KerasFile:
    """The contents of a file."""

    arrays: dict[str, Arrays]  # by layer, in Keras's order: kernel, bias; gamma, beta, mean, variance
    layers: tuple[str, ...]  # all in the file, with or without arrays
    configs: dict[str, dict[str, Any]]  # settings by layer; empty for a file of weights alone
    written_by: str  # the release of Keras, or "Keras" if unknown


def read_keras(path: Path) -> KerasFile:
    """Read a `.hdf5`, `.h5`, `.weights.h5` or `.keras` file.

    Raises:
        InputError: no such file, not a file of Keras, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise InputError(
            "reading Keras's files takes h5py, which is not installed: pip install -r requirements-bring.txt"
        ) from None
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected weights written by Keras (.hdf5, .h5 or .keras)")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(each.file_size for each in archive.infolist())
                if unpacked > LIMIT:
                    raise InputError(f"{path}: unpacks to {unpacked} bytes, expected at most {LIMIT}")
                model = _parse(archive.read("config.json"))
                version = _parse(archive.read("metadata.json")).get("keras_version", "")
                with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
                    arrays, layers = _read_by_path(file, model)
        else:
            with h5py.File(path) as file:
                root = file.get("model_weights", file)
                model, version = _parse(file.attrs.get("model_config")), root.attrs.get("keras_version", "")
                read = _read_by_layer if "layer_names" in root.attrs else _read_by_path
                arrays, layers = read(root, {})
        if not arrays:
            raise InputError(f"{path}: found no layer with weights, expected those of a Keras model")
        configs = {layer["config"]["name"]: layer["config"] for layer in _layers_of(model)}
    except (OSError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not readable as a file of Keras: {error}") from None
    written_by = f"Keras {_text(version)}".strip()
    return KerasFile(arrays, tuple(dict.fromkeys([*layers, *configs])), configs, written_by)


def _read_by_layer(root: Any, _: dict[str, Any]) -> tuple[dict[str, Arrays], list[str]]:
    """Arrays and names of all layers in the layout with `layer_names`; a nested model is one layer there."""
    arrays: dict[str, Arrays] = {}
    layers = [_text(name) for name in root.attrs["layer_names"]]
    for layer in layers:
        names = [_text(name) for name in root[layer].attrs["weight_names"]]
        # `conv1/kernel:0`, and `resnet50/conv1/kernel:0` or `conv1_1/kernel:0`; Keras 1 wrote `conv1_W`.
        owners = [name.rpartition("/")[0].rpartition("/")[2] or layer for name in names]
        single = len(set(owners)) == 1
        for owner, name in zip(owners, names, strict=True):
            values = np.asarray(root[layer][name], np.float32)
            arrays.setdefault(layer if single else owner, []).append(values)
    return arrays, layers


def _read_by_path(root: Any, model: dict[str, Any]) -> tuple[dict[str, Arrays], list[str]]:
    """Arrays and names in Keras 3's layout: groups `layers/conv2d_4/vars`, with names in later releases."""
    groups: list[tuple[str, Any]] = []
    root.visititems(lambda path, item: groups.append((path, item)) if path.endswith("/vars") else None)
    names = _names_by_path(model)
    arrays, layers = {}, []
    for path, group in groups:
        name = _text(group.attrs.get("name", "")) or names.get(path.removesuffix("/vars"))
        if name is None and len(group):
            raise ValueError("its layers have no names; save the model as .keras or .h5 instead")
        if name is not None and "optimizer" not in path:
            layers.append(name)
            if len(group):
                arrays[name] = [np.asarray(group[key], np.float32) for key in sorted(group, key=int)]
    return arrays, layers


def _names_by_path(model: dict[str, Any]) -> dict[str, str]:
    """Layer names by Keras 3's paths: the class in snake case, numbered in the order of the config."""
    counts: Counter[str] = Counter()
    names = {}
    for layer in model.get("config", {}).get("layers", []):
        kind = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", layer["class_name"])
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", kind).lower()
        names[f"layers/{kind}_{counts[kind]}" if counts[kind] else f"layers/{kind}"] = layer["config"]["name"]
        counts[kind] += 1
    return names


def _layers_of(model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All layers of a model's config, also of nested models."""
    layers = model.get("config", {})
    for layer in layers if isinstance(layers, list) else layers.get("layers", []):
        if "name" in layer.get("config", {}):
            yield layer
        yield from _layers_of(layer)


def _parse(text: bytes | str | None) -> dict[str, Any]:
    parsed = json.loads(text) if text else {}
    return parsed if isinstance(parsed, dict) else {}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
