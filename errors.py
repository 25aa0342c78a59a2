"""Every error that vtp raises on purpose.

    VtpError
    ├── KeepOutOfRange              (ValueError)
    ├── KeepCountMismatch           (ValueError)
    ├── KeepGrows                   (ValueError)
    ├── AverageOutOfReach           (ValueError)
    ├── MissingPackage              (ImportError)
    ├── ModelError
    │   ├── ModelNotFound           (FileNotFoundError)
    │   ├── ModelFileMissing        (FileNotFoundError)
    │   ├── ModelNotSupported       (ValueError)
    │   ├── UnsafeWeights           (ValueError)
    │   └── WeightsMismatch         (ValueError)
    ├── ExportError
    │   ├── MethodUnknown           (LookupError)
    │   ├── MethodsDoNotCombine     (ValueError)
    │   ├── ParameterInvalid        (ValueError)
    │   ├── ScoreUnknown            (LookupError)
    │   ├── ScoreNotAvailable       (ValueError)
    │   ├── LayerOutOfRange         (ValueError)
    │   ├── OutputExists            (FileExistsError)
    │   ├── GraphNotLowered         (RuntimeError)
    │   ├── DiskFull                (OSError)
    │   ├── WeightsNotCopied        (ArithmeticError)
    │   ├── NotQuantizable          (ValueError)
    │   ├── TargetLacksType         (ValueError)
    │   └── ParityFailed            (ArithmeticError)
    ├── BundleError
    │   ├── BundleNotFound          (FileNotFoundError)
    │   ├── ManifestInvalid         (ValueError)
    │   ├── ManifestTooNew          (ValueError)
    │   ├── ManifestTooOld          (ValueError)
    │   ├── GuideMissing            (ValueError)
    │   ├── GuideMismatch           (ValueError)
    │   ├── BundleCorrupted         (ValueError)
    │   └── UnsafePath              (ValueError)
    ├── ImageError
    │   ├── ImageUnreadable         (ValueError)
    │   ├── ImageTypeNotAllowed     (ValueError)
    │   ├── ImageTooLarge           (ValueError)
    │   ├── VideoUnreadable         (ValueError)
    │   └── VideoNotSupported       (ValueError)
    ├── PromptError
    │   ├── ImageCountMismatch      (ValueError)
    │   ├── EmptyPrompt             (ValueError)
    │   └── ContextTooLong          (ValueError)
    ├── OptionInvalid               (ValueError)
    ├── SamplingInvalid             (ValueError)
    └── EngineError
        ├── EngineUnknown           (LookupError)
        ├── EngineUnavailable       (RuntimeError)
        ├── RunFailed               (RuntimeError)
        ├── VerifyFailed            (ArithmeticError)
        ├── BeyondLimits            (ValueError)
        ├── TargetMissing           (ValueError)
        ├── BuildFailed             (RuntimeError)
        │   └── BuildKilled         (MemoryError)
        ├── KernelUnavailable       (RuntimeError)
        ├── VariantMissing          (LookupError)
        └── VariantMismatch         (RuntimeError)

A leaf also inherits the builtin that fits, so that callers may catch either. Messages are made
here, from typed arguments: what happened, what was given, what is accepted, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path


class VtpError(Exception):
    """Base of all errors of vtp; the command line prints it as one ``Error:`` line."""


def _listed(items: Iterable[object]) -> str:
    return ", ".join(str(item) for item in items)


def _first(items: Sequence[object]) -> str:
    """The first five, and how many more there are."""
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return _listed(items[:5]) + more


class KeepOutOfRange(VtpError, ValueError):
    """A keep that is neither a ratio in (0, 1] nor a count in 1..total, or cannot be had."""

    def __init__(self, keep: object, total: int | None = None, *, prunes: bool = True) -> None:
        if not prunes:
            super().__init__(
                f"keep {keep!r} is out of range: without pruning all {total} image tokens are "
                "kept; leave keep out, or export with a pruning method"
            )
            return
        count = f"1..{total}" if total else "at least 1"
        super().__init__(
            f"keep {keep!r} is out of range: give a ratio above 0 and up to 1.0 (such as 0.1), "
            f"or a whole count of tokens per image, {count}"
        )


class KeepCountMismatch(VtpError, ValueError):
    """Another number of keeps than the plan has drops."""

    def __init__(self, given: Sequence[object], layers: Sequence[int], total: int) -> None:
        places = ", ".join(
            "the vision graph" if layer == 0 else f"layer {layer}" for layer in layers
        )
        super().__init__(
            f"{len(given)} keep(s) were given ({_listed(given)}), but tokens are dropped at "
            f"{len(layers)} place(s) ({places}): give one keep for each with commas between, in "
            f"that order, each of all {total} tokens of an image; or 1.0 to drop none, or an "
            "average (--average) over the layers"
        )


class KeepGrows(VtpError, ValueError):
    """A later drop that keeps more than an earlier one left."""

    def __init__(self, keeps: Sequence[object]) -> None:
        super().__init__(
            f"keeps {_listed(keeps)} grow: what has been dropped cannot come back; give keeps that "
            "fall or stay equal (each is of all tokens of an image)"
        )


class ImagesDiffer(VtpError, ValueError):
    """A budget for each image, and images with different numbers of tokens."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(
            f"images of {_listed(sizes)} tokens cannot share one count: this plan keeps a share of "
            "each image inside the decoder; ask about them one by one, or export with "
            "--set budget=all"
        )


