"""Which tests ``make test`` leaves to ``make test-all``, and why nothing is unguarded without them.

``make test`` is what a change needs: it takes 9 minutes on two cores. A pattern is matched
against the whole name of a test; ``KEPT`` wins over ``EXTENDED``.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

EXTENDED: dict[str, str] = {
    "tests/shown/test_vtp.py::test_it_runs*": "commands of the pages; test_known.py knows them",
    "tests/shown/test_python.py::test_it_runs*": "scripts of the pages; test_known.py knows them",
    "tests/calibration/test_keep.py::test_the_choice_holds*": "figures of test_bound.py",
    "tests/calibration/test_exit.py::test_the_choice_holds*": "the table's own test beside it",
    "tests/calibration/test_exit.py::test_a_threshold_does*": "test_wishes, on the same answers",
    "tests/calibration/test_schedule.py::test_it_beats*": "the search's own tests beside it",
    "tests/calibration/test_interruption.py::*": "the same with SIGINT",
    "tests/calibration/test_quantize.py::test_held_out*": "the bound's own tests beside it",
    "tests/calibration/test_quantize.py::test_tensorrt_rtx*": "builds of exported graphs",
    "tests/calibration/test_quantize.py::test_awq*": "tests/export/test_awq.py",
    "tests/calibration/test_quantize.py::test_a_bundle_that_was_checked*": "the whole bundle",
    "tests/calibration/test_quantize.py::test_the_part_that_suffers*": "tests/export/test_qdq.py",
    "tests/calibration/test_quantize.py::test_a_bound_out_of_reach*": "as in test_keep.py",
    "tests/bench/gpu/test_engines.py::*": "for a device; test_main.py runs them without one",
    "tests/bench/gpu/test_transformers.py::*": "as above",
    "tests/bench/test_real_model.py::*": "a benchmark",
    "tests/export/test_check_depth.py::test_every_kind*": "one kind, of the family that is added",
    "tests/export/test_library_settings.py::test_a_window*": "the context's own tests beside it",
    "tests/export/test_library_settings.py::test_a_long_rope*": "as above",
    "tests/export/test_published_folders.py::test_mistakes*": "each mistake, in test_bad_input.py",
    "tests/export/test_published_folders.py::test_a_type_in_a_part*": "one type in one part",
    "tests/export/test_tensorrt_rtx.py::test_every_graph_builds*": "a build of each kind of graph",
    "tests/export/test_trt10.py::test_every_operator*": "the methods with the most operators",
    "tests/export/test_bound_addresses.py::test_the_golden*": "two turns, at the same addresses",
    "tests/export/test_bound_addresses.py::test_a_provider*": "a missing one, in test_doctor.py",
    "tests/families/test_video.py::*[[]*/*[]]": "the same models in transformers' layout",
    "tests/families/test_internvl.py::*[[]*/*[]]": "the same, and test_hub.py",
    "tests/families/test_qwen.py::*[[]Qwen/*": "as above",
    "tests/families/test_qwen.py::test_tensorrt*-qwen2_vl[]]": "qwen2_5_vl, which has windows too",
    "tests/families/test_decoder_methods.py::*-fastv-*": "schedule, with the same score and more",
    "tests/families/test_decoder_methods.py::*-llava_next[]]": "the same model as on the hub",
    "tests/families/test_build.py::test_a_build_takes*": "that every graph builds",
    "tests/families/test_adding_a_family.py::test_tensorrt*": "that every graph of a family builds",
    "tests/families/test_adding_a_family.py::test_every_target*": "one target, two methods",
    "tests/families/test_adding_a_family.py::*[[]2-attention[]]": "a drop before the plane",
    "tests/families/test_hub.py::*": "three repositories",
    "tests/families/test_full_size.py::*": "one size, its tower cut",
    "tests/trt_plugins/test_kernel.py::test_source_meets*": "test_shipped_ptx.py",
    "tests/trt_plugins/test_shipped_ptx.py::test_scores*-16[]]": "the same in words of 32 bits",
    "tests/trt_plugins/test_shipped_ptx.py::test_ties*-16[]]": "as above",
    "tests/trt_plugins/test_shipped_ptx.py::test_rows_may*-16[]]": "as above",
    "tests/trt_plugins/test_shipped_ptx.py::*on_many_tokens*": "the same code on fewer tokens",
    "tests/test_without_torch.py::test_without_extras*": "a device's environment",
    "tests/test_bad_input.py::test_a_hub_that_cannot*[[]True[]]": "the other case",
    "tests/test_without_torch.py::test_without_an_engine*": "as above",
    "tests/shown/test_vtp.py::test_a_line_of_python_runs*Video*": "tests/test_python_page.py",
    "tests/bench/test_llamacpp.py::test_the_file_has*": "a benchmark",
    "tests/bench/test_llamacpp.py::test_all_sides*": "a benchmark",
    "tests/export/test_precision.py::*pyramiddrop*": "the same types with FasterVLM",
    "tests/export/test_library_settings.py::test_features_of_several*": "two layers, not three",
    "tests/export/test_library_settings.py::test_qwen_with_yarn*": "the same angles of a LLaVA",
    "tests/export/test_quantize.py::test_onnx_runtime_fuses*float16[]]": "the same in float32",
    "tests/families/test_anyres.py::*[[]*llava-hf/*": "the same models in transformers' layout",
    "tests/families/test_anyres.py::*[[]llava_next-mistral[]]": "mistral in test_parity.py",
    "tests/export/test_parity.py::*[[]last-layer-*": "InternVL and LLaVA-OneVision, which read it",
    "tests/export/test_parity.py::*[[]qwen2-*": "the same two, with this decoder",
    "tests/export/test_quantize.py::*[[]qwen2-*": "grouped-query, in the same bits",
    "tests/export/test_vision_methods.py::*[[]siglip-v*": "as on CLIP, and siglip-fastervlm",
    "tests/export/test_decoder_methods.py::*: 1 images, (0.*": "the same of two images",
    "tests/export/test_decoder_methods.py::test_a_second_turn*-1[]]": "as above",
    "tests/export/test_library_settings.py::test_rotary*": "llama3-rope in test_parity.py",
    "tests/test_interrupt.py::*[[]2-reading*": "an interruption later on",
    "tests/test_interrupt.py::*[[]15-*": "the same with SIGINT",
}
"""Pattern -> what stands for these tests in the default tier."""

KEPT: tuple[str, ...] = (
    "tests/shown/test_vtp.py::test_it_runs[[]vtp list*",
    "tests/shown/test_vtp.py::test_it_runs[[]vtp inspect*",
    "tests/shown/test_vtp.py::test_it_runs[[]vtp doctor*",
    "tests/shown/test_vtp.py::test_it_runs[[]vtp verify*",
    "tests/shown/test_python.py::test_it_runs[[]python docs/make*",
    "tests/calibration/test_interruption.py::*[[]2[]]",
    "tests/export/test_library_settings.py::test_features_of_several*[[]full-[[]1, 4[]][]]",
    "tests/export/test_published_folders.py::test_a_type_in_a_part*[[]parts0-torch_dtype-float32[]]",
    "tests/export/test_tensorrt_rtx.py::*[[]multi-head[]]",
    "tests/export/test_tensorrt_rtx.py::*[[]guide[]]",
    "tests/export/test_trt10.py::*cdpruner*",
    "tests/export/test_trt10.py::*sparsevlm*",
    "tests/families/test_hub.py::*llava-1.5-7b*",
    "tests/families/test_hub.py::*Qwen2.5-VL-3B*",
    "tests/families/test_hub.py::*InternVL3-1B*",
    "tests/families/test_full_size.py::*[[]llava-7b-4[]]",
    "tests/families/test_full_size.py::test_every_family*",
)
"""Of those, the ones that stay."""


def is_extended(name: str) -> bool:
    """Whether a test is left to ``make test-all``."""
    return _matches(name, EXTENDED) and not _matches(name, KEPT)


def unmatched(names: list[str]) -> list[str]:
    """Patterns that match none of the tests."""
    return [
        pattern
        for pattern in (*EXTENDED, *KEPT)
        if not any(_matches(name, (pattern,)) for name in names)
    ]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
