"""The named models that `train.py` can make: sizes, steps and seeds."""

from __future__ import annotations

from dataclasses import dataclass

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the channels red, green, blue, as CLIP was trained."""


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Sizes of one sample model and how long it is trained."""

    image_size: int = 128
    """Side of the picture the tower takes, in pixels."""
    patch_size: int = 8
    """Side of one patch, in pixels."""
    vision_width: int = 128
    """Width of the vision tower."""
    vision_layers: int = 6
    """Layers of the tower; the features leave before the last one."""
    vision_heads: int = 4
    """Attention heads of the tower."""
    text_width: int = 192
    """Width of the decoder."""
    text_layers: int = 4
    """Layers of the decoder."""
    text_heads: int = 6
    """Query heads of the decoder."""
    text_kv_heads: int = 2
    """Key and value heads of the decoder (grouped-query attention)."""
    text_inner: int = 512
    """Inner width of the decoder's gated MLP."""
    tower: str | None = None
    """Sample model whose trained tower is taken as it is; None trains one."""
    seed: int = 1
    """Seed of the weights, the scenes and their order."""
    scenes: int = 40_000
    """Training scenes."""
    tower_steps: int = 1_300
    """Steps of stage 1."""
    tower_batch: int = 64
    """Pictures a step of stage 1."""
    language_scenes: int = 12_000
    """Scenes of stage 2, the first ones of `scenes`."""
    language_steps: int = 2_800
    """Steps of stage 2."""
    language_batch: int = 32
    """Pictures a step of stage 2; each brings several questions."""

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def image_tokens(self) -> int:
        """Image tokens of one picture."""
        return self.grid**2


CONFIGS: dict[str, SampleConfig] = {
    "tiny": SampleConfig(),
    "tiny-guide": SampleConfig(
        text_width=96,
        text_layers=2,
        text_heads=4,
        text_inner=256,
        tower="tiny_llava",
        seed=2,
        scenes=12_000,
        language_steps=2_000,
    ),
}
"""Name -> config, for `train.py --config`."""
