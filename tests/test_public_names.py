"""What ``import vtp`` offers, and that it brings nothing before it is used."""

from __future__ import annotations

from typing import Any

import pytest

import vtp
from vtp import runtime

NAMES = ("Chat", "Pipeline", "Result", "Settings", "Video", "load")


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_the_runtimes(name: str) -> None:
    assert getattr(vtp, name) is getattr(runtime, name)
    assert name in vtp.__all__
    assert name in dir(vtp)


def test_what_is_no_name_says_so() -> None:
    with pytest.raises(AttributeError, match="module 'vtp' has no attribute 'laod'"):
        vtp.laod  # noqa: B018
    assert "Any" not in dir(vtp)


def test_listing_the_names_brings_nothing(run_script: Any) -> None:
    script = (
        "import sys, vtp\n"
        f"assert set({NAMES}) <= set(dir(vtp)), dir(vtp)\n"
        "vtp.errors.VtpError\n"
        "print(sorted({'numpy', 'PIL', 'tokenizers', 'vtp.runtime'} & set(sys.modules)))"
    )
    assert run_script(script).stdout.strip() == "[]"
