"""Whether built engines fit what is here."""

from __future__ import annotations

from dataclasses import dataclass

from ....errors import VariantMismatch
from ....trt_plugins.topk_tokens import VERSION as PLUGIN_VERSION
from ...bundle.bundle import Bundle
from ...bundle.sources import rebuild_command
from ...bundle.variants import VariantRecord
from .flavours import FLAVOURS


@dataclass(frozen=True, kw_only=True)
class Here:
    """The library and the device of this process."""

    version: str
    """Of the library."""
    machine: str
    """Processor architecture."""
    capability: str
    """Compute capability of the device, such as ``8.7``."""


def misfit(bundle: Bundle, variant: VariantRecord, here: Here) -> VariantMismatch | None:
    """What of a variant does not fit, with the command that builds one that does; None if it fits.

    Engines are valid for one version of the library, one processor architecture and some cards.
    """
    cards = variant.compute_capabilities
    rebuild = rebuild_command(bundle, variant)
    if here.capability not in (cards or (here.capability,)):
        if FLAVOURS[variant.engine].builds_for_other_cards:
            rebuild += f" --compute-capability {here.capability}"
        built = ", ".join(cards)
        return VariantMismatch(variant.name, "compute capability", built, here.capability, rebuild)
    pairs = (
        (f"{variant.engine} version", variant.version, here.version),
        ("machine type", variant.machine, here.machine),
        ("plugin version", variant.plugin or PLUGIN_VERSION, PLUGIN_VERSION),
    )
    for what, built, found in pairs:
        if built != found:
            return VariantMismatch(variant.name, what, built, found, rebuild)
    return None
