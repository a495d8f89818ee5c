"""What computes a head: PyTorch, ONNX Runtime, OpenVINO, int8."""
