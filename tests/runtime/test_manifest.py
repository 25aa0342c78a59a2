"""The manifest: written and read back, refused when it is newer, and no damage but an error."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vtp.errors import BundleError, ManifestInvalid, ManifestTooNew, ManifestTooOld
from vtp.runtime.bundle.contract import TensorSpec
from vtp.runtime.bundle.manifest import (
    OLDEST,
    SCHEMA,
    Deviation,
    FileRecord,
    GenerationDefaults,
    Golden,
    GoldenCase,
    GraphRecord,
    LanguageRecord,
    Manifest,
    ModelRecord,
)
from vtp.runtime.bundle.plan import Drop, GuideRecord, MethodRecord, Plan
from vtp.runtime.bundle.prompt import PromptLayout, TileLayout
from vtp.runtime.preprocessing.fixed import ImagePreprocessor

names = st.text(min_size=1, max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(1, 10**6)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
keeps = st.integers(1, 4) | st.floats(0.01, 1)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def tuples(items: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[Any]:
    return st.lists(items, min_size=least, max_size=3).map(tuple)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    rows, cols = draw(st.integers(2, 40)), draw(st.integers(2, 40))
    layers = sorted(draw(st.sets(st.integers(0, 30), max_size=3)))
    drops = tuple(
        Drop(
            layer=layer, keep=1.0 / (1 + n), score=draw(names), score_layer=draw(st.none() | counts)
        )
        for n, layer in enumerate(layers)
    )
    guide = (
        st.none() if any(layers) else st.none() | st.just(GuideRecord(include_last_visual_row=True))
    )
    parameters = st.dictionaries(names, st.integers() | names, max_size=2)
    return Plan(
        methods=draw(tuples(st.builds(MethodRecord, name=names, parameters=parameters))),
        tokens=rows * cols,
        grid=(rows, cols),
        layers=31,
        drops=drops,
        positions=draw(st.sampled_from(["compact", "original", "compact-per-stage"])),
        guide=draw(guide),
    )


files = st.builds(FileRecord, file=names, sha256=digests, bytes=counts)
specs = st.builds(TensorSpec, name=names, dtype=names, shape=tuples(counts | names))
manifests = st.builds(
    Manifest,
    schema=st.just(SCHEMA),
    vtp=names,
    model=st.builds(ModelRecord, id=names, revision=st.none() | names, family=names),
    plan=plans(),
    graphs=tuples(
        st.builds(
            GraphRecord,
            name=names,
            target=st.sampled_from(["ort", "onnx", "trt10"]),
            file=names,
            sha256=digests,
            bytes=counts,
            opset=counts,
            inputs=tuples(specs),
            outputs=tuples(specs),
        )
    ),
    weights=files,
    language=st.builds(
        LanguageRecord,
        layers=st.just(31),
        heads=st.integers(1, 1024),
        kv_heads=st.integers(1, 1024),
        head_dim=st.integers(1, 4096),
        width=st.integers(1, 2**18),
        inner=st.integers(1, 2**20),
        vocab=counts,
        context=counts,
        embedding=names,
        planes=st.sampled_from([(), (0,), (1, 5)]),
    ),
    preprocessing=st.builds(
        ImagePreprocessor,
        height=st.just(32),
        width=st.just(32),
        resize=st.just("shortest_edge"),
        resize_to=st.integers(1, 64),
        resample=st.sampled_from(["bicubic", "bilinear"]),
        crop=st.just(True),
        pad_to_square=st.none() | st.tuples(*[st.integers(0, 255)] * 3),
        rescale=st.floats(0.001, 1),
        mean=st.tuples(*[st.floats(-10, 10)] * 3),
        std=st.tuples(*[st.floats(0.01, 1)] * 3),
        grid=st.just((4, 4)),
    ),
    prompt=st.builds(
        PromptLayout,
        opening=st.text(),
        user_open=st.text(),
        image_open=st.text(),
        user_close=st.text(),
        turn_join=st.text(),
        image_token=names,
        image_token_id=counts,
        tiles=st.none() | st.builds(TileLayout, tile=st.text(), overview=st.text()),
    ),
    generation=st.builds(
        GenerationDefaults,
        max_new_tokens=counts,
        temperature=st.floats(0, 2),
        top_p=st.floats(0.1, 1),
        eos=tuples(counts),
    ),
    files=tuples(files),
    golden=st.builds(
        Golden,
        image=names,
        prompt=names,
        tensors=names,
        tolerance=st.floats(1e-6, 1),
        cases=tuples(st.builds(GoldenCase, keep=tuples(keeps), tokens=tuples(counts))),
        measured=tuples(
            st.builds(
                Deviation,
                graph=names,
                target=names,
                keep=tuples(keeps),
                output=names,
                max_abs=numbers,
                mean_abs=numbers,
                cosine=numbers,
            )
        ),
    ),
)

VALID: dict[str, Any] = {
    "schema": SCHEMA,
    "vtp": "0.1.0",
    "model": {"id": "tiny", "revision": None, "family": "llava"},
    "plan": {
        "methods": [{"name": "random", "parameters": {"seed": 1}}],
        "tokens": 16,
        "grid": [4, 4],
        "layers": 2,
        "drops": [
            {
                "layer": 0,
                "keep": 0.1,
                "score": "random",
                "score_layer": None,
                "rounding": "half-even",
                "budget": "image",
                "recycle": None,
            }
        ],
        "positions": "compact",
        "guide": None,
    },
    "graphs": [
        {
            "name": "vision",
            "target": "ort",
            "file": "vision.ort.onnx",
            "sha256": "0" * 64,
            "bytes": 9,
            "opset": 24,
            "inputs": [{"name": "pixels", "dtype": "float32", "shape": ["images", 3]}],
            "outputs": [],
        }
    ],
    "weights": {"file": "weights.safetensors", "sha256": "0" * 64, "bytes": 9},
    "language": {
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "width": 64,
        "inner": 128,
        "vocab": 112,
        "context": 128,
        "embedding": "embed_tokens.weight",
        "dtype": "float16",
        "position_axes": 1,
        "separator": None,
        "weights": {"bits": 4, "block": 32, "symmetric": True},
        "planes": [0, 1],
    },
    "preprocessing": {
        "kind": "fixed",
        "height": 32,
        "width": 32,
        "resize": "shortest_edge",
        "resize_to": 32,
        "resample": "bicubic",
        "crop": True,
        "pad_to_square": None,
        "rescale": 0.004,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "grid": [4, 4],
        "sampling": {
            "count": 8,
            "fps": None,
            "rule": "start",
            "group": 1,
            "least": 1,
            "most": 768,
        },
        "video_cls": False,
        "image_cls": False,
    },
    "prompt": {
        "opening": "",
        "user_open": "USER: ",
        "image_open": "<image>\n",
        "user_close": " ASSISTANT:",
        "turn_join": "</s>",
        "image_token": "<image>",
        "image_token_id": 4,
        "image_text": None,
        "tiles": {"tile": "<{row} {column}><image>", "row_end": "\n", "overview": "<image>"},
        "video": {
            "open": "<video>\n",
            "token": "<video>",
            "token_id": 110,
            "frame": None,
        },
        "text_open": "",
        "answered": None,
        "one_turn": None,
    },
    "generation": {
        "max_new_tokens": 128,
        "temperature": 0.0,
        "top_p": 1.0,
        "eos": [2],
        "top_k": None,
        "repetition_penalty": 1.0,
    },
    "files": [{"file": "tokenizer.json", "sha256": "0" * 64, "bytes": 9}],
    "golden": {
        "image": "golden.png",
        "prompt": "what?",
        "tensors": "golden.safetensors",
        "tolerance": 0.001,
        "cases": [{"keep": [1.0], "tokens": [1, 2], "frames": 0}],
        "measured": [],
        "layers": None,
        "rounding": [],
    },
    "variants": [
        {
            "name": "tensorrt-rtx",
            "engine": "tensorrt-rtx",
            "version": "1.7.1",
            "machine": "x86_64",
            "target": "onnx",
            "compute_capabilities": ["8.9"],
            "cuda": None,
            "topk": "plugin",
            "plugin": "1",
            "limits": {
                "tokens": 600,
                "images": 1,
                "frames": 0,
                "tiles": 1,
                "rows": 64,
                "separators": 0,
                "counts": [16],
                "image_tokens": 64,
                "parts": 1,
            },
            "engines": [
                {
                    "graph": "vision",
                    "file": "engines/tensorrt-rtx/vision.engine",
                    "sha256": "0" * 64,
                    "bytes": 9,
                }
            ],
        }
    ],
    "products": {
        "form": "int8",
        "keep": [0.1],
        "requests": 64,
        "ranges": "minmax",
        "left": ["vision layer 3"],
    },
    "history": [
        {
            "field": "plan.drops.keep",
            "old": [0.1],
            "new": [16],
            "when": "2026-01-31T12:00:00Z",
            "why": "vtp calibrate keep",
            "replaced": "0" * 64,
        }
    ],
}

Path = tuple[str | int, ...]


def places(data: Any, path: Path = ()) -> list[Path]:
    """The way to every entry of a JSON value, containers included."""
    items: Any = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    return [path] * bool(path) + [p for key, item in items for p in places(item, (*path, key))]


PLACES = places(VALID)


def changed(path: Path, change: Any) -> str:
    """The valid manifest's text after ``change(container, key)`` at a place."""
    data = copy.deepcopy(VALID)
    container: Any = data
    for key in path[:-1]:
        container = container[key]
    change(container, path[-1])
    return json.dumps(data)


