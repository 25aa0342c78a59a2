"""Puts a calibrated keep into the manifest as the bundle's default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from ..errors import BundleCorrupted
from ..runtime.bundle.bundle import Bundle, sha256_of
from ..runtime.bundle.keep import Keep, keep_count, show_keeps
from ..runtime.bundle.manifest import FILE_NAME, HistoryRecord, Manifest
from .answers import identity

FIELD = "plan.drops.keep"


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was done to a manifest."""

    old: tuple[Keep, ...]
    new: tuple[Keep, ...]
    sha256: str
    """Of the manifest now."""
    changed: bool
    """False where the default was this already: then nothing was written."""
    beyond: tuple[str, ...]
    """Built engines that are too small for the new default."""


def write_default(bundle: Bundle, keep: Sequence[Keep], why: str) -> Written:
    """Make a keep the default of a bundle; the manifest is replaced whole or not at all.

    The old value goes into ``history``, with the sha256 of the manifest that held it. The manifest
    is read once more first: engines that were built meanwhile stay.

    Args:
        bundle: the bundle that was calibrated.
        keep: one for each drop.
        why: on which grounds.

    Raises:
        BundleCorrupted: another model was exported to the folder meanwhile.
    """
    now = Bundle(bundle.path)
    if identity(now) != identity(bundle):
        raise BundleCorrupted(FILE_NAME, "has changed since the calibration began")
    path = bundle.path / FILE_NAME
    manifest, new = now.manifest, tuple(keep)
    old = manifest.plan.keeps(None)
    # 1 is one token, 1.0 is all of them.
    changed = [*map(repr, old)] != [*map(repr, new)]
    if changed:
        drops = tuple(
            replace(drop, keep=one) for drop, one in zip(manifest.plan.drops, new, strict=True)
        )
        record = HistoryRecord(
            field=FIELD,
            old=old,
            new=new,
            when=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            why=why,
            replaced=sha256_of(path),
        )
        now.rewrite(
            replace(
                manifest,
                plan=replace(manifest.plan, drops=drops),
                history=(*manifest.history, record),
            )
        )
    return Written(
        old=old,
        new=new,
        sha256=sha256_of(path),
        changed=changed,
        beyond=_beyond(now.manifest, new, bundle.path),
    )


def _beyond(manifest: Manifest, keep: Sequence[Keep], path: Path) -> tuple[str, ...]:
    return tuple(
        f"the engines of variant {variant.name!r} were built for fewer tokens; build them again "
        f"with vtp build {path} --engine {variant.engine} --max-keep {show_keeps(keep)} --name "
        f"{variant.name}"
        for variant in manifest.variants
        if any(
            keep_count(one, variant.limits.image_tokens, drop.rounding) > most
            for one, drop, most in zip(
                keep, manifest.plan.drops, variant.limits.counts, strict=True
            )
        )
    )
