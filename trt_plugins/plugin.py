"""``vtp::TopKTokens`` as a TensorRT plugin, in Python.

The classes are made on whichever library is given (``tensorrt`` or ``tensorrt_rtx``): TensorRT 10.0
to 11, and TensorRT-RTX through its ONNX parser. ``keep`` is a shape input, so that the sizes of the
outputs are known before the run. The kernel is in ``kernel``; ``launch`` starts it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from .topk_tokens import DOMAIN, OP_TYPE, VERSION

_registered: dict[str, Any] = {}
"""Creators by name of the library's module: the registry holds no reference to them."""


def register(trt: Any) -> None:
    """Make the plugin known to a library, once in a process.

    Args:
        trt: the module ``tensorrt`` or ``tensorrt_rtx``.
    """
    if trt.__name__ in _registered:
        return
    creator = _creator_class(trt, _plugin_class(trt))()
    registry = trt.get_plugin_registry()
    registry.register_creator(creator, DOMAIN)
    _registered[trt.__name__] = creator


@cache
def _kernel() -> Any:
    """The kernel on the current device, shared by all nodes."""
    from .launch import TopKTokensKernel

    return TopKTokensKernel()


def _plugin_class(trt: Any) -> Any:
    bases = (
        trt.IPluginV3,
        trt.IPluginV3OneCore,
        trt.IPluginV3OneBuild,
        trt.IPluginV3OneRuntime,
    )
    tokens_types = (trt.DataType.FLOAT, trt.DataType.HALF, trt.DataType.BF16)

    class TopKTokens(*bases):  # type: ignore[misc]
        """Inputs tokens ``(batch, n, dim)`` and scores ``(batch, n)`` float32; shape input keep;
        outputs kept tokens ``(batch, keep, dim)`` and kept indices ``(batch, keep)`` int64."""

        def __init__(self) -> None:
            for base in bases:
                base.__init__(self)
            self.plugin_name = OP_TYPE
            self.plugin_namespace = DOMAIN
            self.plugin_version = VERSION
            self.num_outputs = 2
            self.timing_cache_id = ""
            self._kernel: Any = None

        def get_capability_interface(self, kind: Any) -> Any:
            return self

        def clone(self) -> Any:
            copy = TopKTokens()
            copy._kernel = self._kernel
            return copy

        def get_fields_to_serialize(self) -> Any:
            return trt.PluginFieldCollection([])

        def get_output_data_types(self, input_types: Any) -> list[Any]:
            return [input_types[0], trt.DataType.INT64]

        def get_output_shapes(self, inputs: Any, shape_inputs: Any, builder: Any) -> list[Any]:
            tokens, keep = inputs[0], shape_inputs[0][0]
            kept_tokens, kept = trt.DimsExprs(3), trt.DimsExprs(2)
            kept_tokens[0], kept_tokens[1], kept_tokens[2] = tokens[0], keep, tokens[2]
            kept[0], kept[1] = tokens[0], keep
            return [kept_tokens, kept]

        def supports_format_combination(self, place: int, ends: Any, inputs: int) -> bool:
            # keep, a shape input, is not among the ends: tokens, scores; kept tokens, kept.
            end = ends[place].desc
            if end.format != trt.TensorFormat.LINEAR:
                return False
            if place == 0:
                return end.type in tokens_types
            wanted = {1: trt.DataType.FLOAT, inputs: ends[0].desc.type}
            return bool(end.type == wanted.get(place, trt.DataType.INT64))

        def configure_plugin(self, inputs: Any, outputs: Any) -> None:
            pass

        def on_shape_change(self, inputs: Any, outputs: Any) -> None:
            pass

        def set_tactic(self, tactic: int) -> None:
            pass

        def get_valid_tactics(self) -> list[int]:
            return []

        def get_workspace_size(self, inputs: Any, outputs: Any) -> int:
            return 0

        def attach_to_context(self, context: Any) -> Any:
            copy = self.clone()
            copy._kernel = copy._kernel or _kernel()
            return copy

        def enqueue(
            self,
            input_desc: Any,
            output_desc: Any,
            inputs: Any,
            outputs: Any,
            workspace: int,
            stream: int,
        ) -> None:
            batch, n, dim = input_desc[0].dims
            itemsize = 4 if input_desc[0].type == trt.DataType.FLOAT else 2
            self._kernel.launch(
                inputs[0],
                inputs[1],
                outputs[0],
                outputs[1],
                batch=batch,
                n=n,
                k=output_desc[1].dims[1],
                row_bytes=dim * itemsize,
                stream=stream,
            )

    return TopKTokens


def _creator_class(trt: Any, plugin: Any) -> Any:
    class TopKTokensCreator(trt.IPluginCreatorV3One):
        """Makes the plugin for the parser and for engines that are loaded."""

        def __init__(self) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name = OP_TYPE
            self.plugin_namespace = DOMAIN
            self.plugin_version = VERSION
            self.field_names = trt.PluginFieldCollection([])

        def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
            return plugin()

    return TopKTokensCreator