def reads_or_refuses(text: str) -> Manifest | None:
    """The manifest, or None where it is refused; any other exception is a failure."""
    try:
        return Manifest.from_json(text)
    except BundleError:
        return None


@given(manifests)
@settings(max_examples=50)
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    text = manifest.to_json()
    assert Manifest.from_json(text) == manifest
    assert Manifest.from_json(text).to_json() == text


def test_the_valid_manifest_reads() -> None:
    manifest = Manifest.from_json(json.dumps(VALID))
    assert json.loads(manifest.to_json()) == VALID


# Content that is free, and entries that have defaults.
FREE: list[Path] = [
    ("plan", "methods", 0, "parameters", "seed"),
    ("plan", "drops", 0, "rounding"),
    ("plan", "drops", 0, "budget"),
    ("plan", "drops", 0, "recycle"),
    ("plan", "guide"),
    ("preprocessing", "pad_to_square"),
    *(
        ("preprocessing", "sampling", entry)
        for entry in ("count", "fps", "rule", "group", "least", "most")
    ),
    ("variants",),
    ("history",),
    ("products",),
    ("language", "dtype"),
    ("language", "position_axes"),
    ("prompt", "image_text"),
    ("prompt", "video"),
    ("prompt", "video", "frame"),
    ("language", "separator"),
    ("golden", "layers"),
    ("golden", "cases", 0, "frames"),
    ("language", "weights"),
    ("golden", "rounding"),
    ("prompt", "text_open"),
    ("prompt", "answered"),
    ("prompt", "one_turn"),
    ("generation", "top_k"),
    ("generation", "repetition_penalty"),
    ("preprocessing", "image_cls"),
    ("preprocessing", "sampling"),
    ("preprocessing", "video_cls"),
    ("language", "planes"),
    ("prompt", "tiles"),
    ("prompt", "tiles", "row_end"),
    ("variants", 0, "limits", "parts"),
]


