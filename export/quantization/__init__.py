"""Matrix products of few bits, made of a finished bundle; ``calibration.quantize`` drives it.

Needs ONNX Runtime and onnx, not torch.
"""
