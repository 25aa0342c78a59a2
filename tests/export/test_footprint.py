"""What a published model needs, against the library's own model of the same configuration."""

from __future__ import annotations

import pytest

from vtp.export.source.footprint import RUNTIME_BYTES, TEXT_TOKENS, footprint
from vtp.export.source.presets import PRESETS
from vtp.samples.checkpoints.families import FAMILIES
from vtp.samples.checkpoints.sizes import SIZES
from vtp.samples.make_checkpoint import empty_model

PUBLISHED = sorted({preset.size for preset in PRESETS.values() if preset.size})


@pytest.mark.parametrize(("family", "size"), PUBLISHED)
def test_weights_are_those_of_the_library_within_a_hundredth(family: str, size: str) -> None:
    model = empty_model(FAMILIES[family], SIZES[family][size], "float16")
    whole = sum(tensor.numel() for tensor in model.parameters())
    found = footprint(family, size)
    assert found.weight_bytes("float16") == pytest.approx(2 * whole, rel=0.01)
    assert found.weight_bytes("float32") == pytest.approx(4 * whole, rel=0.01)
    text = model.config.text_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kv = 2 * text.num_hidden_layers * text.num_key_value_heads * head * 2
    assert found.kv_bytes == kv


def test_every_large_preset_has_a_size() -> None:
    assert {name for name, preset in PRESETS.items() if preset.size is None} == {
        "tiny",
        "tiny-guide",
    }


def test_the_largest_keep_is_what_the_room_allows() -> None:
    found = footprint("llava", "7b")
    least = found.weight_bytes("int4") + RUNTIME_BYTES + found.kv_bytes * TEXT_TOKENS
    assert found.largest_keep("int4", least) is None
    half = found.needs("int4", 0.5)
    assert found.largest_keep("int4", half) == pytest.approx(0.5)
    assert found.largest_keep("int4", 10 * half) == 1.0
    assert found.weight_bytes("int4") < found.weight_bytes("int8") < found.weight_bytes("float16")
