"""The KV cache is sized to what is kept, and updated in place."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vtp
from vtp.runtime.splice import splice


@pytest.fixture(params=["ort", "onnx"])
def pipeline(request: pytest.FixtureRequest, exported: Callable[..., Path]) -> vtp.Pipeline:
    return vtp.load(exported("grouped-query"), target=request.param)


def test_a_step_writes_its_rows_and_no_others(pipeline: vtp.Pipeline) -> None:
    decoder = pipeline.decoder
    cache = decoder.cache(12)
    marked = cache.stages[0].inputs["past_key_values.1.key"]
    marked.read()[...] = 7.0
    prompt = splice(decoder, [5, 6, 7], image_token=-1, images=None)
    decoder.prefill(prompt, cache)
    after_prefill = marked.read().copy()
    assert np.all(after_prefill[:, :, 3:] == 7.0)
    assert not np.any(after_prefill[:, :, :3] == 7.0)
    decoder.decode(cache).step(9)
    after_step = marked.read()
    np.testing.assert_array_equal(after_step[:, :, :3], after_prefill[:, :, :3])
    assert not np.any(after_step[:, :, 3] == 7.0)
    assert np.all(after_step[:, :, 4:] == 7.0)
    assert cache.length == 4


def test_past_and_present_are_one_buffer(pipeline: vtp.Pipeline) -> None:
    cache = pipeline.decoder.cache(8).stages[0]
    for name, buffer in cache.inputs.items():
        _, layer, kind = name.split(".")
        assert cache.outputs[f"present.{layer}.{kind}"] is buffer


def test_a_run_keeps_its_buffers(pipeline: vtp.Pipeline) -> None:
    # The engine's binding holds addresses only.
    decoder = pipeline.decoder
    cache = decoder.cache(4)
    embeds = decoder.engine.buffer((1, 1, decoder.language.width), "float32")
    held = weakref.ref(embeds)
    number = {"position_ids": np.zeros((1, 1)), "write_index": np.zeros(1)}
    inputs = {name: decoder.filled(values.astype(np.int64)) for name, values in number.items()}
    logits = decoder.engine.buffer((1, decoder.language.vocab), "float32")
    run = decoder.graphs[0].bind(
        {"inputs_embeds": embeds, **inputs, **cache.stages[0].inputs},
        {"logits": logits, **cache.stages[0].outputs},
    )
    del embeds, inputs
    gc.collect()
    assert held() is not None
    run()
    del run
    gc.collect()
    assert held() is None


def test_capacity_is_kept_tokens_text_and_new_tokens(pipeline: vtp.Pipeline) -> None:
    image = Image.new("RGB", (48, 48))
    language = pipeline.bundle.manifest.language
    sizes = {}
    for keep in (1.0, 0.25, 2):
        result = pipeline.generate(image, "describe the picture.", keep=keep, max_new_tokens=5)
        rows = result.prompt_tokens + 5 - 1
        assert result.cache_bytes == rows * language.kv_bytes_per_token()
        sizes[keep] = result.cache_bytes
    assert sizes[1.0] - sizes[0.25] == (144 - 36) * language.kv_bytes_per_token()
    assert sizes[1.0] - sizes[2] == 142 * language.kv_bytes_per_token()


def test_the_embedding_table_is_mapped_not_loaded(pipeline: vtp.Pipeline) -> None:
    table = pipeline.bundle.embedding_table()
    assert isinstance(table, np.memmap)
    rows = pipeline.decoder.embed(np.array([3, 0, 3]))
    np.testing.assert_array_equal(rows, np.asarray(table)[[3, 0, 3]])
