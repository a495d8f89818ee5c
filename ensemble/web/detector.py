"""The face detector of `data.boxes` as a graph for the page."""

from pathlib import Path

from data.boxes.detector import OUTPUTS, weights_path
from data.runtime.files import write_atomically
from ensemble.backends.engines import import_optional
from heads.export.graph import INPUT

SIZE = "size"  # int64 [4]: 1, height, width and 3 of the network's input; multiples of 32
OPSET, IR_VERSION = 20, 10  # those of PyTorch's exports


def write_detector(path: Path) -> None:
    """Write CenterFace with its scaling inside: uint8 RGB [1, h, w, 3] to heat, sizes and offsets."""
    source = weights_path()
    onnx = import_optional("onnx", "--detector")
    network, make = onnx.load(source).graph, onnx.helper
    used = {name for node in network.node for name in node.input}
    weights = [tensor for tensor in network.initializer if tensor.name in used]
    [pixels] = {each.name for each in network.input} - {each.name for each in network.initializer}
    scaling = [
        make.make_node("Resize", [INPUT, "", "", SIZE], ["scaled"], mode="linear"),  # to whole levels, as OpenCV
        make.make_node("Cast", ["scaled"], ["levels"], to=onnx.TensorProto.FLOAT),
        make.make_node("Transpose", ["levels"], [pixels], perm=[0, 3, 1, 2]),
    ]
    image = make.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, [1, "height", "width", 3])
    size = make.make_tensor_value_info(SIZE, onnx.TensorProto.INT64, [4])
    maps = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in OUTPUTS[:3]]
    graph = make.make_graph([*scaling, *network.node], "detector", [image, size], maps, weights)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    with write_atomically(path) as temporary:
        onnx.save(model, temporary)
