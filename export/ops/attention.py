"""The bridge from transformers' attention registry to the attention of a wrapper module.

transformers calls whatever attention function a model's ``_attn_implementation`` names. While a
graph is traced that name is ``"vtp"``, and the function below hands query, key and value to the
context that the wrapper module passed down with the layer call. So Hugging Face modelling code
runs as it is: it is neither copied nor patched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from transformers import AttentionInterface

IMPLEMENTATION = "vtp"


class AttentionContext(Protocol):
    """What a wrapper module passes as ``vtp=...`` to every layer it runs."""

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """Attention output ``(batch, tokens, heads, head_dim)``.

        Args:
            module: the attention module of the layer.
            query: ``(batch, heads, tokens, head_dim)``, positions applied.
            key: ``(batch, kv_heads, tokens, head_dim)``, positions applied.
            value: like key.
            scale: factor on the dot products.
        """
        ...


_around: ContextVar[AttentionContext] = ContextVar("vtp_attention")


@contextmanager
def attention_by(context: AttentionContext) -> Iterator[None]:
    """The context within, for modelling code that does not pass ``vtp=...`` on to its attention."""
    token = _around.set(context)
    try:
        yield
    finally:
        _around.reset(token)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,  # noqa: ARG001 - some models name it
    *,
    vtp: AttentionContext | None = None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    context = _around.get() if vtp is None else vtp
    return context.attend(module, query, key, value, float(scale)), None


def use_traced_attention(model: Any) -> None:
    """Let ``model`` (a transformers model) call the context of its caller for attention."""
    AttentionInterface.register(IMPLEMENTATION, _attention)
    model.set_attn_implementation(IMPLEMENTATION)
