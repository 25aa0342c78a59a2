"""Checkpoints whose weights are quantized already: what their config.json says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import QuantizedModel

_NAMES = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "fp8": "FP8 with scales",
    "fbgemm_fp8": "FP8 with scales",
    "modelopt": "ModelOpt",
    "torchao": "torchao",
}
_KEYS = ("quantization_config", "compression_config", "quantization")


def check_quantized(config: Mapping[str, Any]) -> None:
    """Refuse the contents of a config.json that tells of quantized weights, in any of its parts.

    Raises:
        QuantizedModel: saying how they are quantized.
    """
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        for key in _KEYS:
            found = part.get(key)
            if isinstance(found, Mapping):
                raise QuantizedModel(_show(found, key), _base_model(config))


def _show(found: Mapping[str, Any], key: str) -> str:
    method = str(found.get("quant_method") or found.get("quant_algo") or key)
    bits = found.get("bits", found.get("w_bit"))
    for flag, number in (("load_in_4bit", 4), ("load_in_8bit", 8)):
        if found.get(flag):
            bits = number
            method = "bitsandbytes"
    name = _NAMES.get(method, method)
    return f"{name}, {bits} bits" if isinstance(bits, int) else name


def _base_model(config: Mapping[str, Any]) -> str:
    """``, such as org/name``, where the configuration still names it."""
    name = config.get("_name_or_path")
    return f", such as {name}" if re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)) else ""