class AverageOutOfReach(VtpError, ValueError):
    """An average below what the layers before the first drop see."""

    def __init__(self, average: object, least: float) -> None:
        super().__init__(
            f"an average of {average} is out of reach: the layers before the first drop see every "
            f"token, so this plan averages at least {least:.3f} of them; drop at an earlier layer, "
            "or drop in the vision graph too (--method fastervlm+NAME)"
        )


class MissingPackage(VtpError, ImportError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, purpose: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: "
            f"pip install 'vtp-toolkit[{extra}]'"
        )


# --- models ---------------------------------------------------------------------------------


class ModelError(VtpError):
    """Something about the model that is to be exported."""


class ModelNotFound(ModelError, FileNotFoundError):
    """Neither a preset, nor a folder, nor a model that the hub could deliver."""

    def __init__(self, model: str, presets: Iterable[str], reason: str | None = None) -> None:
        why = f" ({reason})" if reason else ""
        super().__init__(
            f"model {model!r} was not found{why}: give a preset ({', '.join(presets)}), "
            "a hub id such as org/name, or the path of a local folder that holds config.json, "
            "tokenizer.json, preprocessor_config.json and *.safetensors"
        )

    def __str__(self) -> str:
        return str(self.args[0])


class ModelFileMissing(ModelError, FileNotFoundError):
    """A model folder lacks a file that export needs."""

    def __init__(self, folder: Path, name: str, hint: str = "") -> None:
        super().__init__(
            f"model folder {str(folder)!r} has no {name}"
            + (f": {hint}" if hint else "; download the complete model and pass its folder")
        )

    def __str__(self) -> str:
        return str(self.args[0])


class ModelNotSupported(ModelError, ValueError):
    """The model's family, or something within the family, cannot be exported."""

    def __init__(self, what: str, supported: Iterable[str]) -> None:
        super().__init__(f"{what} is not supported; supported: {', '.join(supported)}")


class UnsafeWeights(ModelError, ValueError):
    """Weights in a format that can run code when it is read."""

    def __init__(self, folder: Path, found: str) -> None:
        super().__init__(
            f"model folder {str(folder)!r} has its weights as {found}, which can run code when "
            "read; only safetensors are read: convert them "
            "(model.save_pretrained(folder) in transformers writes safetensors)"
        )


class WeightsMismatch(ModelError, ValueError):
    """Weights that are not those of the model that config.json describes."""

    def __init__(
        self, folder: Path, missing: Sequence[str], extra: Sequence[str], wrong: Sequence[str]
    ) -> None:
        kinds = (("missing", missing), ("unknown to the model", extra), ("of another shape", wrong))
        problems = [f"{len(names)} {what}: {_first(names)}" for what, names in kinds if names]
        super().__init__(
            f"the weights in {str(folder)!r} do not fit its config.json: tensors "
            f"{'; '.join(problems)}; download the complete model, or correct config.json"
        )


