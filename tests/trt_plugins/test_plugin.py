"""The plugin's classes on the real TensorRT-RTX, as far as they go without a device.

That a graph's selection becomes the plugin is tested where engines are built.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vtp.trt_plugins import plugin
from vtp.trt_plugins.topk_tokens import DOMAIN, OP_TYPE, VERSION

trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx-cu13")


@pytest.fixture(scope="module")
def made() -> Any:
    """A plugin, from the creator that is registered."""
    plugin.register(trt)
    registry = trt.get_plugin_registry()
    creator = registry.get_creator(OP_TYPE, VERSION, DOMAIN)
    assert creator is not None
    return creator.create_plugin("here", trt.PluginFieldCollection([]), trt.TensorRTPhase.BUILD)


def test_registering_twice_is_registering_once() -> None:
    plugin.register(trt)
    first = plugin._registered[trt.__name__]
    plugin.register(trt)
    assert plugin._registered[trt.__name__] is first


def test_the_plugin_bears_the_nodes_names(made: Any) -> None:
    assert (made.plugin_name, made.plugin_version) == (OP_TYPE, VERSION)
    assert made.plugin_namespace == DOMAIN
    assert made.num_outputs == 2
    copy = made.clone()
    assert copy is not made
    assert copy.plugin_name == OP_TYPE


def ends(*types: Any, form: Any = None) -> list[Any]:
    """Descriptions of inputs and outputs, as TensorRT passes them."""
    linear = trt.TensorFormat.LINEAR if form is None else form
    return [SimpleNamespace(desc=SimpleNamespace(type=kind, format=linear)) for kind in types]


@pytest.mark.parametrize("tokens", ["FLOAT", "HALF", "BF16"])
def test_tokens_of_three_types_are_taken(made: Any, tokens: str) -> None:
    kind = getattr(trt.DataType, tokens)
    right = ends(kind, trt.DataType.FLOAT, kind, trt.DataType.INT64)
    assert all(made.supports_format_combination(place, right, 2) for place in range(4))
    assert made.get_output_data_types([kind, trt.DataType.FLOAT]) == [kind, trt.DataType.INT64]


@pytest.mark.parametrize(
    ("place", "kind"), [(0, "INT32"), (1, "HALF"), (2, "HALF"), (3, "INT32"), (0, "INT8")]
)
def test_other_types_are_not(made: Any, place: int, kind: str) -> None:
    wrong = ["FLOAT", "FLOAT", "FLOAT", "INT64"]
    wrong[place] = kind
    described = ends(*(getattr(trt.DataType, name) for name in wrong))
    assert not made.supports_format_combination(place, described, 2)


def test_only_the_plain_layout_is_taken(made: Any) -> None:
    kinds = (trt.DataType.HALF, trt.DataType.FLOAT, trt.DataType.HALF, trt.DataType.INT64)
    described = ends(*kinds, form=trt.TensorFormat.CHW32)
    assert not any(made.supports_format_combination(place, described, 2) for place in range(4))


def test_the_launch_gets_what_tensorrt_passes(made: Any) -> None:
    """``enqueue`` with the descriptions of a call: what reaches the kernel."""
    called: dict[str, Any] = {}
    working = made.clone()
    working._kernel = SimpleNamespace(
        launch=lambda *addresses, **sizes: called.update(addresses=addresses, **sizes)
    )
    described = [
        SimpleNamespace(dims=trt.Dims([2, 576, 1024]), type=trt.DataType.HALF),
        SimpleNamespace(dims=trt.Dims([2, 576]), type=trt.DataType.FLOAT),
    ]
    kept = [
        SimpleNamespace(dims=trt.Dims([2, 58, 1024]), type=trt.DataType.HALF),
        SimpleNamespace(dims=trt.Dims([2, 58]), type=trt.DataType.INT64),
    ]
    working.enqueue(described, kept, [11, 12], [13, 14], 0, 15)
    assert called == {
        "addresses": (11, 12, 13, 14),
        "batch": 2,
        "n": 576,
        "k": 58,
        "row_bytes": 2048,
        "stream": 15,
    }
