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
from vtp.runtime.model.cache import CachedRun, StageCache
from vtp.runtime.model.splice import splice


@pytest.fixture(params=["ort", "onnx", "trt10"])
def pipeline(request: pytest.FixtureRequest, exported: Callable[..., Path]) -> vtp.Pipeline:
    return vtp.load(exported("grouped-query"), target=request.param)


def rows_of(cache: StageCache) -> np.ndarray:
    """All rows of one layer's keys ``(capacity, kv_heads * head_dim)``, as they lie in memory."""
    whole = cache._buffers[1, "key"].read()[0]
    by_row = whole if cache.appended else whole.swapaxes(0, 1)
    return by_row.reshape(cache.capacity, -1)


def test_a_step_writes_its_rows_and_no_others(pipeline: vtp.Pipeline) -> None:
    decoder = pipeline.decoder
    cache = decoder.cache(12)
    stage = cache.stages[0]
    stage._buffers[1, "key"].write(np.float32(7.0))
    prompt = splice(decoder, [5, 6, 7], [])
    decoder.prefill(prompt, cache)
    after_prefill = rows_of(stage).copy()
    assert np.all(after_prefill[3:] == 7.0)
    assert not np.any(after_prefill[:3] == 7.0)
    decoder.decode(cache).step(9)
    after_step = rows_of(stage)
    np.testing.assert_array_equal(after_step[:3], after_prefill[:3])
    assert not np.any(after_step[3] == 7.0)
    assert np.all(after_step[4:] == 7.0)
    assert cache.length == 4


def test_past_and_present_are_one_memory(pipeline: vtp.Pipeline) -> None:
    cache = pipeline.decoder.cache(8).stages[0]
    cache.length = 3
    for name, past in cache.inputs().items():
        present = cache.outputs(2)[name.replace("past_key_values", "present")]
        if cache.appended:
            assert (past.shape[1], present.shape[1]) == (3, 2)
            # What is written stands right behind what is read.
            assert present.read().ctypes.data == past.read().ctypes.data + past.read().nbytes
        else:
            assert present is past


def test_a_run_keeps_its_buffers(pipeline: vtp.Pipeline) -> None:
    # The engine's binding holds addresses only.
    decoder = pipeline.decoder
    cache = decoder.cache(4)
    embeds = decoder.engine.buffer((1, 1, decoder.language.width), "float32")
    held = weakref.ref(embeds)
    positions = decoder.filled(np.zeros((1, 1), np.int64))
    logits = decoder.engine.buffer((1, decoder.language.vocab), "float32")
    inputs = {"inputs_embeds": embeds, "position_ids": positions}
    run = CachedRun(decoder.graphs[0], cache.stages[0], 1, inputs, {"logits": logits})
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