# --- export ---------------------------------------------------------------------------------


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
            f"methods {_listed(names)} do not combine: {problem}; at most one method of the vision "
            "side and one inside the decoder go together, such as fastervlm+pyramiddrop"
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
        super().__init__(f"score {name!r} is unknown; known: {_listed(known)}")


class ScoreNotAvailable(ExportError, ValueError):
    """A score that the model, or the rest of the plan, cannot deliver."""

    def __init__(self, name: str, reason: str | None = None) -> None:
        super().__init__(
            f"{name!r} "
            + (
                reason
                or "ranks by the [CLS] token, which this vision tower does not have: add --set "
                "score=column-mean, or take a method that needs no attention "
                "(divprune, cdpruner, uniform, random)"
            )
        )


class LayerOutOfRange(ExportError, ValueError):
    """A drop at a layer where none can be."""

    def __init__(self, method: str, layers: Sequence[int], depth: int) -> None:
        super().__init__(
            f"{method!r} drops before layer(s) {_listed(layers)}, but this decoder has {depth} "
            f"layers: give ascending layers in 1..{depth - 1}"
        )


class OutputExists(ExportError, FileExistsError):
    """The output path is taken."""

    def __init__(self, path: Path, replaceable: bool) -> None:
        super().__init__(
            f"{str(path)!r} exists already; "
            + (
                "pass --force to replace it, or another --out"
                if replaceable
                else "it is not a bundle, so it is not replaced even with --force; "
                "give another --out"
            )
        )

    def __str__(self) -> str:
        return str(self.args[0])


class GraphNotLowered(ExportError, RuntimeError):
    """A graph pass did not find what the traced model must contain."""

    def __init__(self, graph: str, problem: str) -> None:
        super().__init__(
            f"graph {graph!r} could not be lowered: {problem}; this version of transformers or "
            "torch traces the model differently: use the versions in constraints.txt"
        )


class DiskFull(ExportError, OSError):
    """Less room than the bundle needs."""

    def __init__(self, folder: Path, needed: int, free: int) -> None:
        super().__init__(
            f"the weights of the bundle need {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free "
            f"in {str(folder.parent)!r}: make room, or give --out on another disk"
        )

    def __str__(self) -> str:
        return str(self.args[0])


class WeightsNotCopied(ExportError, ArithmeticError):
    """The written weight file is not what the checkpoint holds."""

    def __init__(self, tensor: str, want: float, got: float) -> None:
        super().__init__(
            f"tensor {tensor!r} of the weight file holds {got:.6g} where the checkpoint has "
            f"{want:.6g}: it was copied wrongly, or the disk does not keep what is written; no "
            "bundle was written"
        )


class NotQuantizable(ExportError, ValueError):
    """A matrix that does not split into blocks, or its rows not into bytes."""

    def __init__(self, name: str, shape: tuple[int, int], parts: str, axis: str) -> None:
        count = shape[axis == "inputs"]
        super().__init__(
            f"{name} with {shape[0]} outputs of {shape[1]} inputs cannot be quantized: its {count} "
            f"{axis} do not split into {parts}; "
            + ("choose another --block" if axis == "inputs" else "choose --weights int8")
        )


class TargetLacksType(ExportError, ValueError):
    """A type of weights that a target's engines do not take."""

    def __init__(self, target: str, what: str, instead: str) -> None:
        super().__init__(f"target {target} has no {what}: {instead}")


class ParityFailed(ExportError, ArithmeticError):
    """An exported graph does not compute what the PyTorch model computes."""

    def __init__(self, graph: str, measured: str, tolerance: str) -> None:
        super().__init__(
            f"graph {graph!r} deviates from PyTorch: {measured} (tolerated: {tolerance}); "
            "no bundle was written"
        )


# --- bundles --------------------------------------------------------------------------------


class BundleError(VtpError):
    """Something about a bundle on disk."""


