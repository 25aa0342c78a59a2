"""The weight file holds what numpy makes of the checkpoint, whatever the size of the buffers."""

from __future__ import annotations

import hashlib
import itertools
import json
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

torch = pytest.importorskip("torch")

from vtp.export.source.checkpoint import Checkpoint  # noqa: E402
from vtp.export.weights import streaming  # noqa: E402
from vtp.export.weights.weight_file import WeightFile  # noqa: E402

TYPES = ("float32", "float16", "bfloat16")
NUMPY = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
SHAPES = {
    "matrix": (301, 517),
    "wide": (3, 5000),
    "tall": (5000, 3),
    "vector": (77,),
    "one": (1, 1),
}


def _checkpoint(folder: Path, dtype: str, shards: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(4)
    tensors = {
        name: (torch.randn(shape, generator=generator) * 300).to(getattr(torch, dtype))
        for name, shape in SHAPES.items()
    }
    parts = [dict(list(tensors.items())[n::shards]) for n in range(shards)]
    where = {}
    for number, part in enumerate(parts):
        save_file(part, folder / f"part-{number}.safetensors")
        where |= dict.fromkeys(part, f"part-{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return Checkpoint(folder, lambda key: key)


def _expected(folder: Path, name: str, dtype: str) -> np.ndarray:
    """The tensor as the safetensors library reads it, cast by numpy."""
    for path in folder.glob("part-*.safetensors"):
        with safe_open(path, "pt") as file:
            if name in file.keys():  # noqa: SIM118
                exact = file.get_tensor(name).double().numpy()
                with np.errstate(over="ignore"):
                    return exact.astype(NUMPY[dtype])
    raise KeyError(name)


@pytest.mark.parametrize("block", [2**15, 2**17, 2**27])
@pytest.mark.parametrize(("held", "wanted"), itertools.product(TYPES, TYPES))
def test_bytes_are_numpys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str, wanted: str, block: int
) -> None:
    monkeypatch.setattr(streaming.Sink.__init__, "__defaults__", (block,))
    checkpoint = _checkpoint(tmp_path, held, shards=3)
    weights = WeightFile(wanted)
    for name, shape in SHAPES.items():
        weights.weight(name, shape)
        if len(shape) == 2:
            weights.weight(name, shape[::-1], transposed=True)
    weights.table("table", np.arange(12, dtype=np.float32).reshape(3, 4))
    seen: list[int] = []
    out = tmp_path / "out"
    out.mkdir()
    sha256, size = weights.write(out, checkpoint, seen.append)
    written = (out / "weights.safetensors").read_bytes()
    assert (sha256, size) == (hashlib.sha256(written).hexdigest(), len(written))
    assert seen == sorted(seen)
    assert seen[-1] == size - len(weights.header())
    with safe_open(out / "weights.safetensors", "pt") as file:
        for name, shape in SHAPES.items():
            want = _expected(tmp_path, name, wanted)
            got = file.get_tensor(name)
            assert got.shape == shape
            assert got.view(torch.uint8).numpy().tobytes() == want.tobytes()
            if len(shape) == 2:
                turned = file.get_tensor(f"{name}.transposed").contiguous()
                assert turned.view(torch.uint8).numpy().tobytes() == want.T.tobytes()
        assert torch.equal(file.get_tensor("table").float(), torch.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("wanted", ["float16", "float32"])
def test_memory_is_the_buffers(tmp_path: Path, transposed: bool, wanted: str) -> None:
    shape, block = (4096, 2000), 2**20
    save_file({"big": torch.zeros(shape, dtype=torch.float16)}, tmp_path / "model.safetensors")
    place = Checkpoint(tmp_path, lambda key: key).place("big")
    with (tmp_path / "out").open("wb", buffering=0) as file:
        tracemalloc.start()
        try:
            with streaming.Sink(file, block) as sink:
                streaming.copy_tensor(place, wanted, transposed, sink)
                sink.finish()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    # Two buffers, one to read into, and what a tile takes; the tensor has sixteen megabytes.
    assert peak < 3 * block + 2**20
    assert (tmp_path / "out").stat().st_size == 4096 * 2000 * np.dtype(wanted).itemsize


def test_a_failing_disk_is_an_error(tmp_path: Path) -> None:
    save_file({"big": torch.zeros(1000, 1000)}, tmp_path / "model.safetensors")
    place = Checkpoint(tmp_path, lambda key: key).place("big")
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with (
        full.open("wb", buffering=0) as file,
        streaming.Sink(file, 2**16) as sink,
        pytest.raises(OSError, match="No space"),
    ):
        streaming.copy_tensor(place, "float32", True, sink)
