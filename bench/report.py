"""Tables, ratios and targets from what was measured."""

from __future__ import annotations

from typing import Any

from .measure import KEEPS

STEPS = (
    ("vision", "vision ms"),
    ("prefill", "prefill ms"),
    ("ttft", "TTFT ms"),
    ("decode", "decode ms/token"),
    ("answer", "whole answer ms"),
)

TARGETS = {
    "real": {"vision": 1.2, "prefill": 1.15, "decode": 1.1},
    "tiny": {"decode": 3.0},
}
"""How many times faster than Hugging Face at keep 1.0."""

TTFT_TARGETS = {"real": 1.10}
"""TTFT over vision and prefill at keep 0.1; in ``tiny`` both are short beside reading the image."""


def ratios(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Hugging Face's median over ours, by step and keep."""
    times = results["times"]
    return {
        step: {
            f"{keep:g}": times[f"hf {step}"]["median"] / times[f"ours {step} {keep:g}"]["median"]
            for keep in KEEPS
        }
        for step, _ in STEPS
    }


def targets(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Every target with its value in this run."""
    found, times = results["ratios"], results["times"]
    rows = [
        _row(f"{step}, times faster at keep 1.0", found[step]["1"], ">=", least)
        for step, least in TARGETS[results["model"]].items()
    ]
    parts = times["ours vision 0.1"]["median"] + times["ours prefill 0.1"]["median"]
    ttft = times["ours ttft 0.1"]["median"]
    if results["model"] in TTFT_TARGETS:
        limit = TTFT_TARGETS[results["model"]]
        rows.append(_row("TTFT over vision + prefill at keep 0.1", ttft / parts, "<=", limit))
    share = 100 * results["selection_ms"] / ttft
    rows.append(_row("selection, % of TTFT at keep 0.1", share, "<=", 1.0))
    rows.append(_row("import vtp.runtime, s", results["import_s"]["median"], "<=", 0.3))
    return rows


def _row(name: str, value: float, sense: str, limit: float) -> dict[str, Any]:
    reached = value >= limit if sense == ">=" else value <= limit
    return {"target": name, "value": value, "limit": f"{sense} {limit:g}", "reached": reached}


def tables(results: dict[str, Any]) -> str:
    """Everything as markdown."""
    parts = [_machine(results), _times(results), _loads(results), _floors(results)]
    return "\n\n".join([*parts, _targets(results)])


def _machine(results: dict[str, Any]) -> str:
    rates = results["machine"]["rates"]
    lines = [
        f"Model `{results['model']}`, {results['threads']} threads, {results['repeat']} "
        f"repetitions, {results['decoded']} tokens decoded; {results['machine']['cpu']}; "
        + ", ".join(f"{name} {version}" for name, version in results["versions"].items())
        + f"; load average before the run {results['machine']['load_before']:.1f}.",
        "",
        "Largest difference from Hugging Face at keep 1.0, relative to the largest magnitude: "
        + ", ".join(f"{name} {value:.1e}" for name, value in results["differences"].items())
        + ".",
        "",
        "Rates, best of the run: "
        + ", ".join(f"{n} {max(v) / 1e9:.0f} GFLOP/s" for n, v in rates["matrix"].items())
        + "; "
        + ", ".join(f"{n} {max(v) / 1e9:.0f} GB/s" for n, v in rates["read"].items())
        + ".",
    ]
    return "\n".join(lines)


def _times(results: dict[str, Any]) -> str:
    times, found = results["times"], results["ratios"]
    head = ["", "Hugging Face", *(f"vtp, keep {keep:g}" for keep in KEEPS)]
    lines = [_line(head), _line(["---"] * len(head))]
    lengths = [results["tokens"][name] for name in ("1", *(f"{keep:g}" for keep in KEEPS))]
    lines.append(_line(["tokens in prefill", *map(str, lengths)]))
    for step, title in STEPS:
        cells = [_spread(times[f"hf {step}"])]
        for keep in KEEPS:
            ratio = found[step][f"{keep:g}"]
            cells.append(f"{_spread(times[f'ours {step} {keep:g}'])}, {ratio:.2f}x")
        lines.append(_line([title, *cells]))
    counts = [str(results["answered"]["hf answer"])]
    counts += [str(results["answered"][f"ours answer {keep:g}"]) for keep in KEEPS]
    lines.append(_line(["tokens of that answer", *counts]))
    note = (
        "Each cell is the median (lowest to highest), and the speedup over Hugging Face, which "
        f"does not prune. The decode column of Hugging Face uses {results['hf_cache']}; "
        f"DynamicCache took {times['hf decode dynamic']['median']:.3g} ms, "
        f"StaticCache {times['hf decode static']['median']:.3g} ms. "
        "Whole answers come from `generate` on both sides."
    )
    return "\n".join([*lines, "", note])


def _loads(results: dict[str, Any]) -> str:
    head = ["separate process", "load s", "first answer s", "RSS after load GB", "peak RSS GB"]
    lines = [_line(head), _line(["---"] * len(head))]
    for name, values in results["fresh"].items():
        sizes = [f"{values[key] / 1e9:.2f}" for key in ("loaded_rss", "peak_rss")]
        lines.append(_line([name, f"{values['load_s']:.2f}", f"{values['answer_s']:.2f}", *sizes]))
    imported = results["import_s"]
    note = f"`import vtp.runtime`: {imported['median']:.3f} s ({imported['min']:.3f} to "
    note += f"{imported['max']:.3f}) more than starting Python."
    return "\n".join([*lines, "", note])


def _floors(results: dict[str, Any]) -> str:
    times = results["times"]
    head = ["keep", "vision ms / floor", "prefill ms / floor", "decode ms / floor"]
    lines = [_line(head), _line(["---"] * len(head))]
    for keep in KEEPS:
        cells = []
        for step in ("vision", "prefill", "decode"):
            spent = times[f"ours {step} {keep:g}"]["median"]
            floor = results["floors_ms"][step][f"{keep:g}"]
            cells.append(f"{_number(spent)} / {_number(floor)} ({100 * floor / spent:.0f} %)")
        lines.append(_line([f"{keep:g}", *cells]))
    return "\n".join(lines)


def _targets(results: dict[str, Any]) -> str:
    lines = [_line(["target", "value", "limit", "reached"]), _line(["---"] * 4)]
    for row in results["targets"]:
        answer = "yes" if row["reached"] else "no"
        lines.append(_line([row["target"], _number(row["value"]), row["limit"], answer]))
    return "\n".join(lines)


def _spread(values: dict[str, float]) -> str:
    low, high = _number(values["min"]), _number(values["max"])
    return f"{_number(values['median'])} ({low} to {high})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