@pytest.mark.parametrize("path", [p for p in PLACES if isinstance(p[-1], str) and p not in FREE])
def test_a_missing_entry_is_refused(path: Path) -> None:
    text = changed(path, lambda container, key: container.pop(key))
    with pytest.raises(ManifestInvalid, match=str(path[-1])):
        Manifest.from_json(text)


@pytest.mark.parametrize(
    "path", sorted({p[:-1] for p in PLACES if isinstance(p[-1], str) and p not in FREE})
)
def test_an_unknown_entry_is_refused(path: Path) -> None:
    def add(container: Any, key: Any) -> None:
        container[key]["colour"] = "red"

    text = changed(path, add) if path else json.dumps({**VALID, "colour": "red"})
    with pytest.raises(ManifestInvalid, match="colour"):
        Manifest.from_json(text)


@given(st.sampled_from(PLACES), json_values)
@settings(max_examples=500)
@example(("golden", "tolerance"), 10**400)
@example(("preprocessing", "rescale"), 10**400)
@example(("preprocessing", "mean"), [10**400, 0, 0])
@example(("plan", "drops", 0, "keep"), 10**400)
@example(("plan", "drops", 0, "keep"), True)
@example(("plan", "drops", 0, "layer"), 10**400)
@example(("plan", "layers"), 10**400)
@example(("plan", "grid"), [0, 0])
@example(("plan", "grid"), [-4, -4])
@example(("plan", "methods", 0, "parameters", "seed"), float("nan"))
@example(("preprocessing",), None)
@example(("preprocessing", "resize"), [])
@example(("preprocessing", "resize"), {"a": 1})
@example(("schema",), 1.0)
@example(("schema",), True)
@example(("schema",), 10**400)
def test_any_value_at_any_place_reads_or_is_refused(path: Path, value: Any) -> None:
    def put(container: Any, key: Any) -> None:
        container[key] = value

    manifest = reads_or_refuses(changed(path, put))
    if manifest is not None:
        assert Manifest.from_json(manifest.to_json()) == manifest


