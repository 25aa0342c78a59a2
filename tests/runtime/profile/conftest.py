"""A profile of the sample model, made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import vtp
from vtp.runtime.profile import Profile, document, make_workload, profile

NEW_TOKENS = 6
ROUNDS = 4


@pytest.fixture(scope="session")
def profiled(tiny_bundle: Path) -> Profile:
    """The sample model at three keeps."""
    pipeline = vtp.load(tiny_bundle, "cpu", threads=1, verify=False)
    workload = make_workload(pipeline, keeps=["0.5", "0.1"], new_tokens=NEW_TOKENS)
    return profile(pipeline, workload, repeat=ROUNDS, warmup=1)


@pytest.fixture(scope="session")
def found(profiled: Profile) -> dict[str, Any]:
    """Its document, with accuracies of two keeps."""
    return document(profiled, {"1.0": 0.987, "0.1": 0.5})
