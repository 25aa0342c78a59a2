"""Qwen2.5-VL: Qwen2-VL with windows in most layers of its tower (arXiv 2502.13923)."""

from __future__ import annotations

from typing import Any, ClassVar

from ...errors import ModelNotSupported
from .qwen2_vl import Qwen2VL


class Qwen25VL(Qwen2VL):
    """``Qwen2_5_VLForConditionalGeneration`` of transformers."""

    name: ClassVar[str] = "qwen2_5_vl"
    windowed: ClassVar[bool] = True

    def check(self, config: Any) -> None:
        super().check(config)
        found, depth = config.vision_config.fullatt_block_indexes, config.vision_config.depth
        if not found or not all(0 <= layer < depth for layer in found):
            raise ModelNotSupported(
                f"fullatt_block_indexes {list(found)} of a tower with {depth} layers",
                [f"at least one of 0..{depth - 1}"],
            )

    def _global_layers(self, config: Any) -> tuple[int, ...] | None:
        return tuple(sorted(config.fullatt_block_indexes))
