"""A GGUF file with the dimensions of a bundle's decoder and random Q4_0 weights, for llama.cpp.

Speed does not depend on the values: the numbers are drawn, only the scale is chosen, so that the
standard deviation is the one that transformers initialises with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..runtime.bundle.manifest import LanguageRecord

BLOCK, BLOCK_BYTES = 32, 18
"""Q4_0: a float16 scale, then 32 numbers of four bits."""
_DEVIATION = 0.02
_NUMBERS_DEVIATION = 4.61
"""Of whole numbers that are equally often -8 .. 7."""


def write_gguf(path: Path, language: LanguageRecord) -> Path:
    """Write the file unless it is there; returns ``path``."""
    if path.is_file():
        return path
    import gguf

    writer = gguf.GGUFWriter(path.with_suffix(".part"), "llama")
    writer.add_context_length(language.context)
    writer.add_embedding_length(language.width)
    writer.add_block_count(language.layers)
    writer.add_feed_forward_length(language.inner)
    writer.add_head_count(language.heads)
    writer.add_head_count_kv(language.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(language.head_dim)
    writer.add_vocab_size(language.vocab)
    writer.add_tokenizer_model("none")
    random = np.random.default_rng(0)
    for name, outputs, inputs in _matrices(language):
        rows = _random_blocks(random, outputs, inputs)
        writer.add_tensor(name, rows, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    ones = np.ones(language.width, np.float32)
    for layer in range(language.layers):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
    writer.add_tensor("output_norm.weight", ones)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".part").rename(path)
    return path


def _matrices(language: LanguageRecord) -> list[tuple[str, int, int]]:
    """llama.cpp's name, outputs and inputs of every matrix."""
    width, inner = language.width, language.inner
    heads, kv_heads = (n * language.head_dim for n in (language.heads, language.kv_heads))
    found = [("token_embd", language.vocab, width), ("output", language.vocab, width)]
    for layer in range(language.layers):
        for name, outputs, inputs in (
            ("attn_q", heads, width),
            ("attn_k", kv_heads, width),
            ("attn_v", kv_heads, width),
            ("attn_output", width, heads),
            ("ffn_gate", inner, width),
            ("ffn_up", inner, width),
            ("ffn_down", width, inner),
        ):
            found.append((f"blk.{layer}.{name}", outputs, inputs))
    return [(f"{name}.weight", outputs, inputs) for name, outputs, inputs in found]


def _random_blocks(random: np.random.Generator, outputs: int, inputs: int) -> np.ndarray:
    blocks = random.integers(0, 256, (outputs, inputs // BLOCK, BLOCK_BYTES), dtype=np.uint8)
    scale = np.array([_DEVIATION / _NUMBERS_DEVIATION], np.float16)
    blocks[:, :, :2] = scale.view(np.uint8)
    return blocks.reshape(outputs, -1)
