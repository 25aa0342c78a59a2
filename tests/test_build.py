"""``vtp build``: what it writes, what it refuses, and that nothing is left half done."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vtp.errors import (
    BeyondLimits,
    BuildFailed,
    BuildKilled,
    BundleCorrupted,
    ContextTooLong,
    EngineUnavailable,
    KernelUnavailable,
    OptionInvalid,
    TargetMissing,
    VariantMismatch,
    VariantMissing,
)
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.bundle.sources import VariantSource
from vtp.runtime.chat.pipeline import load
from vtp.runtime.engines.capacity import BuildSizes, capacities, check_request, make_limits, ranges
from vtp.runtime.engines.tensorrt import variant as building
from vtp.runtime.engines.tensorrt.fit import Here, misfit
from vtp.runtime.engines.tensorrt.flavours import target_for
from vtp.runtime.engines.tensorrt.graphs import write_for_tensorrt
from vtp.runtime.engines.tensorrt.variant import BuildOptions, BuildProgress, build_variant
from vtp.runtime.model.decoder import Decoder

RTX = BuildOptions(engine="tensorrt-rtx", compute_capabilities=("8.9",))
needs_rtx = pytest.mark.skipif(
    not building.FLAVOURS["tensorrt-rtx"].installed(), reason="needs tensorrt-rtx-cu13"
)
pytestmark = needs_rtx


@pytest.fixture(scope="module")
def built(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample bundle with one variant; copy it before changing anything."""
    bundle = tmp_path_factory.mktemp("built") / "tiny"
    shutil.copytree(tiny_bundle, bundle)
    build_variant(bundle, RTX)
    return bundle


def files(bundle: Path) -> dict[str, bytes]:
    """Every file of a bundle with its content."""
    return {
        str(path.relative_to(bundle)): path.read_bytes()
        for path in sorted(bundle.rglob("*"))
        if path.is_file()
    }


def test_a_variant_lies_beside_the_graphs(built: Path, tiny_bundle: Path) -> None:
    before, after = files(tiny_bundle), files(built)
    assert {n: c for n, c in after.items() if n in before and n != "manifest.json"} == {
        n: c for n, c in before.items() if n != "manifest.json"
    }
    (variant,) = Bundle(built).manifest.variants
    assert set(after) - set(before) == {engine.file for engine in variant.engines}
    assert (variant.engine, variant.target, variant.topk) == ("tensorrt-rtx", "onnx", "plugin")
    assert variant.compute_capabilities == ("8.9",)
    Bundle(built).verify()
    # The other engines run it as before.
    assert load(built, "cpu").engine.name == "cpu"


def test_variants_live_side_by_side_and_replace_their_like(
    built: Path, copy_of: Callable[[Path], Path]
) -> None:
    bundle = copy_of(built)
    build_variant(bundle, replace(RTX, topk="native", name="native"))
    build_variant(bundle, replace(RTX, max_tokens=400, max_keep=0.25))
    variants = {variant.name: variant for variant in Bundle(bundle).manifest.variants}
    assert [variants[name].topk for name in ("native", "tensorrt-rtx")] == ["native", "plugin"]
    assert variants["tensorrt-rtx"].limits.counts == (64,)
    listed = {e.file for v in variants.values() for e in v.engines}
    assert {n for n in files(bundle) if n.endswith(".engine")} == listed


def test_the_command_says_what_it_made(vtp: Any, tiny_bundle: Path, copy_of: Any) -> None:
    bundle = copy_of(tiny_bundle)
    done = vtp("build", bundle, "--engine", "tensorrt-rtx", "--max-keep", "0.5")
    assert done.status == 0
    assert "variant 'tensorrt-rtx', 2 engines" in done.out
    assert "building vision (1 of 2; about" in done.err
    shown = vtp("inspect", bundle)
    assert "engines/tensorrt-rtx/vision" in shown.out
    assert "plugin" in shown.out


# --- limits ---------------------------------------------------------------------------------


