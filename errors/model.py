"""A checkpoint that cannot be read or is not known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .base import VtpError, first


class ModelError(VtpError):
    """Something about the model that is to be exported."""


class ModelNotFound(ModelError, FileNotFoundError):
    """Neither a preset, nor a folder, nor a model that the hub could deliver."""

    def __init__(self, model: str, presets: Iterable[str], reason: str | None = None) -> None:
        why = f" ({reason})" if reason else ""
        super().__init__(
            f"model {model!r} was not found{why}: give a preset ({', '.join(presets)}), "
            "a hub id such as org/name, or the path of a local folder with config.json, "
            "tokenizer.json, preprocessor_config.json and *.safetensors"
        )

    def __str__(self) -> str:
        return str(self.args[0])


class ModelFileMissing(ModelError, FileNotFoundError):
    """A model folder lacks a file that export needs."""

    def __init__(self, folder: Path, name: str, hint: str = "") -> None:
        super().__init__(
            f"model folder {str(folder)!r} has no {name}"
            + (f": {hint}" if hint else ": download the complete model and give its folder")
        )

    def __str__(self) -> str:
        return str(self.args[0])


class LfsPointer(ModelError, ValueError):
    """A file that git left as the pointer that stands for it."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(
            f"{name} in model folder {str(folder)!r} is a Git LFS pointer, not the file itself: "
            "run 'git lfs pull' in the folder, or download the model again"
        )


class AdapterFolder(ModelError, ValueError):
    """A folder that holds an adapter (LoRA) and not the model that it changes."""

    def __init__(self, folder: Path, kind: str, base: str) -> None:
        super().__init__(
            f"model folder {str(folder)!r} holds an adapter ({kind}) of {base}, not a model: merge "
            "it into that model first (peft: PeftModel.from_pretrained(model, folder)"
            ".merge_and_unload().save_pretrained(merged), and save the processor there too), then "
            "export the merged folder"
        )


class OriginalLayout(ModelError, ValueError):
    """A model in the form of its authors' own code, which a converted repository has in the form
    of transformers."""

    def __init__(self, what: str, converted: str) -> None:
        super().__init__(
            f"this is {what} in the format of its authors' own code, which vtp never runs: export "
            f"the same model in the format of transformers, {converted}"
        )


class QuantizedModel(ModelError, ValueError):
    """Weights that somebody has quantized already."""

    def __init__(self, how: str, base: str = "") -> None:
        super().__init__(
            f"the weights of the model are already quantized ({how}), but only float weights can "
            f"be exported: give the model that they were made from{base}, and quantize it with "
            "--weights int4 or int8"
        )


class ModelNotSupported(ModelError, ValueError):
    """The model's family, or something within the family, cannot be exported."""

    def __init__(self, what: str, supported: Iterable[str]) -> None:
        super().__init__(f"{what} is not supported; supported: {', '.join(supported)}")


class TokenMissing(ModelError, ValueError):
    """A tokenizer that does not know the token that stands for an image or a video."""

    def __init__(self, folder: Path, kind: str, number: int, size: int) -> None:
        super().__init__(
            f"the tokenizer in {str(folder)!r} has no {kind} token: according to config.json it "
            f"has id {number}, but the tokenizer ({size} tokens) has no token there that it "
            "produces from text; use the tokenizer files of the model's repository, or add the "
            "token to the tokenizer at that id and save it"
        )


class UnsafeWeights(ModelError, ValueError):
    """Weights in a format that can run code when it is read."""

    def __init__(self, folder: Path, found: str) -> None:
        super().__init__(
            f"model folder {str(folder)!r} has its weights as {found}, which can run code when it "
            "is read: convert them to safetensors, the only format that vtp reads "
            "(model.save_pretrained(folder) in transformers does this)"
        )


class WeightsMismatch(ModelError, ValueError):
    """Weights that are not those of the model that config.json describes."""

    def __init__(
        self, folder: Path, missing: Sequence[str], extra: Sequence[str], wrong: Sequence[str]
    ) -> None:
        kinds = (("missing", missing), ("unknown to the model", extra), ("of another shape", wrong))
        problems = [f"{len(names)} {what}: {first(names)}" for what, names in kinds if names]
        super().__init__(
            f"the weights in {str(folder)!r} do not match its config.json: tensors "
            f"{'; '.join(problems)}; download the complete model, or correct config.json"
        )
