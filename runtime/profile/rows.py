"""The document as tables: titles with rows, for a terminal, CSV or Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .groups import GROUPS, grouped

Rows = list[dict[str, Any]]
_OPERATORS_SHOWN = 6


def sections(document: Mapping[str, Any]) -> dict[str, Rows]:
    """Title -> rows; empty where nothing is known."""
    work = document["workload"]
    asked = (
        f"{work['image_tokens']} image + {work['text_tokens']} text tokens, "
        f"{work['new_tokens']} new, {work['rounds']} rounds"
    )
    engine = document["engine"]["versions"]
    points = [*document["keeps"], document["text_only"]]
    return {
        f"medians ({engine}; {asked})": [_summary(row) for row in document["keeps"]],
        f"phases, ms, medians ({work['phase_clock']} clock)": [_phases(row) for row in points],
        "statistics": [
            _statistics(row["keep"], name, numbers)
            for row in points
            for name, numbers in (*row["metrics"].items(), *row["phases"].items())
        ],
        "stages": [
            {"keep": row["keep"], **stage} for row in document["keeps"] for stage in row["stages"]
        ],
        "energy per request": [
            {"keep": row["keep"], **meter} for row in points for meter in row["energy"]
        ],
        "machine during the run": [_sensor(row) for row in document["sensors"]],
        "longest operators of each phase (profiler of the engine, separate run)": (
            _operators(document)
        ),
        "absent": [{"what": k, "why": v} for k, v in document["absent"].items()],
        "ceiling": [{"in words": text} for text in document["ceiling"]["sentences"]],
        "warnings": [{"in words": text} for text in document["warnings"]],
    }


def short_sections(document: Mapping[str, Any]) -> dict[str, Rows]:
    """What a person looks at first: without the long table of statistics."""
    found = sections(document)
    found["statistics"] = [
        row for row in found["statistics"] if row["metric"] == "time_to_first_token"
    ]
    return found


def _summary(row: Mapping[str, Any]) -> dict[str, Any]:
    metrics = row["metrics"]
    first, whole = metrics["time_to_first_token"], metrics["request_latency"]
    per_token = metrics.get("time_per_output_token")
    peak, device = row["peak_host_bytes"], row["device_bytes"]
    return {
        "keep": row["keep"],
        "image tokens": f"{row['average_image_tokens']:.5g}",
        "TTFT ms": _ms(first["p50"]),
        "TTFT faster": _times(first["speedup"]),
        "TPOT ms": None if per_token is None else _ms(per_token["p50"]),
        "end to end ms": _ms(whole["p50"]),
        "end to end speedup": _times(whole["speedup"]),
        "KV bytes": f"{row['kv_bytes']:,}",
        "host peak MiB": None if peak is None else f"{peak / 2**20:.0f}",
        "device MiB": None if device is None else f"{device / 2**20:.0f}",
    }


def _phases(row: Mapping[str, Any]) -> dict[str, Any]:
    found = grouped(row)
    selection = row["selection_in_vision_ms"]
    cells = {name: _ms(found[key]) if key in found else "" for key, (name, _) in GROUPS.items()}
    parts = {phase: numbers for phase, numbers in row["phases"].items() if "." in phase}
    if len(parts) > 1:
        cells |= {phase: _ms(numbers["p50"]) for phase, numbers in parts.items()}
    return {
        "keep": row["keep"],
        **cells,
        "sum": _ms(row["phase_sum_ms"]),
        "end to end": _ms(row["metrics"]["request_latency"]["p50"]),
        "selection in vision (profiler)": None if selection is None else _ms(selection),
    }


def _statistics(keep: str, name: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    ends = numbers.get("p50_interval")
    shown = ("avg", "min", "max", "p50", "p90", "p95", "p99", "std")
    return {
        "keep": keep,
        "metric": name,
        "unit": numbers["unit"],
        **{key: None if numbers[key] is None else _ms(numbers[key]) for key in shown},
        "count": numbers["count"],
        "p50 interval": None if ends is None else f"{_ms(ends[0])} to {_ms(ends[1])}",
    }


def _sensor(row: Mapping[str, Any]) -> dict[str, Any]:
    value = ", ".join(row["said"]) if "said" in row else ""
    if "rose" in row:
        value = f"rose by {row['rose']:g}"
    elif "avg" in row:
        value = f"{row['avg']:.4g} ({row['min']:.4g} to {row['max']:.4g})"
    return {
        "quantity": row["quantity"],
        "of": row["name"],
        "value": value,
        "unit": row["unit"],
        "sensor": row["sensor"],
    }


def _operators(document: Mapping[str, Any]) -> Rows:
    """Of keep 1.0 and the smallest keep."""
    keeps = [row["keep"] for row in document["keeps"]]
    count: dict[tuple[str, str], int] = {}
    found: Rows = []
    for row in document["operators"]:
        at = (row["keep"], row["phase"])
        count[at] = count.get(at, 0) + 1
        if count[at] <= _OPERATORS_SHOWN and row["keep"] in (keeps[0], keeps[-1]):
            found.append(
                {
                    "keep": row["keep"],
                    "phase": row["phase"],
                    "operator": row["operator"],
                    "calls": f"{row['calls']:.5g}",
                    "ms": _ms(row["ms"]),
                    "of the phase": f"{row['share']:.0%}",
                }
            )
    return found


def _times(speedup: Mapping[str, Any]) -> str:
    ends = speedup["interval"]
    shown = f"{speedup['value']:.2f}x"
    return shown if ends is None else f"{shown} ({ends[0]:.2f} to {ends[1]:.2f})"


def _ms(value: float) -> str:
    """At least three figures, never an exponent."""
    return f"{value:.{3 if value < 1 else 2 if value < 100 else 1}f}"
