"""What an export cannot do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .base import VtpError, first, listed


class ExportError(VtpError):
    """Something went wrong while a bundle was made."""


class MethodUnknown(ExportError, LookupError):
    """No pruning method of that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"method {name!r} is unknown; known: {', '.join(known)}")


class MethodsDoNotCombine(ExportError, ValueError):
    """Methods that cannot work in one bundle."""

    def __init__(self, names: Sequence[str], problem: str) -> None:
        super().__init__(
            f"methods {listed(names)} cannot be combined: {problem}; one method on the vision side "
            "and one inside the decoder can be, such as fastervlm+pyramiddrop"
        )


class ParameterInvalid(ExportError, ValueError):
    """A parameter that a method does not have, or a value that it does not take."""

    def __init__(self, method: str, name: str, value: object, accepted: str) -> None:
        super().__init__(
            f"parameter {name}={value!r} of method {method!r} is not accepted: give {accepted}"
        )


class ScoreUnknown(ExportError, LookupError):
    """No score of that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"score {name!r} is unknown; known: {listed(known)}")


class ScoreNotAvailable(ExportError, ValueError):
    """A score that the model, or the rest of the plan, cannot deliver."""

    def __init__(self, name: str, reason: str | None = None) -> None:
        super().__init__(
            f"{name!r} "
            + (
                reason
                or "ranks by the [CLS] token, which this vision tower does not have: add --set "
                "score=column-mean, or use a method that needs no attention "
                "(divprune, cdpruner, uniform, random)"
            )
        )


class LayerOutOfRange(ExportError, ValueError):
    """A drop at a layer where none can be."""

    def __init__(self, method: str, layers: Sequence[int], depth: int) -> None:
        super().__init__(
            f"{method!r} drops before layer(s) {listed(layers)}, but this decoder has {depth} "
            f"layers: give ascending layers in 1..{depth - 1}"
        )


class PlanInvalid(ExportError, ValueError):
    """A plan file (``vtp export --plan``) that cannot be read, or says something impossible."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(
            f"plan file {source!r} cannot be used: {problem}; make one with "
            "vtp calibrate schedule MODEL --data FILE"
        )


class OutputExists(ExportError, FileExistsError):
    """The output path is taken."""

    def __init__(self, path: Path, replaceable: bool) -> None:
        super().__init__(
            f"{str(path)!r} already exists"
            + (
                ": give --force to replace it, or choose another folder"
                if replaceable
                else " and is not a bundle, so --force does not replace it: choose another folder"
            )
        )

    def __str__(self) -> str:
        return str(self.args[0])


class GraphNotLowered(ExportError, RuntimeError):
    """A graph pass did not find what the traced model must contain."""

    def __init__(self, graph: str, problem: str) -> None:
        super().__init__(
            f"graph {graph!r} could not be lowered: {problem}; this version of transformers or "
            "torch traces the model differently: install the versions in constraints.txt"
        )


class MixedTypes(ExportError, TypeError):
    """A model whose weights are of several types, of which no graph can be made."""

    def __init__(self, dtype: str, others: Mapping[str, str]) -> None:
        named = first([f"{name} ({found})" for name, found in others.items()])
        super().__init__(
            f"the model should have type {dtype}, but its code makes tensors of another type: "
            f"{named}; try another --dtype, or install the versions in constraints.txt"
        )


class DiskFull(ExportError, OSError):
    """Less room than the bundle needs."""

    def __init__(self, folder: Path, needed: int, free: int) -> None:
        super().__init__(
            f"the weights of the bundle need {needed / 1e9:.2f} GB, but {free / 1e9:.2f} GB are "
            f"free in {str(folder.parent)!r}: free some space, or give --out on another disk"
        )

    def __str__(self) -> str:
        return str(self.args[0])


class WeightsNotCopied(ExportError, ArithmeticError):
    """The written weight file is not what the checkpoint holds."""

    def __init__(self, tensor: str, want: float, got: float) -> None:
        super().__init__(
            f"tensor {tensor!r} in the weight file has {got:.6g} where the checkpoint has "
            f"{want:.6g}: it was copied incorrectly, or the disk returns other data than was "
            "written; no bundle was written"
        )


class NotQuantizable(ExportError, ValueError):
    """A matrix that does not split into blocks, or its rows not into bytes."""

    def __init__(self, name: str, shape: tuple[int, int], parts: str, axis: str) -> None:
        count = shape[axis == "inputs"]
        super().__init__(
            f"{name} with {shape[0]} outputs of {shape[1]} inputs cannot be quantized: its {count} "
            f"{axis} cannot be split into {parts}; "
            + ("choose another --block" if axis == "inputs" else "choose --weights int8")
        )


class TargetLacksType(ExportError, ValueError):
    """A type of weights that a target's engines do not take."""

    def __init__(self, target: str, what: str, instead: str) -> None:
        super().__init__(f"target {target} does not support {what}: {instead}")


class ParityFailed(ExportError, ArithmeticError):
    """An exported graph does not compute what the PyTorch model computes."""

    def __init__(self, graph: str, measured: str, tolerance: str) -> None:
        super().__init__(
            f"graph {graph!r} deviates from PyTorch: {measured} (tolerance: {tolerance}); "
            "no bundle was written"
        )