def test_limits_follow_the_plan(tiny_bundle: Path) -> None:
    manifest = Bundle(tiny_bundle).manifest
    plan = manifest.plan
    limits = make_limits(manifest, BuildSizes(images=2, keep=0.25))
    assert (limits.tokens, limits.images, limits.counts) == (2 * 64 + 512, 2, (64,))
    assert capacities(plan, limits) == (640,)
    sizes, values = ranges(plan, limits, "vision")
    assert sizes["images"] == (1, 1, 2)
    assert values["keep"] == (1, 26, 64)
    assert ranges(plan, limits, "language.0")[0]["tokens"][2] == 640
    # Exactly (1, 1, 1) would store the weights twice.
    assert ranges(plan, limits, "language.0", decoding=True)[0]["tokens"] == (1, 1, 2)


def test_later_stages_hold_fewer_rows(
    tmp_path: Path, random_llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vtp.export import ExportOptions, export_model

    options = ExportOptions(stages=("1:0.5:attention",), targets=("onnx",))
    manifest = export_model(str(random_llava), tmp_path / "staged", options)
    limits = make_limits(manifest, BuildSizes(tokens=100, keep=0.25))
    assert capacities(manifest.plan, limits) == (100, 100 - 16 + 4)


@pytest.mark.parametrize(
    ("tokens", "images", "message"),
    [
        (10**6, 1, "this is the model's context"),
        (100, 1, "includes the image tokens"),
        (None, 40, "includes the image tokens"),
    ],
)
def test_limits_out_of_reach(
    tiny_bundle: Path, tokens: int | None, images: int, message: str
) -> None:
    manifest = Bundle(tiny_bundle).manifest
    with pytest.raises(BeyondLimits, match=message):
        make_limits(manifest, BuildSizes(tokens=tokens, images=images))


def test_a_request_beyond_the_profile_names_limit_and_remedy(built: Path) -> None:
    manifest = Bundle(built).manifest
    plan, limits = manifest.plan, make_limits(manifest, BuildSizes(tokens=400, keep=64))
    check_request(plan, limits, plan.counts(64, 1), plan.extent(1), "vtp build DIR")
    with pytest.raises(BeyondLimits, match=r"65, but the limit is 64; .*--max-keep"):
        check_request(plan, limits, plan.counts(65, 1), plan.extent(1), "vtp build DIR")
    with pytest.raises(BeyondLimits, match=r"2, but the limit is 1; .*--max-images"):
        check_request(plan, limits, plan.counts(64, 2), plan.extent(2), "vtp build DIR")


def test_a_cache_longer_than_built_is_refused(tiny_bundle: Path) -> None:
    pipeline = load(tiny_bundle, "cpu")
    decoder = pipeline.decoder
    graphs = {"language.0": decoder.graphs[0]}
    table = pipeline.bundle.embedding_table()
    fixed = Decoder(pipeline.engine, decoder.plan, decoder.language, table, graphs, [300])
    assert fixed.cache(200).stages[0].capacity == 300
    with pytest.raises(ContextTooLong, match=r"301 tokens .* holds 300"):
        fixed.cache(301)


# --- what is refused ------------------------------------------------------------------------


def test_a_target_that_the_library_does_not_take(tmp_path: Path, random_llava: Path) -> None:
    from vtp.export import ExportOptions, export_model

    export_model(str(random_llava), tmp_path / "ort", ExportOptions(targets=("ort",)))
    before = files(tmp_path / "ort")
    with pytest.raises(TargetMissing, match="--target ort --target onnx"):
        build_variant(tmp_path / "ort", RTX)
    assert files(tmp_path / "ort") == before


@pytest.mark.parametrize(
    ("flavour", "version", "target"),
    [
        ("tensorrt", (10, 3, 0), "trt10"),
        ("tensorrt", (10, 14, 1), "trt10"),
        ("tensorrt", (10, 15, 1), "onnx"),
        ("tensorrt", (11, 4, 0), "onnx"),
        ("tensorrt-rtx", (1, 7, 1), "onnx"),
    ],
)
def test_which_target_a_library_takes(flavour: str, version: tuple[int, ...], target: str) -> None:
    assert target_for(flavour, version) == target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compute_capabilities": ("89",)}, "MAJOR.MINOR"),
        ({"name": "../out"}, "letters, digits"),
        ({"topk": "fast"}, "plugin or native"),
    ],
)
def test_options_out_of_range(tiny_bundle: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionInvalid, match=message):
        build_variant(tiny_bundle, replace(RTX, **change))
    assert not (tiny_bundle / "engines").exists()


