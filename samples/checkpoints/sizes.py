"""Sizes that `make_checkpoint.py` knows: the published models of each family, and a tiny one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Text:
    """A decoder."""

    kind: str = "llama"
    """transformers' ``model_type``."""
    layers: int
    width: int
    heads: int
    kv_heads: int
    inner: int
    vocab: int = 32064
    theta: float = 10_000.0
    context: int = 4096
    tied: bool = False
    """Whether the head is the embedding table."""

    def config(self, **more: Any) -> dict[str, Any]:
        """As transformers' configurations spell it."""
        rope = {"rope_type": "default", "rope_theta": self.theta, **more.pop("rope", {})}
        return {
            "model_type": self.kind,
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.inner,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.context,
            "rope_parameters": rope,
            "sliding_window": None,
            "tie_word_embeddings": self.tied,
            **more,
        }


@dataclass(frozen=True, kw_only=True)
class Tower:
    """A vision tower."""

    layers: int
    width: int
    heads: int
    inner: int
    image: int
    """Side of a picture or tile, in pixels."""
    patch: int = 14

    def config(self, kind: str, **more: Any) -> dict[str, Any]:
        """As the configurations of CLIP, SigLIP and InternViT spell it."""
        return {
            "model_type": kind,
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "intermediate_size": self.inner,
            "image_size": self.image,
            "patch_size": self.patch,
            **more,
        }