class BundleNotFound(BundleError, FileNotFoundError):
    """The path holds no bundle."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{str(path)!r} is no bundle (no manifest.json); make one with: "
            "vtp export MODEL --out DIR"
        )

    def __str__(self) -> str:
        return str(self.args[0])


class ManifestInvalid(BundleError, ValueError):
    """The manifest breaks the schema."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"manifest.json is invalid at {where}: {problem}; export the model again")


class ManifestTooNew(BundleError, ValueError):
    """The manifest was written by a newer vtp."""

    def __init__(self, found: object, supported: int) -> None:
        super().__init__(
            f"manifest.json has schema version {found}, this vtp reads up to {supported}: "
            "update with pip install -U vtp-toolkit, or export the model again"
        )


class ManifestTooOld(BundleError, ValueError):
    """The manifest was written by an older vtp, in a schema that is no longer read."""

    def __init__(self, found: object, supported: int) -> None:
        super().__init__(
            f"manifest.json has schema version {found}, this vtp reads {supported}: "
            "export the model again"
        )


class GuideMissing(BundleError, ValueError):
    """A bundle that needs a guide and has none, or a guide that cannot serve."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class GuideMismatch(BundleError, ValueError):
    """A guide that sees or reads otherwise than the model it is to guide."""

    def __init__(self, what: str, guide: object, large: object) -> None:
        super().__init__(
            f"the guide's {what} ({guide}) is not that of the large model ({large}): a guide needs "
            "the same tokenizer, chat template and image tokens; take a smaller model of the same "
            "family"
        )


class BundleCorrupted(BundleError, ValueError):
    """A file of the bundle is not what the manifest says."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(
            f"bundle file {name!r} {problem}; it was changed or copied incompletely: "
            "copy the bundle again, or export the model again"
        )


class UnsafePath(BundleError, ValueError):
    """A path in a bundle that leads out of it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"path {path!r} in the bundle {problem}; every file of a bundle must lie inside it: "
            "do not use this bundle unless you know who made it"
        )


# --- images ---------------------------------------------------------------------------------


class ImageError(VtpError):
    """Something about an input image or video."""


class ImageUnreadable(ImageError, ValueError):
    """Not an image, or a damaged one."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source} cannot be read as an image: {reason}")


class ImageTypeNotAllowed(ImageError, ValueError):
    """An image format that is not on the list."""

    def __init__(self, source: str, found: str, allowed: Iterable[str]) -> None:
        super().__init__(
            f"{source} is of type {found}, which is not allowed; allowed: {', '.join(allowed)}"
        )


class ImageTooLarge(ImageError, ValueError):
    """More pixels than the limit, found out before decoding."""

    def __init__(self, source: str, width: int, height: int, limit: int) -> None:
        super().__init__(
            f"{source} has {width} x {height} = {width * height:,} pixels, more than the limit of "
            f"{limit:,}; scale it down, or raise the limit (max_pixels, --max-pixels)"
        )


class VideoUnreadable(ImageError, ValueError):
    """Not a video, a damaged one, or one without frames."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source} cannot be read as a video: {reason}")


class VideoNotSupported(ImageError, ValueError):
    """A video for a model that takes images only."""

    def __init__(self) -> None:
        super().__init__("this model takes no video: give images, or export a model that does")


# --- prompts --------------------------------------------------------------------------------


class PromptError(VtpError):
    """Something about the prompt."""


class ImageCountMismatch(PromptError, ValueError):
    """The prompt's image places and the images given differ in number."""

    def __init__(self, places: int, images: int, marker: str) -> None:
        super().__init__(
            f"the prompt has {places} image place(s) ({marker!r}) and {images} image(s) were "
            f"given: give one image for each {marker!r}, or leave the markers out "
            "(they are then put in front)"
        )


class EmptyPrompt(PromptError, ValueError):
    """A prompt without text."""

    def __init__(self) -> None:
        super().__init__("the prompt is empty: give a question or an instruction")


