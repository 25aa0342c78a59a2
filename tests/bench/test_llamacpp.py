"""llama.cpp beside the bundles, with stand-ins for its two packages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from vtp.bench import floors, llamacpp
from vtp.bench.gguf_model import BLOCK, BLOCK_BYTES, write_gguf
from vtp.runtime.bundle.bundle import Bundle


class _Settings:
    n_ctx = n_batch = n_ubatch = n_threads = n_threads_batch = 0


class _LlamaCpp(ModuleType):
    """``llama_cpp``: counts tokens in the place of reading them."""

    def __init__(self) -> None:
        super().__init__("llama_cpp")
        self.filled = self.room = 0
        self.backends = 0

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_default_params"):
            return _Settings
        raise AttributeError(name)

    def llama_log_callback(self, function: Any) -> Any:
        return function

    def llama_log_set(self, function: Any, data: Any) -> None:
        function(0, b"", data)

    def llama_backend_init(self) -> None:
        self.backends += 1

    def llama_model_load_from_file(self, path: bytes, settings: _Settings) -> bytes | None:
        return path if Path(path.decode()).is_file() else None

    def llama_init_from_model(self, model: bytes, wanted: _Settings) -> _Settings:
        self.room = wanted.n_ctx
        return wanted

    def llama_get_memory(self, context: _Settings) -> str:
        return "memory"

    def llama_memory_clear(self, memory: str, data: bool) -> None:
        self.filled = 0

    class llama_token(int):  # noqa: N801
        def __mul__(self, count: int) -> Any:
            return lambda *tokens: list(tokens)

    llama_token = llama_token()  # type: ignore[misc, assignment]

    def llama_batch_get_one(self, tokens: list[int], count: int) -> list[int]:
        assert len(tokens) == count
        return tokens

    def llama_decode(self, context: _Settings, batch: list[int]) -> int:
        self.filled += len(batch)
        return int(self.filled > self.room)

    def llama_get_logits(self, context: _Settings) -> None:
        assert self.filled


class _Writer:
    """``gguf.GGUFWriter``: notes what was added."""

    last: _Writer

    def __init__(self, path: Path, architecture: str) -> None:
        self.path, self.fields = path, {"architecture": architecture}
        self.tensors: dict[str, np.ndarray] = {}
        _Writer.last = self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("add_"):
            return lambda value: self.fields.update({name.removeprefix("add_"): value})
        if name.startswith("write_") or name == "close":
            return lambda: self.path.touch()
        raise AttributeError(name)

    def add_tensor(self, name: str, tensor: np.ndarray, raw_dtype: Any = None) -> None:
        assert (raw_dtype == "q4_0") == (tensor.dtype == np.uint8)
        self.tensors[name] = tensor


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> _LlamaCpp:
    """Both packages, as far as they are used."""
    gguf: Any = ModuleType("gguf")
    gguf.GGUFWriter = _Writer
    gguf.GGMLQuantizationType = type("GGMLQuantizationType", (), {"Q4_0": "q4_0"})
    library = _LlamaCpp()
    monkeypatch.setitem(sys.modules, "gguf", gguf)
    monkeypatch.setitem(sys.modules, "llama_cpp", library)
    monkeypatch.setattr(llamacpp, "find_spec", lambda name: sys.modules.get(name))
    monkeypatch.setattr(llamacpp, "version", lambda name: f"of {name}")
    monkeypatch.setattr(floors, "_READ_BYTES", 2**24)
    return library


def test_the_file_has_the_sizes_of_the_decoder(
    packages: _LlamaCpp, tiny_bundle: Path, tmp_path: Path
) -> None:
    language = Bundle(tiny_bundle).manifest.language
    path = write_gguf(tmp_path / "made.gguf", language)
    assert path.is_file()
    written = _Writer.last
    assert written.fields["block_count"] == language.layers
    assert len(written.tensors) == 3 + 9 * language.layers
    up = written.tensors["blk.0.ffn_up.weight"]
    assert up.shape == (language.inner, language.width // BLOCK * BLOCK_BYTES)
    assert [file.name for file in tmp_path.iterdir()] == ["made.gguf"]
    # What is there is taken as it is.
    assert write_gguf(path, language) == path
    assert _Writer.last is written


def test_all_sides_in_one_table(
    packages: _LlamaCpp, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("--threads", "1", "--repeat", "1", "--steps", "2", "--processor-time")
    files = ("--work", str(tmp_path), "--out", str(tmp_path / "made.json"))
    llamacpp.main([str(tiny_bundle), str(tiny_bundle), *sizes, *files])
    out = capsys.readouterr().out
    assert "llama.cpp, keep 0.1" in out
    assert "TTFT, int4 / llama.cpp, keep 1" in out
    assert packages.backends == 1
    (one,) = json.loads((tmp_path / "made.json").read_text())["rounds"]
    assert {"prefill llama.cpp 1", "decode llama.cpp 0.1", "TTFT float32 1"} <= set(one)


def test_a_missing_package_is_named(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llamacpp, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="llama_cpp is not installed: pip install llama-cpp"):
        llamacpp.main([str(tiny_bundle), str(tiny_bundle)])


def test_a_model_that_is_refused(packages: _LlamaCpp, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"llama\.cpp does not take"):
        llamacpp.LlamaCpp(tmp_path / "absent.gguf", 1, 256)
