"""Engines built by TensorRT and TensorRT-RTX: what they may be asked, and how they are built."""