def test_a_card_that_the_library_does_not_know(
    tiny_bundle: Path, copy_of: Callable[[Path], Path]
) -> None:
    bundle = copy_of(tiny_bundle)
    before = files(bundle)
    with pytest.raises(BuildFailed, match=r"5\.0"):
        build_variant(bundle, replace(RTX, compute_capabilities=("5.0",), topk="native"))
    assert files(bundle) == before


def test_a_card_that_is_too_old_for_the_plugin(tiny_bundle: Path) -> None:
    old = replace(RTX, compute_capabilities=("7.5",))
    with pytest.raises(
        KernelUnavailable, match=r"capability 7\.5 .*any from 8\.0 on.*--topk native"
    ):
        build_variant(tiny_bundle, old)


def test_engines_much_larger_than_their_weights_are_told(
    tiny_bundle: Path, copy_of: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(BuildProgress):
        def __init__(self) -> None:
            self.steps: list[str] = []
            self.warnings: list[str] = []

        def step(self, text: str) -> None:
            self.steps.append(text)

        def warn(self, text: str) -> None:
            self.warnings.append(text)

    told = Told()
    # The sample model is so small that the code of its kernels outweighs its weights.
    monkeypatch.setattr(building, "_SMALL", 0)
    monkeypatch.setattr(building, "available_memory", lambda: 10**6)
    build_variant(copy_of(tiny_bundle), RTX, told)
    assert any("times the bytes of its weights" in text for text in told.warnings)
    assert any("may need more memory than is free" in text for text in told.warnings)
    assert any("about 1.0 GB of memory, 0.0 GB free" in text for text in told.steps)


@pytest.mark.parametrize("without_body", [True, False])
def test_what_tensorrt_wants_fixed_is_written_into_a_copy(
    tiny_bundle: Path, tmp_path: Path, without_body: bool
) -> None:
    import onnx

    bundle = Bundle(tiny_bundle)
    before = files(tiny_bundle)
    made = {}
    for name in ("vision", "language.0"):
        (tmp_path / name).mkdir()
        source = bundle.file(bundle.manifest.graph(name, "onnx").file)
        path = write_for_tensorrt(
            source, tmp_path / name, 300, "float32", without_body=without_body
        )
        made[name] = onnx.load(str(path), load_external_data=False)
        link = path.with_name(bundle.manifest.weights.file)
        assert link.resolve() == bundle.file(bundle.manifest.weights.file).resolve()
    assert files(tiny_bundle) == before
    bodies = [function.name for function in made["vision"].functions]
    assert bodies == ([] if without_body else ["TopKTokens"])
    (cache,) = (v for v in made["language.0"].graph.input if v.name == "past_key_values.0.key")
    assert cache.type.tensor_type.shape.dim[2].dim_value == 300
    for node in made["language.0"].graph.node:
        if node.op_type == "Attention":
            assert "TRT_decomposable" in {a.name for a in node.attribute}


def test_more_than_the_native_operator_keeps(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "NATIVE_LIMIT", 100)
    with pytest.raises(BeyondLimits, match="256, but the limit is 100; build with --topk plugin"):
        build_variant(tiny_bundle, replace(RTX, topk="native"))
    monkeypatch.setattr(building, "PLUGIN_LIMIT", 100)
    with pytest.raises(BeyondLimits, match="256, but the limit is 100; build with --topk native"):
        build_variant(tiny_bundle, RTX)


def test_a_library_that_is_not_here(tiny_bundle: Path) -> None:
    if building.FLAVOURS["tensorrt"].installed():
        pytest.skip("TensorRT is installed")
    with pytest.raises(EngineUnavailable, match="JetPack"):
        build_variant(tiny_bundle, BuildOptions(engine="tensorrt"))


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            BuildKilled,
            "because memory ran out",
        ),
        ("import os; os.abort()", BuildFailed, "ended with status -6"),
        ("print()", BuildFailed, "ended with status 0"),
    ],
)
def test_a_build_process_that_dies(
    tiny_bundle: Path,
    copy_of: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    error: type[Exception],
    message: str,
) -> None:
    bundle = copy_of(tiny_bundle)
    before = files(bundle)
    monkeypatch.setattr(building, "CHILD", [sys.executable, "-c", script])
    with pytest.raises(error, match=message):
        build_variant(bundle, RTX)
    assert files(bundle) == before
    assert not (bundle / "engines").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_the_bundle_as_it_was(
    start_vtp: Any, built: Path, copy_of: Callable[[Path], Path], number: signal.Signals
) -> None:
    bundle = copy_of(built)
    before = files(bundle)
    process = start_vtp("build", bundle, "--engine", "tensorrt-rtx", "--max-tokens", "400")
    for line in process.stderr:
        if line.startswith("building language.0"):
            process.send_signal(number)
            break
    process.communicate(timeout=120)
    assert process.returncode > 0
    assert files(bundle) == before


