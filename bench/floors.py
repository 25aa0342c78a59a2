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

The matrix rate is the best that torch or ONNX Runtime reach on any of the model's own matrix
products; the bandwidth is the best of reading 1 GiB in several ways; both with the threads of the
comparison, measured between its repetitions, because on a shared machine they drift.
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


class Machine:
    """What the machine does at most, measured again in every repetition; the best counts.

    Args:
        products: ``(m, k, n)`` of the products to try.
        threads: CPU threads.
    """

    def __init__(self, products: list[tuple[int, int, int]], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.matrix: dict[str, list[float]] = {}
        """Operations per second of each library, the best product of each measurement."""
        self.read: dict[str, list[float]] = {}
        """Bytes per second of each way to read, one for each measurement."""
        self._products = [(2.0 * m * k * n, _ways(m, k, n, threads)) for m, k, n in products]
        data = np.ones(_READ_BYTES // 4, dtype=np.float32)
        parts = np.array_split(data.view(np.int64), threads)
        square, vector = torch.from_numpy(data).view(-1, 4096), torch.ones(4096)
        self._pool = ThreadPoolExecutor(threads)
        self._reads = {
            "numpy maximum": lambda: list(self._pool.map(np.max, parts)),
            "torch sum": square.sum,
            "torch matrix times vector": lambda: torch.mv(square, vector),
        }

    def measure(self) -> None:
        """One more measurement of everything."""
        best: dict[str, float] = {}
        for operations, ways in self._products:
            for name, call in ways.items():
                best[name] = max(best.get(name, 0.0), operations / _best_seconds(call))
        for name, rate in best.items():
            self.matrix.setdefault(name, []).append(rate)
        for name, call in self._reads.items():
            self.read.setdefault(name, []).append(_READ_BYTES / _best_seconds(call))

    @property
    def matrix_rate(self) -> float:
        """Best operations per second."""
        return max(max(rates) for rates in self.matrix.values())

    @property
    def bandwidth(self) -> float:
        """Best bytes per second."""
        return max(max(rates) for rates in self.read.values())


def _ways(m: int, k: int, n: int, threads: int) -> dict[str, Any]:
    import torch

    random = np.random.default_rng(0)
    a = random.standard_normal((m, k), dtype=np.float32)
    b = random.standard_normal((k, n), dtype=np.float32)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    turned = y.T.contiguous()
    session = _matmul_session(b, threads)
    return {
        "torch mm": lambda: torch.mm(x, y),
        "torch linear": lambda: torch.nn.functional.linear(x, turned),
        "onnxruntime MatMul": lambda: session.run(None, {"x": a}),
    }


def _best_seconds(call: Any, repeat: int = 3) -> float:
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
