"""Why a check is left out."""

from __future__ import annotations


class Skip(Exception):
    """Raised by a check that cannot run here, with the reason."""


def need_device() -> None:
    """Leave the check out where there is no CUDA device.

    Raises:
        Skip: with the reason.
    """
    from ...runtime.engines.cuda_memory import missing

    reason = missing()
    if reason is not None:
        raise Skip(reason)
