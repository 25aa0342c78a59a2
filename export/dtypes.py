"""Types of weights as numpy types."""

from __future__ import annotations

import numpy as np


def numpy_type(name: str) -> np.dtype:
    """The numpy type of a type of weights; numpy has no bfloat16 of its own."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)
