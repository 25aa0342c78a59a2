"""A bundle on disk: what is found, what is refused, and that any damage is a BundleError."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from vtp import load
from vtp.errors import (
    BundleCorrupted,
    BundleError,
    BundleNotFound,
    ManifestInvalid,
    UnsafePath,
    VtpError,
)
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.verify.verify import replay

names = st.text(max_size=12) | st.lists(
    st.sampled_from(["..", ".", "/", "a", "weights.safetensors", "\0", "\\", "~", " ", "\ud800"])
).map("".join)


@pytest.fixture(scope="module")
def bundle(random_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy whose manifest every example writes anew."""
    return Path(shutil.copytree(random_bundle, tmp_path_factory.mktemp("bundle") / "bundle"))


def manifest_of(bundle: Path) -> Any:
    """The manifest as JSON; read anew for each use, so that it may be changed."""
    return json.loads((bundle / "manifest.json").read_text())


def test_an_exported_bundle_is_intact(random_bundle: Path) -> None:
    opened = Bundle(random_bundle)
    opened.verify()
    listed = {record.file for record in opened.records()} | {"manifest.json"}
    assert listed == {path.name for path in random_bundle.iterdir()}
    for record in opened.records():
        data = (random_bundle / record.file).read_bytes()
        assert (record.bytes, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert json.loads(opened.manifest.to_json()) == manifest_of(random_bundle)


def test_an_exported_bundle_opens_by_text_and_by_path(random_bundle: Path) -> None:
    assert Bundle(str(random_bundle)).manifest == Bundle(random_bundle).manifest


def test_the_embedding_table_is_that_of_the_weight_file(random_bundle: Path) -> None:
    opened = Bundle(random_bundle)
    table = opened.embedding_table()
    assert isinstance(table, np.memmap)
    weights = load_file(random_bundle / "weights.safetensors")
    assert np.array_equal(table, weights[opened.manifest.language.embedding])


def test_an_embedding_table_of_another_shape(bundle: Path, random_bundle: Path) -> None:
    for key, value in (("vocab", 7), ("embedding", "no.such.tensor")):
        data = manifest_of(random_bundle)
        data["language"][key] = value
        (bundle / "manifest.json").write_text(json.dumps(data))
        with pytest.raises(BundleCorrupted, match=r"embedding table|no readable tensor"):
            Bundle(bundle).embedding_table()


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path(__file__)):
        with pytest.raises(BundleNotFound, match="vtp export MODEL --out DIR"):
            Bundle(path)


def test_only_the_graphs_of_the_target_asked_for_are_compared(
    copy_of: Callable[[Path], Path], random_bundle: Path
) -> None:
    broken = copy_of(random_bundle)
    (broken / "vision.onnx").unlink()
    opened = Bundle(broken)
    opened.verify("ort")
    for target in ("onnx", None):
        with pytest.raises(BundleCorrupted, match=r"'vision\.onnx' is missing"):
            opened.verify(target)


def test_without_verification_contents_are_not_compared(
    copy_of: Callable[[Path], Path], random_bundle: Path
) -> None:
    changed = copy_of(random_bundle)
    path = changed / "golden.png"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleCorrupted, match=r"golden\.png"):
        load(changed)
    assert load(changed, verify=False).generate(None, "what?", max_new_tokens=1).tokens


def test_a_folder_that_links_inside_itself_is_allowed(
    copy_of: Callable[[Path], Path], random_bundle: Path
) -> None:
    linked = copy_of(random_bundle)
    (linked / "golden.png").rename(linked / "real.png")
    (linked / "golden.png").symlink_to("real.png")
    Bundle(linked).verify()


@pytest.mark.parametrize("link", ["golden.png", "./golden.png"])
def test_a_link_to_itself_is_refused(
    copy_of: Callable[[Path], Path], random_bundle: Path, link: str
) -> None:
    linked = copy_of(random_bundle)
    (linked / "golden.png").unlink()
    (linked / "golden.png").symlink_to(link)
    with pytest.raises(BundleError):
        Bundle(linked).verify()


@given(names)
@example("x" * 300)
@example("a/b/c/d")
@example("a\nb")
@example("..")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_is_inside_or_refused(random_bundle: Path, name: str) -> None:
    try:
        path = Bundle.file(Bundle(random_bundle), name)
    except UnsafePath:
        return
    assert path.resolve().is_relative_to(random_bundle.resolve())
    assert path.exists() in (True, False)


