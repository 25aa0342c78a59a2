"""Operators that ONNX does not have: their specification, and plugins for TensorRT."""
