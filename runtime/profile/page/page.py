"""The page, made of the JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..groups import GROUPS, grouped
from .bars import Part, Row, bars
from .style import COLOURS, CSS
from .tables import folded, legend, table

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_OPERATORS_SHOWN = 8
_TTFT, _LATENCY = "time_to_first_token", "request_latency"
_MEDIANS = (
    "The number beside a bar is the median of the whole; the medians of its parts need not add "
    "up to it."
)
Document = Mapping[str, Any]


def page(document: Document) -> str:
    """One self-contained HTML file.

    Args:
        document: from ``document.document``.
    """
    bundle, work = document["bundle"], document["workload"]
    title = f"{bundle['model']}: where the time goes"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="about">{escape(_about(document))}</p>',
        *(
            f'<p class="verdict">{escape(_sentence(text))}</p>'
            for text in document["ceiling"]["sentences"]
        ),
        *(f'<p class="warning">{escape(_sentence(text))}</p>' for text in document["warnings"]),
        _first_token(document),
        _answer(document),
        _memory(document),
        _stages(document),
        _accuracy(document),
        _operators(document),
        _machine(document),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + f'\n<p class="about">Medians of {work["rounds"]} rounds. Made by vtp profile.</p>\n'
        "</main>\n</body>\n</html>\n"
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _about(document: Document) -> str:
    bundle, engine, work = document["bundle"], document["engine"], document["workload"]
    machine = document["machine"]
    return (
        f"Method {bundle['method']}, {bundle['dtype']}, engine {engine['name']} "
        f"({engine['versions']}), {machine['processors']} processors ({machine['machine']}). "
        f"The question has {work['image_tokens']} image tokens and {work['text_tokens']} text "
        f"tokens, the answer {work['new_tokens']} tokens."
    )


def _figure(heading: str, text: str, picture: str, key: str, below: str) -> str:
    return (
        f"<h2>{escape(heading)}</h2>\n<figure>\n<figcaption>{escape(text)}</figcaption>\n{key}\n"
        f'<div class="picture">{picture}</div>\n</figure>\n{below}'
    )


def _label(row: Document) -> tuple[str, str]:
    return f"keep {row['keep']}", f"{row['average_image_tokens']:.4g} image tokens"


def _stacked(
    document: Document, groups: Sequence[str], metric: str
) -> tuple[list[Row], list[tuple[str, str]], list[list[str]]]:
    """Bars, legend and table of some groups of phases."""
    rows, lines, seen = [], [], dict[str, None]()
    by_keep = [(row, grouped(row)) for row in document["keeps"]]
    for _, found in by_keep:
        seen |= dict.fromkeys(key for key in groups if key in found)
    for row, found in by_keep:
        parts = [
            Part(name=GROUPS[key][0], value=found.get(key, 0.0), colour=COLOURS[key])
            for key in seen
        ]
        label, note = _label(row)
        shown = f"{_number(row['metrics'][metric]['p50'])} ms"
        rows.append(Row(label=label, note=note, parts=tuple(parts), total=shown))
        lines.append([label, *(_number(part.value) for part in parts)])
    return rows, [(GROUPS[key][0], COLOURS[key]) for key in seen], lines


def _first_token(document: Document) -> str:
    floor = document["ceiling"]["time_to_first_token"]["floor_ms"]["value"]
    rows, key, lines = _stacked(document, [group for group in GROUPS if group != "decode"], _TTFT)
    for line, row in zip(lines, document["keeps"], strict=True):
        line += _metric_cells(row["metrics"][_TTFT])
    head = ["ms", *(name for name, _ in key), *_METRIC_HEAD]
    mark = "floor: dropped tokens are free"
    return _figure(
        "Time to the first token",
        f"Medians of the phases; no keep can end left of the dashed line. {_MEDIANS}",
        bars(
            "ttft",
            "Time to the first token by keep, stacked by phase",
            "; ".join(f"{row.label}: {row.total}" for row in rows) + f"; floor {floor:.4g} ms",
            rows,
            "ms",
            (f"floor {_number(floor)} ms", floor),
        ),
        legend(key, mark),
        table(head, lines),
    )


_METRIC_HEAD = ("TTFT p50", "p90", "p99", "faster than keep 1.0")


def _metric_cells(metric: Document) -> list[str]:
    return [*(_number(metric[name]) for name in ("p50", "p90", "p99")), _times(metric["speedup"])]


def _answer(document: Document) -> str:
    rows, key, lines = _stacked(document, list(GROUPS), _LATENCY)
    tokens = document["workload"]["new_tokens"]
    powered = any(row["energy"] for row in document["keeps"])
    for line, row in zip(lines, document["keeps"], strict=True):
        metrics = row["metrics"]
        per_token = metrics.get("time_per_output_token")
        gaps = metrics.get("inter_token_latency")
        line[1:] = [
            _number(metrics["request_latency"]["p50"]),
            _times(metrics["request_latency"]["speedup"]),
            "-" if per_token is None else _number(per_token["p50"]),
            "-" if gaps is None else _number(gaps["p99"]),
            *([_joules(row)] if powered else []),
        ]
    head = [
        "",
        "end to end p50, ms",
        "faster than keep 1.0",
        "per token (TPOT) p50, ms",
        "between tokens p99, ms",
        *(["energy, J"] if powered else []),
    ]
    return _figure(
        f"The whole answer of {tokens} tokens",
        "Including decode; how much pruning can save depends on the length of the answer.",
        bars(
            "answer",
            "End-to-end time by keep, stacked by phase",
            "; ".join(f"{row.label}: {row.total}" for row in rows),
            rows,
            "ms",
        ),
        legend(key),
        table(head, lines),
    )


def _memory(document: Document) -> str:
    most = max(row["kv_bytes"] for row in document["keeps"])
    size, unit = _bytes_unit(most)
    rows, lines = [], []
    for row in document["keeps"]:
        label, note = _label(row)
        value = row["kv_bytes"] / size
        part = Part(name="KV cache", value=value, colour=COLOURS["memory"])
        rows.append(Row(label=label, note=note, parts=(part,), total=f"{_number(value)} {unit}"))
        peak, device = row["peak_host_bytes"], row["device_bytes"]
        lines.append(
            [
                label,
                f"{row['kv_bytes']:,}",
                "-" if peak is None else f"{peak / 2**20:.0f}",
                *([] if device is None else [f"{device / 2**20:.0f}"]),
            ]
        )
    head = ["", "KV cache, bytes", "host peak until then, MiB", "device, MiB"]
    unified = " Host and device share one memory." if document["memory"]["unified"] else ""
    return _figure(
        "Memory of the KV cache",
        f"For this prompt and answer.{unified}",
        bars(
            "kv",
            "Size of the KV cache by keep",
            "; ".join(f"{row.label}: {row.total}" for row in rows),
            rows,
            unit,
        ),
        "",
        table(head[: len(lines[0])], lines),
    )


def _stages(document: Document) -> str:
    rows, lines = [], []
    for row in document["keeps"]:
        for number, stage in enumerate(row["stages"]):
            first, last = stage["first"], stage["stop"] - 1
            layers = f"layer {first}" if first == last else f"layers {first} to {last}"
            text = stage["tokens"] - stage["image_tokens"]
            label = f"keep {row['keep']}"
            rows.append(
                Row(
                    label=label if number == 0 else "",
                    note=layers,
                    parts=(
                        Part(
                            name="image tokens",
                            value=stage["image_tokens"],
                            colour=COLOURS["image"],
                        ),
                        Part(name="text tokens", value=text, colour=COLOURS["words"]),
                    ),
                    total=str(stage["tokens"]),
                )
            )
            lines.append(
                [
                    label,
                    layers,
                    str(stage["image_tokens"]),
                    str(text),
                    f"{stage['flops'] / 1e9:.4g}",
                    f"{stage['kv_bytes']:,}",
                ]
            )
    head = ["", "stage", "image tokens", "text tokens", "prefill, GFLOP", "KV, bytes"]
    return _figure(
        "Tokens that each stage reads",
        "A stage is a run of language layers between two drops.",
        bars(
            "stages",
            "Tokens that each language stage reads, by keep",
            "; ".join(f"keep {line[0]}, {line[1]}: {line[2]} image tokens" for line in lines),
            rows,
            "tokens",
        ),
        legend([("image tokens", COLOURS["image"]), ("text tokens", COLOURS["words"])]),
        table(head, lines, words=(1,)),
    )


def _accuracy(document: Document) -> str:
    known = [row for row in document["keeps"] if row["accuracy"] is not None]
    if not known:
        return ""
    rows = []
    for row in known:
        label, note = _label(row)
        value = 100 * row["accuracy"]
        part = Part(name="accuracy", value=value, colour=COLOURS["accuracy"])
        rows.append(Row(label=label, note=note, parts=(part,), total=f"{value:.1f} %"))
    lines = [
        [
            row.label,
            row.total,
            _number(one["metrics"]["time_to_first_token"]["p50"]),
        ]
        for row, one in zip(rows, known, strict=True)
    ]
    return _figure(
        "Accuracy",
        "As given with --accuracy: share of correct answers.",
        bars(
            "accuracy",
            "Accuracy by keep",
            "; ".join(f"{row.label}: {row.total}" for row in rows),
            rows,
            "%",
            most=100.0,
        ),
        "",
        table(["", "right answers", "TTFT p50, ms"], lines),
    )


def _operators(document: Document) -> str:
    if not document["operators"]:
        return ""
    shown: dict[tuple[str, str], list[Document]] = {}
    for row in document["operators"]:
        rows = shown.setdefault((row["keep"], row["phase"]), [])
        if len(rows) < _OPERATORS_SHOWN:
            rows.append(row)
    tables = []
    for keep in dict.fromkeys(keep for keep, _ in shown):
        lines = [
            [
                phase,
                row["operator"],
                f"{row['calls']:.4g}",
                _number(row["ms"]),
                f"{row['share']:.0%}",
            ]
            for (of, phase), rows in shown.items()
            if of == keep
            for row in rows
        ]
        head = ["phase", "operator", "calls", "ms", "of the phase"]
        tables.append(folded(f"keep {keep}", table(head, lines, words=(1,))))
    selection = [
        [f"keep {row['keep']}", _number(row["selection_in_vision_ms"])]
        for row in document["keeps"]
        if row["selection_in_vision_ms"] is not None
    ]
    below = table(["", "selection in the vision graph, ms"], selection) if selection else ""
    return (
        '<h2>Operators</h2>\n<p class="about">From the profiler of the engine, in a separate run '
        "that is slower than the timed rounds. Means of one request; the longest operators of each "
        f"phase.</p>\n{below}{''.join(tables)}"
    )


def _machine(document: Document) -> str:
    lines = []
    for row in document["sensors"]:
        if "said" in row:
            value = ", ".join(row["said"])
        elif "rose" in row:
            value = f"rose by {row['rose']:g} {row['unit']}"
        else:
            value = f"{row['avg']:.4g} {row['unit']} ({row['min']:.4g} to {row['max']:.4g})"
        lines.append([row["quantity"], row["name"], value])
    lines += [[name, "absent", why] for name, why in document["absent"].items()]
    return "<h2>The machine during the run</h2>\n" + table(
        ["", "what", "over the run"], lines, words=(1, 2)
    )


def _joules(row: Document) -> str:
    return " / ".join(f"{meter['joules']:.3g}" for meter in row["energy"]) or "-"


def _times(speedup: Document) -> str:
    ends = speedup["interval"]
    shown = f"{speedup['value']:.2f}x"
    return shown if ends is None else f"{shown} ({ends[0]:.2f} to {ends[1]:.2f})"


def _number(value: float) -> str:
    """Three figures, without exponent."""
    if value == 0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:#.3g}"


def _bytes_unit(most: float) -> tuple[float, str]:
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if most >= size:
            return float(size), unit
    return 1.0, "bytes"
