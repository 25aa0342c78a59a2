"""The process that builds one engine: ``python -m vtp.runtime.engines.tensorrt.child``.

A process of its own, because a build takes a multiple of the weights in memory and the system may
kill it, and because the libraries end the process on some errors. It reads a ``BuildJob`` as a line
on stdin, and answers with a ``BuildReport`` as the last line on stdout.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ...files.strict import read, write
from .flavours import FLAVOURS
from .job import BuildJob, BuildReport

_NUMPY_NAMES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT32": "int32",
    "INT64": "int64",
}


def main() -> None:
    """Build what stdin says."""
    job = read(BuildJob, json.loads(sys.stdin.readline()), "job")
    # Polygraphy takes TensorRT-RTX in place of TensorRT where this says so when it is imported.
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = str(int(job.flavour == "tensorrt-rtx"))
    print(json.dumps(write(_build(job))), flush=True)


def _build(job: BuildJob) -> BuildReport:
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.ERROR
    trt = FLAVOURS[job.flavour].load()
    if job.plugin:
        from ....trt_plugins.plugin import register

        register(trt)
    from polygraphy.backend.trt import NetworkFromOnnxPath

    try:
        parsed = NetworkFromOnnxPath(job.graph, strongly_typed=True)()
        serialized = _engine(job, trt, parsed)
    except PolygraphyException as error:
        return BuildReport(error=" ".join(str(error).split()))
    if serialized is None:
        return BuildReport(error="TensorRT cannot build it; the reasons are above")
    network = parsed[1]
    data = memoryview(serialized)
    Path(job.engine).write_bytes(data)
    return BuildReport(bytes=data.nbytes, ends=_ends(network), selections=_selections(trt, network))


def _engine(job: BuildJob, trt: Any, parsed: Any) -> Any:
    from polygraphy.backend.trt import (
        CreateConfig,
        EngineBytesFromNetwork,
        PostprocessConfig,
        Profile,
    )

    profiles = []
    for shapes in job.profiles:
        profile = Profile()
        for name, (least, typical, most) in shapes.items():
            profile.add(name, tuple(least), tuple(typical), tuple(most))
        profiles.append(profile)
    cache = job.timing_cache if job.timing_cache and Path(job.timing_cache).is_file() else None
    common = {"profiles": profiles, "load_timing_cache": cache}
    if job.flavour == "tensorrt-rtx":
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

        capabilities = [tuple(map(int, text.split("."))) for text in job.capabilities]
        config = PostprocessConfig(
            CreateConfigRTX(compute_capabilities=capabilities or None, **common),
            # float32 means float32; for TensorRT that is what Polygraphy does by itself.
            lambda *made: made[-1].clear_flag(trt.BuilderFlag.TF32),
        )
    else:
        config = CreateConfig(**common)
    return EngineBytesFromNetwork(parsed, config=config, save_timing_cache=job.timing_cache)()


def _ends(network: Any) -> dict[str, str]:
    tensors = [network.get_input(number) for number in range(network.num_inputs)]
    tensors += [network.get_output(number) for number in range(network.num_outputs)]
    return {tensor.name: _NUMPY_NAMES.get(tensor.dtype.name, "?") for tensor in tensors}


def _selections(trt: Any, network: Any) -> tuple[str, ...]:
    """How the layers of a network select: two TopK layers make one selection without the plugin."""
    kinds = [network.get_layer(number).type for number in range(network.num_layers)]
    plugins = sum(kind == trt.LayerType.PLUGIN_V3 for kind in kinds)
    return ("plugin",) * plugins or ("native",) * (kinds.count(trt.LayerType.TOPK) // 2)


if __name__ == "__main__":
    main()
