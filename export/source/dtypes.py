"""Types of weights as numpy types."""

from __future__ import annotations

import numpy as np


def numpy_type(name: str) -> np.dtype:
    """The numpy type of a type of weights; numpy has some of them not of its own."""
    if name in ("bfloat16", "int4", "uint4", "float8_e4m3fn"):
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))
    return np.dtype(name)
