"""What a model's generation_config.json asks for, as far as the runtime does it.

A null, or a missing entry, means what transformers means by it
(``GenerationConfig._get_default_generation_params``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelNotSupported
from ...runtime.bundle.manifest import GenerationDefaults

_MAX_NEW_TOKENS = 128
_SAMPLED_TOP_K = 50
"""What transformers samples from where ``top_k`` is not said."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "min_p": (0, 0.0),
    "top_h": (),
    "typical_p": (1, 1.0),
    "epsilon_cutoff": (0, 0.0),
    "eta_cutoff": (0, 0.0),
    "no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1, 1.0),
    "bad_words_ids": ([],),
    "sequence_bias": ({}, []),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "guidance_scale": (1, 1.0),
    "penalty_alpha": (0, 0.0),
}
"""Settings that change which token comes next and are not done here -> values that change nothing;
null is one of each."""


def generation_defaults(
    found: Mapping[str, Any], eos_of_model: Any, eos_of_tokenizer: Any
) -> GenerationDefaults:
    """The defaults of a bundle.

    Args:
        found: the contents of generation_config.json; empty where there is none.
        eos_of_model: ``eos_token_id`` of the configuration, used where the file has none.
        eos_of_tokenizer: that of the tokenizer, used where neither has one.

    Raises:
        ModelNotSupported: an entry of a wrong type or out of range.
    """
    eos = found.get("eos_token_id")
    eos = eos_of_model if eos is None else eos
    eos = eos_of_tokenizer if eos is None else eos
    ids = eos if isinstance(eos, list) else [eos]
    if not ids or not all(type(token) is int for token in ids):
        raise ModelNotSupported(f"eos_token_id {eos!r}", ["a token id, or a list of them"])
    sample = bool(found.get("do_sample"))
    top_k = _number(found, "top_k", _SAMPLED_TOP_K if sample else 0, whole=True)
    return GenerationDefaults(
        max_new_tokens=int(_number(found, "max_new_tokens", _MAX_NEW_TOKENS, whole=True))
        or _MAX_NEW_TOKENS,
        temperature=_number(found, "temperature", 1.0) if sample else 0.0,
        top_p=(_number(found, "top_p", 1.0) or 1.0) if sample else 1.0,
        top_k=int(top_k) or None,
        repetition_penalty=_number(found, "repetition_penalty", 1.0) or 1.0,
        eos=tuple(ids),
    )


def ignored_settings(found: Mapping[str, Any]) -> list[str]:
    """Settings of generation_config.json that the runtime does not do, as ``name=value``."""
    return [
        f"{name}={found[name]!r}"
        for name, neutral in _NEUTRAL.items()
        if found.get(name) is not None and found[name] not in neutral
    ]


def _number(found: Mapping[str, Any], name: str, default: float, whole: bool = False) -> float:
    value = found.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ModelNotSupported(f"{name} {value!r} of generation_config.json", ["a number"])
    if value < 0:
        raise ModelNotSupported(f"{name} {value!r} of generation_config.json", ["0 or more"])
    return value
