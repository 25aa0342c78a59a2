"""Operators that the wrapper modules use: each is a node in a traced graph, and computes in PyTorch
otherwise.

They know no model. A new one needs an oracle test, and a lowering in ``targets`` where it is not
standard ONNX.
"""