@dataclass(frozen=True, kw_only=True)
class Size:
    """One model of a family."""

    tower: Tower
    text: Text


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What all sizes of a family have in common, beyond what ``Size`` says."""

    image_tokens: int
    """Of the largest image or video; where that has no bound, of one of 1280 tokens."""
    group: int = 1
    """Patches that the projector reads at once."""
    square: bool = False
    """Whether the projector's inner width is that of what it reads, else the decoder's."""
    gated: bool = False
    """Whether the MLP of the tower has three matrices, else two."""
    towers: int = 1


def _tiny(kind: str, image: int = 56, **text: Any) -> Size:
    return Size(
        tower=Tower(layers=4, width=64, heads=4, inner=128, image=image),
        text=Text(kind=kind, layers=6, width=64, heads=4, kv_heads=2, inner=128, vocab=176, **text),
    )


def _qwen2(layers: int, width: int, heads: int, kv: int, inner: int, **more: Any) -> Text:
    more = {"kind": "qwen2", "vocab": 152064, "theta": 1e6, "context": 32768, **more}
    return Text(layers=layers, width=width, heads=heads, kv_heads=kv, inner=inner, **more)


_CLIP_336 = Tower(layers=24, width=1024, heads=16, inner=4096, image=336)
_CLIP_224 = Tower(layers=24, width=1024, heads=16, inner=4096, image=224)
_SIGLIP_384 = Tower(layers=26, width=1152, heads=16, inner=4304, image=384)
_INTERNVIT_300M = Tower(layers=24, width=1024, heads=16, inner=4096, image=448)
_INTERNVIT_6B = Tower(layers=45, width=3200, heads=25, inner=12800, image=448)
_QWEN_VIT = Tower(layers=32, width=1280, heads=16, inner=5120, image=448)
_QWEN25_VIT = Tower(layers=32, width=1280, heads=16, inner=3420, image=448)

_VICUNA_7B = Text(layers=32, width=4096, heads=32, kv_heads=32, inner=11008)
_VICUNA_13B = Text(layers=40, width=5120, heads=40, kv_heads=40, inner=13824)
_MISTRAL_7B = Text(
    kind="mistral",
    layers=32,
    width=4096,
    heads=32,
    kv_heads=8,
    inner=14336,
    theta=1e6,
    context=32768,
)
_LLAMA3_8B = Text(
    layers=32,
    width=4096,
    heads=32,
    kv_heads=8,
    inner=14336,
    vocab=128320,
    theta=5e5,
    context=8192,
)
_TINYLLAMA = Text(layers=22, width=2048, heads=32, kv_heads=4, inner=5632)
# LLaVA-OneVision's tables have rows for its image tokens.
_ONEVISION_05B = _qwen2(24, 896, 14, 2, 4864, vocab=152000, tied=True)
_ONEVISION_7B = _qwen2(28, 3584, 28, 4, 18944, vocab=152128)
_INTERNVL_05B = _qwen2(24, 896, 14, 2, 4864, vocab=151674)
_INTERNVL3_2B = _qwen2(28, 1536, 12, 2, 8960, vocab=151674)
_INTERNVL3_8B = _qwen2(28, 3584, 28, 4, 18944, vocab=151674)
_QWEN2_2B = _qwen2(28, 1536, 12, 2, 8960, vocab=151936, tied=True)
_QWEN2_7B = _qwen2(28, 3584, 28, 4, 18944)
_QWEN25_3B = _qwen2(36, 2048, 16, 2, 11008, vocab=151936, tied=True, context=128000)
_QWEN25_7B = _qwen2(28, 3584, 28, 4, 18944, context=128000)
_QWEN2_72B = _qwen2(80, 8192, 64, 8, 29568)
# InternLM2 has the sizes and the form of Llama with grouped queries.
_INTERNLM_2B = Text(layers=24, width=2048, heads=16, kv_heads=8, inner=8192, vocab=92553)
_INTERNLM_8B = Text(layers=32, width=4096, heads=32, kv_heads=8, inner=14336, vocab=92553)
_INTERNLM_20B = Text(layers=48, width=6144, heads=48, kv_heads=8, inner=16384, vocab=92553)

SIZES: dict[str, dict[str, Size]] = {
    "llava": {
        "tiny": _tiny("llama"),
        "1.1b": Size(tower=_CLIP_336, text=_TINYLLAMA),
        "7b": Size(tower=_CLIP_336, text=_VICUNA_7B),
        "13b": Size(tower=_CLIP_336, text=_VICUNA_13B),
    },
    "llava_next": {
        "tiny": _tiny("mistral"),
        "7b": Size(tower=_CLIP_336, text=_VICUNA_7B),
        "mistral-7b": Size(tower=_CLIP_336, text=_MISTRAL_7B),
        "13b": Size(tower=_CLIP_336, text=_VICUNA_13B),
        "llama3-8b": Size(tower=_CLIP_336, text=_LLAMA3_8B),
    },
    "video_llava": {
        "tiny": _tiny("llama"),
        "7b": Size(tower=_CLIP_224, text=_VICUNA_7B),
    },
    "llava_onevision": {
        "tiny": _tiny("qwen2"),
        "0.5b": Size(tower=_SIGLIP_384, text=_ONEVISION_05B),
        "7b": Size(tower=_SIGLIP_384, text=_ONEVISION_7B),
        "72b": Size(tower=_SIGLIP_384, text=_QWEN2_72B),
    },
    "internvl": {
        "tiny": _tiny("qwen2"),
        "1b": Size(tower=_INTERNVIT_300M, text=_INTERNVL_05B),
        "2b": Size(tower=_INTERNVIT_300M, text=_INTERNLM_2B),
        "8b": Size(tower=_INTERNVIT_300M, text=_INTERNLM_8B),
        "3-2b": Size(tower=_INTERNVIT_300M, text=_INTERNVL3_2B),
        "3-8b": Size(tower=_INTERNVIT_300M, text=_INTERNVL3_8B),
        "26b": Size(tower=_INTERNVIT_6B, text=_INTERNLM_20B),
    },
    "qwen2_vl": {
        "tiny": _tiny("qwen2_vl_text"),
        "2b": Size(tower=_QWEN_VIT, text=_QWEN2_2B),
        "7b": Size(tower=_QWEN_VIT, text=_QWEN2_7B),
    },
    "qwen2_5_vl": {
        "tiny": _tiny("qwen2_5_vl_text"),
        "3b": Size(tower=_QWEN25_VIT, text=_QWEN25_3B),
        "7b": Size(tower=_QWEN25_VIT, text=_QWEN25_7B),
    },
}
"""Family -> size -> dimensions."""

SHAPES: dict[str, Shape] = {
    "llava": Shape(image_tokens=576),
    "llava_next": Shape(image_tokens=5 * 576 + 2 * 24),
    "video_llava": Shape(image_tokens=8 * 257, towers=2),
    "llava_onevision": Shape(image_tokens=10 * 729 + 6 * 27),
    "internvl": Shape(image_tokens=13 * 256, group=4),
    "qwen2_vl": Shape(image_tokens=1280, group=4, square=True),
    "qwen2_5_vl": Shape(image_tokens=1280, group=4, square=True, gated=True),
}
"""Family -> shape."""
