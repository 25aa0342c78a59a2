"""Another exporter on a decoder of the same size: the model builder of onnxruntime-genai."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..samples.checkpoints.folder import ENDS
from ..samples.checkpoints.random_tensors import RandomTensors
from ..samples.checkpoints.sizes import Text
from ..samples.folder import build_tokenizer, vocabulary
from ..samples.make_checkpoint import stored_shapes


def write_decoder(folder: Path, text: Text) -> None:
    """A ``LlamaForCausalLM`` of random float16 weights in the Hugging Face form."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    ends = {name: vocabulary()[token] for name, token in ENDS.items()}
    settings: dict[str, Any] = {**text.config(), **ends}
    config = LlamaConfig(**settings)
    config.dtype, config.architectures = "float16", ["LlamaForCausalLM"]
    with torch.device("meta"):
        shapes = stored_shapes(LlamaForCausalLM(config))
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=build_tokenizer()).save_pretrained(folder)
    RandomTensors("float16").write_shard(folder / "model.safetensors", shapes)


def rival_command(python: str, model: Path, out: Path) -> list[str]:
    """Exports the decoder in float16; CUDA's graphs, for those of the CPU are float32."""
    builder = [python, "-m", "onnxruntime_genai.models.builder"]
    folders = ["-i", str(model), "-o", str(out), "-c", str(out / "cache")]
    return [*builder, *folders, "-p", "fp16", "-e", "cuda"]
