"""Constant folding and tidying."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes.common import ClearMetadataAndDocStringPass


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's notes (missing torchvision, deprecations inside torch) off the screen."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def tidy(model: ir.Model) -> None:
    """Fold constants, drop what nothing reads, and forget where in the sources nodes came from."""
    with quiet():
        onnxscript.optimizer.optimize_ir(model, onnx_shape_inference=False, inline=False)
    ClearMetadataAndDocStringPass()(model)