@given(st.sampled_from(PLACES), st.text(max_size=8), json_values)
@settings(max_examples=200)
def test_any_added_entry_reads_or_is_refused(path: Path, name: str, value: Any) -> None:
    def add(container: Any, key: Any) -> None:
        if isinstance(container, dict):
            container[name] = value
        else:
            container.append(value)

    reads_or_refuses(changed(path, add))


@given(json_values)
def test_any_json_is_refused(data: Any) -> None:
    assert reads_or_refuses(json.dumps(data)) is None


@given(st.text())
@example('{"schema": 1, "schema": 1}')
@example("[" * 50_000)
@example("9" * 5000)
@example('{"schema": NaN}')
@example("\ud800")
def test_any_text_is_refused(text: str) -> None:
    assert reads_or_refuses(text) is None


@given(st.integers(0, len(json.dumps(VALID)) - 1))
def test_a_manifest_that_is_cut_off_is_refused(length: int) -> None:
    assert reads_or_refuses(json.dumps(VALID)[:length]) is None


@given(st.integers(SCHEMA + 1), st.dictionaries(st.text(), numbers | st.lists(st.text())))
def test_a_newer_schema_is_told_from_a_broken_one(schema: int, rest: dict[str, Any]) -> None:
    """Whatever else it holds: what is in a newer manifest is not known here."""
    with pytest.raises(ManifestTooNew, match="pip install -U"):
        Manifest.from_json(json.dumps({**rest, "schema": schema}))


def test_an_older_schema_says_to_export_again() -> None:
    with pytest.raises(ManifestTooOld, match="export the model again"):
        Manifest.from_json(json.dumps({"schema": OLDEST - 1}))


def test_the_schema_before_is_read_and_written_as_this_one() -> None:
    older = json.loads(json.dumps(VALID))
    older["schema"] = OLDEST
    for key in ("top_k", "repetition_penalty"):
        del older["generation"][key]
    for key in ("text_open", "answered", "one_turn"):
        del older["prompt"][key]
    del older["preprocessing"]["image_cls"]
    del older["prompt"]["tiles"], older["language"]["planes"]
    now = json.loads(json.dumps(VALID))
    now["prompt"]["tiles"], now["language"]["planes"] = None, []
    assert json.loads(Manifest.from_json(json.dumps(older)).to_json()) == now


@pytest.mark.parametrize("schema", [0, -1, "1", None, 1.0, True, [1]])
def test_a_schema_that_is_no_version_is_invalid(schema: Any) -> None:
    with pytest.raises(ManifestInvalid, match="a version number is needed"):
        Manifest.from_json(json.dumps({**VALID, "schema": schema}))


def test_numbers_that_json_does_not_have_are_refused() -> None:
    for constant in ("NaN", "Infinity", "-Infinity"):
        text = json.dumps(VALID).replace('"seed": 1', f'"seed": {constant}')
        with pytest.raises(ManifestInvalid, match=constant):
            Manifest.from_json(text)


@pytest.mark.parametrize("key", [k for k in VALID["language"] if k != "embedding"])
@pytest.mark.parametrize("value", [0, -1, 10**12])
def test_sizes_of_the_decoder_out_of_range_are_refused(key: str, value: int) -> None:
    data = copy.deepcopy(VALID)
    data["language"][key] = value
    with pytest.raises(ManifestInvalid, match=rf"language.*{key}"):
        Manifest.from_json(json.dumps(data))


def test_graphs_are_found_by_name_and_target() -> None:
    manifest = Manifest.from_json(json.dumps(VALID))
    assert manifest.graph("vision", "ort").file == "vision.ort.onnx"
    assert manifest.targets() == ["ort"]
    for name, target in (("vision", "onnx"), ("language.0", "ort")):
        with pytest.raises(ManifestInvalid, match=f"no graph '{name}' for target '{target}'"):
            manifest.graph(name, target)


def test_the_size_of_a_token_in_the_cache() -> None:
    language = Manifest.from_json(json.dumps(VALID)).language
    assert language.kv_bytes_per_token() == 2 * 2 * 2 * 16 * 2  # float16