@given(names, st.sampled_from(["weights", "graph", "file", "golden"]))
@example("\0", "weights")
@example("x" * 300, "file")
@example("\ud800", "graph")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_name_in_a_manifest(
    bundle: Path, random_bundle: Path, name: str, where: str
) -> None:
    data = manifest_of(random_bundle)
    rows = {"weights": data["weights"], "graph": data["graphs"][0], "file": data["files"][0]}
    row, key = (data["golden"], "image") if where == "golden" else (rows[where], "file")
    assume(name != row[key])
    row[key] = name
    (bundle / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(BundleError):
        Bundle(bundle).verify()


PLACES = st.sampled_from(
    [
        ("language", "layers"),
        ("language", "heads"),
        ("language", "kv_heads"),
        ("language", "head_dim"),
        ("language", "width"),
        ("language", "vocab"),
        ("language", "context"),
        ("plan", "tokens"),
        ("plan", "grid", 0),
        ("plan", "keep"),
        ("plan", "prunes"),
        ("preprocessing", "height"),
        ("preprocessing", "width"),
        ("preprocessing", "rescale"),
        ("prompt", "image_token"),
        ("prompt", "image_token_id"),
        ("prompt", "opening"),
        ("generation", "max_new_tokens"),
        ("generation", "temperature"),
        ("generation", "top_p"),
        ("generation", "eos", 0),
        ("graphs", 0, "name"),
        ("graphs", 0, "target"),
        ("golden", "tolerance"),
        ("golden", "cases", 0, "keep"),
        ("golden", "cases", 0, "tokens", 0),
    ]
)
VALUES = (
    st.integers(-2, 200) | st.integers() | st.floats() | st.booleans() | st.sampled_from(["", "x"])
)


@given(PLACES, VALUES)
@example(("language", "layers"), 1)
@example(("language", "layers"), 3)
@example(("language", "kv_heads"), 1)
@example(("language", "head_dim"), 2**24)
@example(("language", "context"), 2**24)
@example(("generation", "max_new_tokens"), 0)
@example(("prompt", "image_token"), "")
@example(("prompt", "image_token_id"), -1)
@example(("prompt", "image_token_id"), 2**70)
@example(("golden", "cases", 0, "tokens", 0), 10**6)
@example(("golden", "cases", 0, "tokens", 0), -1)
@example(("golden", "cases", 0, "keep"), 17)
@example(("preprocessing", "height"), 40)
@example(("preprocessing", "rescale"), 1.334440614822485e36)
@example(("plan", "prunes"), False)
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_manifest_that_lies_answers_or_is_an_error_of_ours(
    bundle: Path, random_bundle: Path, scene: Path, place: tuple[str | int, ...], value: Any
) -> None:
    """The manifest itself has no checksum: what it says may contradict the graphs."""
    data = manifest_of(random_bundle)
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (bundle / "manifest.json").write_text(json.dumps(data))
    try:
        pipeline = load(bundle, threads=1)
        pipeline.generate(scene, "what?", max_new_tokens=2)
        replay(pipeline)
    except VtpError:
        pass  # refused, and not with a traceback


@given(st.data())
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_changed_byte_in_any_file_is_found(
    bundle: Path, random_bundle: Path, data: st.DataObject
) -> None:
    shutil.copy(random_bundle / "manifest.json", bundle / "manifest.json")
    name = data.draw(st.sampled_from([r.file for r in Bundle(bundle).records()]))
    content = (random_bundle / name).read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    other = data.draw(st.integers(1, 255)) ^ content[at]
    try:
        (bundle / name).write_bytes(content[:at] + bytes([other]) + content[at + 1 :])
        with pytest.raises(BundleCorrupted, match=name):
            Bundle(bundle).verify()
    finally:
        shutil.copy(random_bundle / name, bundle / name)


def test_a_manifest_that_is_not_utf8(bundle: Path) -> None:
    (bundle / "manifest.json").write_bytes(b'{"schema": 1, "\xff": 1}')
    with pytest.raises(ManifestInvalid, match="not UTF-8"):
        Bundle(bundle)