# --- loading --------------------------------------------------------------------------------

HERE = Here(version="1.7.1.116", machine="x86_64", capability="8.9")


@pytest.mark.parametrize(
    ("here", "message"),
    [
        (
            replace(HERE, version="1.8.0"),
            "tensorrt-rtx version 1.7.1.116, but this machine has 1.8.0",
        ),
        (replace(HERE, machine="aarch64"), "machine type x86_64, but this machine has aarch64"),
        (replace(HERE, capability="12.0"), "--compute-capability 8.9 .*--compute-capability 12.0"),
    ],
)
def test_engines_for_something_else_say_how_to_rebuild(
    built: Path, here: Here, message: str
) -> None:
    bundle = Bundle(built)
    (variant,) = bundle.manifest.variants
    variant = replace(variant, version="1.7.1.116", machine="x86_64")
    assert misfit(bundle, variant, HERE) is None
    found = misfit(bundle, variant, here)
    assert isinstance(found, VariantMismatch)
    assert f"vtp build {built} --engine tensorrt-rtx" in str(found)
    with pytest.raises(VariantMismatch, match=message):
        raise found


def test_another_plugin_version_is_refused(built: Path) -> None:
    bundle = Bundle(built)
    (variant,) = bundle.manifest.variants
    here = replace(HERE, version=variant.version, machine=variant.machine)
    assert misfit(bundle, variant, here) is None
    assert "plugin version 0" in str(misfit(bundle, replace(variant, plugin="0"), here))


def test_the_newest_variant_that_fits_is_taken(built: Path) -> None:
    bundle = Bundle(built)
    (variant,) = bundle.manifest.variants
    older, newer = (replace(variant, name=name) for name in ("older", "newer"))
    bundle.manifest = replace(bundle.manifest, variants=(older, newer))

    def choose(choice: str | None, broken: tuple[str, ...] = ()) -> str:
        def check(_: Bundle, variant: Any) -> Exception | None:
            return KeyError(variant.name) if variant.name in broken else None

        return VariantSource.choose(bundle, "tensorrt-rtx", choice, check).name

    assert choose(None) == "newer"
    assert choose("older") == "older"
    assert choose(None, broken=("newer",)) == "older"
    with pytest.raises(KeyError, match="newer"):
        choose(None, broken=("newer", "older"))
    with pytest.raises(VariantMissing, match=r"built: older, newer.*vtp build"):
        choose("another")


def test_an_engine_file_from_elsewhere_is_not_loaded(
    built: Path, copy_of: Callable[[Path], Path]
) -> None:
    bundle = Bundle(copy_of(built))
    (variant,) = bundle.manifest.variants
    source = VariantSource(bundle, variant)
    with source.verified(all_files=False):
        pass
    path = source.file("language.0")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with (
        pytest.raises(BundleCorrupted, match=r"language\.0.*another sha256"),
        source.verified(all_files=False),
    ):
        pytest.fail("it was not refused")


def test_a_variant_that_the_engine_has_not_is_told(built: Path, vtp: Any) -> None:
    with pytest.raises(
        OptionInvalid, match=r"variant 'tensorrt-rtx' .*engine cpu \(none was built\)"
    ):
        load(built, "cpu", variant="tensorrt-rtx")
    told = vtp("run", built, "--variant", "fast", "--prompt", "what?").error()
    assert (
        told
        == "variant 'fast' is not accepted: give a variant built for engine auto (tensorrt-rtx)"
    )


def test_without_a_device_the_engine_says_so(built: Path) -> None:
    from vtp.runtime.engines import cuda_memory

    if cuda_memory.missing() is None:
        pytest.skip("there is a CUDA device")
    with pytest.raises(EngineUnavailable, match="CUDA finds no device"):
        load(built, "tensorrt-rtx")
