"""The KV cache: one part for each language stage, as long as what that stage reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .engines.base import Buffer, Engine
from .manifest import LanguageRecord
from .plan import Stage


class StageCache:
    """Keys and values of a stage's layers, allocated once and updated in place."""

    def __init__(
        self, engine: Engine, language: LanguageRecord, stage: Stage, capacity: int
    ) -> None:
        self.capacity = capacity
        self.length = 0
        """Tokens that it holds."""
        shape = (1, language.kv_heads, capacity, language.head_dim)
        self.inputs: dict[str, Buffer] = {}
        self.outputs: dict[str, Buffer] = {}
        for layer in range(stage.layers):
            for kind in ("key", "value"):
                # The same memory is read as past and written as present.
                buffer = engine.buffer(shape, "float32")
                # The standard operator reads unfilled rows before it masks them: no stray NaN.
                buffer.write(np.zeros((), np.float32))
                self.inputs[f"past_key_values.{layer}.{kind}"] = buffer
                self.outputs[f"present.{layer}.{kind}"] = buffer
        self.last_keys = self.inputs[f"past_key_values.{stage.layers - 1}.key"]
        """Key cache of the stage's last layer."""
        self.nbytes = sum(b.dtype.itemsize * int(np.prod(b.shape)) for b in self.inputs.values())


class KVCache:
    """The caches of all stages of one conversation.

    Args:
        engine: whose memory it is.
        language: sizes of the decoder.
        stages: the language stages.
        capacities: most tokens that each will hold.
    """

    def __init__(
        self,
        engine: Engine,
        language: LanguageRecord,
        stages: Sequence[Stage],
        capacities: Sequence[int],
    ) -> None:
        self.stages = [
            StageCache(engine, language, stage, capacity)
            for stage, capacity in zip(stages, capacities, strict=True)
        ]
        self.position = 0
        """Number of the next token, where tokens are not numbered stage by stage."""

    @property
    def length(self) -> int:
        """Tokens in the first stage: the conversation as the decoder read it."""
        return self.stages[0].length

    @property
    def nbytes(self) -> int:
        """Size of all caches."""
        return sum(stage.nbytes for stage in self.stages)
