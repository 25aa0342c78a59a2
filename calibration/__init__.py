"""Calibration on the user's own data: tokens to keep, where to drop, when to exit, fewer bits.

Keep and exit need the runtime only, fewer bits ONNX too, and a schedule of a model that has to be
exported first the ``export`` extra.
"""
