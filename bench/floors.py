"""The least time that the arithmetic and the memory of this machine allow.

A multiply-add counts as two operations. For a stack of transformer layers over ``n`` tokens::

    matrices  = 2 * n * (weights of the linear layers)
    attention = 4 * n * n * heads * head_dim           QK^T and PV, not causal (tower)
              = 2 * n * (n + 1) * heads * head_dim     causal (decoder): row i sees i + 1 keys

Tower: the layers up to the feature layer, the patch convolution as a matrix of
``3 * patch^2 * width`` weights, and the projector over the kept tokens. Prefill: the decoder's
layers over all tokens, the head over one. ``floor = operations / matrix rate``.

Decode reads every weight of the layers and of the head once for each token, and the filled rows of
the cache, 4 bytes each: ``floor = bytes / bandwidth``.

The matrix rate is the best that torch, numpy or ONNX Runtime reach on any of the model's own
matrix products; the bandwidth is the best of reading a large array in several ways; both with the
threads of the comparison.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

_READ_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Work:
    """Operations and bytes of a model, counted from its configuration (transformers' names)."""

    config: Any

    def vision(self, keep: int) -> float:
        """Operations of tower and projector, ``keep`` tokens projected."""
        tower, text = self.config.vision_config, self.config.text_config
        width, n = tower.hidden_size, self._patches() + 1
        depth = self.config.vision_feature_layer
        layers = depth if depth >= 0 else tower.num_hidden_layers + 1 + depth
        weights = layers * (4 * width * width + 2 * width * tower.intermediate_size)
        patches = 2 * self._patches() * 3 * tower.patch_size**2 * width
        attention = layers * 4 * n * n * width
        projector = 2 * keep * (width * text.hidden_size + text.hidden_size**2)
        return float(2 * n * weights + patches + attention + projector)

    def prefill(self, tokens: int) -> float:
        """Operations of the decoder over a prompt."""
        text = self.config.text_config
        heads = text.num_attention_heads * self._head_dim()
        attention = 2 * tokens * (tokens + 1) * heads * text.num_hidden_layers
        head = text.hidden_size * text.vocab_size
        return float(2 * tokens * self._layer_weights() + attention + 2 * head)

    def decode_bytes(self, filled: float) -> float:
        """Bytes that one decoded token reads with ``filled`` rows in the cache."""
        text = self.config.text_config
        head = text.hidden_size * text.vocab_size
        rows = 2 * filled * text.num_key_value_heads * self._head_dim() * text.num_hidden_layers
        return 4.0 * (self._layer_weights() + head + rows)

    def products(self, tokens: int) -> list[tuple[int, int, int]]:
        """``(m, k, n)`` of the model's matrix products with the most work."""
        tower, text = self.config.vision_config, self.config.text_config
        rows, width, inner = self._patches() + 1, text.hidden_size, text.intermediate_size
        return [
            (rows, tower.hidden_size, tower.intermediate_size),
            (rows, tower.intermediate_size, tower.hidden_size),
            (tokens, width, inner),
            (tokens, inner, width),
        ]

    def _patches(self) -> int:
        tower = self.config.vision_config
        return int(tower.image_size // tower.patch_size) ** 2

    def _head_dim(self) -> int:
        text = self.config.text_config
        return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)

    def _layer_weights(self) -> int:
        text, dim = self.config.text_config, self._head_dim()
        attention = 2 * text.num_attention_heads * dim + 2 * text.num_key_value_heads * dim
        layer = text.hidden_size * (attention + 3 * text.intermediate_size)
        return int(layer * text.num_hidden_layers)


def matrix_rate(products: list[tuple[int, int, int]], threads: int) -> tuple[float, str]:
    """Best operations per second over the given products, and who reached it on which."""
    import torch

    torch.set_num_threads(threads)
    best, by = 0.0, ""
    random = np.random.default_rng(0)
    for m, k, n in products:
        a = random.standard_normal((m, k), dtype=np.float32)
        b = random.standard_normal((k, n), dtype=np.float32)
        ta, tb = torch.from_numpy(a), torch.from_numpy(b)
        session = _matmul_session(b, threads)
        ways = {
            "torch": lambda x=ta, y=tb: torch.mm(x, y),
            "torch linear": lambda x=ta, y=tb.T.contiguous(): torch.nn.functional.linear(x, y),
            "onnxruntime": lambda x=a, s=session: s.run(None, {"x": x}),
        }
        for name, call in ways.items():
            rate = 2.0 * m * k * n / _best_seconds(call)
            if rate > best:
                best, by = rate, f"{name}, {m}x{k}x{n}"
    return best, by


def bandwidth(threads: int) -> tuple[float, str]:
    """Best bytes per second of reading a large array, and how."""
    import torch

    torch.set_num_threads(threads)
    data = np.ones(_READ_BYTES // 4, dtype=np.float32)
    parts = np.array_split(data.view(np.int64), threads)
    square = torch.from_numpy(data).view(-1, 4096)
    vector = torch.ones(4096)
    with ThreadPoolExecutor(threads) as pool:
        ways = {
            "numpy maximum": lambda: list(pool.map(np.max, parts)),
            "torch sum": square.sum,
            "torch matrix times vector": lambda: torch.mv(square, vector),
        }
        rates = {name: _READ_BYTES / _best_seconds(call) for name, call in ways.items()}
    best = max(rates, key=lambda name: rates[name])
    return rates[best], best


def _best_seconds(call: Any, repeat: int = 7) -> float:
    call()
    times = []
    for _ in range(repeat):
        started = perf_counter()
        call()
        times.append(perf_counter() - started)
    return min(times)


def _matmul_session(weight: np.ndarray, threads: int) -> Any:
    """ONNX Runtime on one product with a constant right side."""
    import onnx_ir as ir
    import onnxruntime

    x = ir.val("x", ir.DataType.FLOAT, ["m", weight.shape[0]])
    w = ir.val("w", const_value=ir.tensor(weight, name="w"))
    node = ir.node("MatMul", [x, w])
    node.outputs[0].name = "y"
    node.outputs[0].dtype = ir.DataType.FLOAT
    graph = ir.Graph(
        [x], list(node.outputs), nodes=[node], initializers=[w], opset_imports={"": 21}, name="mm"
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
