"""One table says what every graph takes and gives; nothing else spells a name, and bundles keep to
it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtp.runtime.bundle import contract
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.bundle.contract import KINDS, Tensor, kind_of
from vtp.runtime.engines.capacity import BuildSizes, make_limits, ranges

FIXED = {"width", "heads", "kv_heads", "head_dim", "vocab", "axes"}
"""Dimensions that a model fixes."""
COMMON = {"keep", "kept", "vision", "video", "weight", "index", "scores", "raters", "query", "drop"}
COMMON |= {"shrink", "merged", "recycled", "language"}
"""Names that are words of other things too: keys of a row, kinds of media, names of scores."""


def names() -> set[str]:
    found = {tensor.name for kind in KINDS for tensor in (*kind.inputs, *kind.outputs)}
    return {name for name in found if "{" not in name} | {contract.PIXEL_VALUES, contract.CHECK}


def test_no_name_is_spelled_anywhere_else(root: Path) -> None:
    forbidden = names() - COMMON
    assert {"inputs_embeds", "hidden_states_out", "write_index", "image_rows"} <= forbidden
    numbered = re.compile(r"^(language|drop)\.|past_key_values|^present\.")
    offenders = []
    for folder in ("runtime", "export", "calibration", "commands", "trt_plugins"):
        for path in (root / folder).rglob("*.py"):
            if path.name == "contract.py":
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            texts = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    spelled = node.value in forbidden or numbered.search(node.value)
                    if spelled and id(node) not in texts:
                        offenders.append(f"{path.relative_to(root)}:{node.lineno} {node.value!r}")
    assert not offenders


def row_of(rows: tuple[Tensor, ...], name: str) -> Tensor | None:
    pattern = re.sub(r"\.\d+\.", ".{layer}.", name)
    return next((row for row in rows if row.name in (name, pattern)), None)


BUNDLES: dict[str, dict[str, Any]] = {
    "fastervlm": {"method": "fastervlm"},
    "none": {"method": "none"},
    "sparsevlm": {
        "method": "sparsevlm",
        "layers": (1, 2),
        "ratios": (0.5, 0.25),
        "keep": None,
    },
    "guide": {"method": "guide", "keep": None},
    "fastv": {"method": "fastv"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
def test_graphs_of_a_bundle_are_those_of_the_table(
    exported: Callable[..., Path], name: str
) -> None:
    manifest = Bundle(exported("grouped-query", **BUNDLES[name])).manifest
    sizes = manifest.language.sizes
    for record in manifest.graphs:
        kind = kind_of(record.name, manifest.plan.guide is not None)
        appended = record.target == "trt10"
        for specs, rows in ((record.inputs, kind.inputs), (record.outputs, kind.outputs)):
            present = {spec.name for spec in specs}
            for spec in specs:
                row = row_of(rows, spec.name)
                if row is None:
                    assert kind.name in (contract.VISION, contract.VIDEO)
                    assert spec.name == contract.PIXEL_VALUES
                    continue
                dims = row.appended if appended and row.appended is not None else row.dims
                wanted = tuple(sizes.get(d, d) if isinstance(d, str) else d for d in dims)
                wanted = tuple(dim for dim in wanted if dim is not None)
                assert len(wanted) == len(spec.shape), spec.name
                for dim, found in zip(wanted, spec.shape, strict=True):
                    # A name may stand for a number, or for another name, but no number for another.
                    assert isinstance(dim, str) or dim == found, (record.name, spec)
            always = [row for row in rows if not row.when and not (appended and row.appended == ())]
            for row in always:
                assert row.name.replace("{layer}", "0") in present, (record.name, row.name)


@pytest.mark.parametrize("name", ["fastervlm", "sparsevlm", "guide"])
@pytest.mark.slow
def test_every_dimension_has_a_range_for_tensorrt(exported: Callable[..., Path], name: str) -> None:
    manifest = Bundle(exported("grouped-query", **BUNDLES[name])).manifest
    limits = make_limits(manifest, BuildSizes())
    for record in manifest.graphs:
        if record.target != "onnx" and record.target != "trt10":
            continue
        known, _ = ranges(manifest.plan, limits, record.name)
        dims = {dim for spec in record.inputs for dim in spec.shape if isinstance(dim, str)}
        assert dims <= set(known), record.name


def test_a_tensor_that_is_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match="no pixels"):
        contract.DROP_KIND.spec({}, ["pixels"])


def test_the_page_shows_the_table(root: Path, run_script: Any) -> None:
    script = (
        "import runpy, pathlib\n"
        f"made = runpy.run_path({str(root / 'docs' / 'make_graphs.py')!r})\n"
        "text = made['PAGE'].read_text(encoding='utf-8')\n"
        "assert made['filled'](text) == text, 'make docs'\n"
        "assert text.count('| input |') > 30\n"
    )
    run_script(script)


def test_every_kind_is_found_by_the_name_of_its_graph() -> None:
    found = {
        "vision": contract.VISION_KIND,
        "video": contract.VIDEO_KIND,
        "language.3": contract.LANGUAGE_KIND,
        "drop.1": contract.DROP_KIND,
        "check.0": contract.CHECK_KIND,
        "language.0": contract.LANGUAGE_KIND,
    }
    assert {name: kind_of(name) for name in found} == found
    assert kind_of("language.0", guides=True) is contract.GUIDE_KIND
