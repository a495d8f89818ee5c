"""The page's int8: convolutions that several heads share are quantised once, and the first ones can stay in float."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ensemble.web.int8 import _quantise

# Two heads on a shared stem and stage: name of each convolution, and what it follows.
CONVOLUTIONS = {"stem": "pixels", "stage": "stem", "a1": "stage", "a2": "a1", "b1": "stage", "b2": "b1"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(3, 3, 3, 3)).astype(np.float32) for _ in CONVOLUTIONS]
    graph = helper.make_graph(
        [helper.make_node("Conv", [of, f"{name}.w"], [name], name=name) for name, of in CONVOLUTIONS.items()],
        "heads",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("a2", "b2")],
        [numpy_helper.from_array(each, f"{name}.w") for name, each in zip(CONVOLUTIONS, weights, strict=True)],
    )
    path = tmp_path_factory.mktemp("page") / "fp32.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize(("in_float", "expected"), [(0, set()), (1, {"stem"}), (3, {"stem", "stage", "a1", "b1"})])
def test_shared_convolutions_count_once(in_float: int, expected: set[str], source: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(1).random((4, 1, 3, 16, 16), dtype=np.float32)
    _quantise(source, tmp_path / "int8.onnx", ({"pixels": each} for each in images), in_float)
    nodes = onnx.load(tmp_path / "int8.onnx").graph.node
    dequantised = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) == len(CONVOLUTIONS)
    assert {node.name for node in convolutions if node.input[1] not in dequantised} == expected