class ContextTooLong(PromptError, ValueError):
    """More tokens than the model or the cache can hold."""

    def __init__(self, needed: int, limit: int, what: str) -> None:
        super().__init__(
            f"{needed} tokens are needed (image + text + new tokens), but {what} holds {limit}: "
            "lower keep or max_new_tokens, shorten the prompt, or give fewer images"
        )


class OptionInvalid(VtpError, ValueError):
    """An option outside what it accepts."""

    def __init__(self, name: str, value: object, accepted: str) -> None:
        super().__init__(f"{name} {value!r} is not accepted: give {accepted}")


class SamplingInvalid(VtpError, ValueError):
    """A sampling setting outside its range."""

    def __init__(self, name: str, value: object, accepted: str) -> None:
        super().__init__(f"{name} {value!r} is not accepted: give {accepted}")


# --- engines --------------------------------------------------------------------------------


class EngineError(VtpError):
    """Something about the engine that runs the graphs."""


class EngineUnknown(EngineError, LookupError):
    """No engine of that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"engine {name!r} is unknown; known: {', '.join(known)}")


class EngineUnavailable(EngineError, RuntimeError):
    """The engine exists, but cannot run here."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"engine {name!r} cannot run here: {reason}")


class RunFailed(EngineError, RuntimeError):
    """A graph that was loaded does not run."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"engine {name!r} could not run a graph: {reason}; where the manifest was edited, "
            "export the model again"
        )


class VerifyFailed(EngineError, ArithmeticError):
    """The golden sample came out differently."""

    def __init__(self, graph: str, engine: str, measured: str, tolerance: str) -> None:
        self.graph, self.measured, self.tolerance = graph, measured, tolerance
        super().__init__(
            f"graph {graph!r} on engine {engine!r} deviates from the golden sample: {measured} "
            f"(tolerated: {tolerance})"
        )


class BeyondLimits(EngineError, ValueError):
    """More than a built engine takes, or can be built for."""

    def __init__(self, what: str, given: int, limit: int, remedy: str) -> None:
        super().__init__(f"{what}: {given}, but the limit is {limit}; {remedy}")


class TargetMissing(EngineError, ValueError):
    """A bundle without the graphs that a library takes."""

    def __init__(self, library: str, target: str, carried: Sequence[str]) -> None:
        wanted = " ".join(f"--target {name}" for name in (*carried, target))
        super().__init__(
            f"{library} takes graphs of target {target!r}, and the bundle carries "
            f"{_listed(carried)}: export the model again with {wanted}"
        )


class BuildFailed(EngineError, RuntimeError):
    """An engine could not be built."""

    def __init__(self, graph: str, engine: str, reason: str) -> None:
        super().__init__(f"{engine} cannot build graph {graph!r}: {reason}")


class BuildKilled(BuildFailed, MemoryError):
    """The process that built an engine was killed, as a system does that has no memory left."""

    def __init__(self, graph: str, engine: str, estimate: int, available: int) -> None:
        super().__init__(
            graph,
            engine,
            "the system killed the build, most likely for lack of memory (about "
            f"{estimate / 1e9:.1f} GB are needed, {available / 1e9:.1f} GB were free): close other "
            "programs, add swap, or build with smaller --max-tokens",
        )


class KernelUnavailable(EngineError, RuntimeError):
    """The compiled selection kernel cannot run on this machine, or its launch was refused."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the CUDA kernel of vtp::TopKTokens cannot run here: {reason}")


class VariantMissing(EngineError, LookupError):
    """No engines of that kind have been built into the bundle."""

    def __init__(self, bundle: object, engine: str, built: Iterable[str]) -> None:
        found = _listed(built) or "none"
        super().__init__(
            f"{str(bundle)!r} holds no engines for {engine!r} (built: {found}): "
            f"vtp build {bundle} --engine {engine}"
        )


class VariantMismatch(EngineError, RuntimeError):
    """Engines that were built for something else than what is here."""

    def __init__(self, variant: str, what: str, built: object, here: object, rebuild: str) -> None:
        super().__init__(
            f"the engines of variant {variant!r} were built for {what} {built}, here is {here}: "
            f"{rebuild}"
        )
