"""Graph passes on ``onnx_ir`` models, one file each.

A pass works in place, states in its docstring what it looks for, and returns how many places it
changed, so that the exporter can refuse a model whose trace looks different from what it knows.
"""
