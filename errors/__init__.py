"""Every error that vtp raises on purpose.

    VtpError
    ├── KeepOutOfRange              (ValueError)
    ├── KeepCountMismatch           (ValueError)
    ├── KeepGrows                   (ValueError)
    ├── ImagesDiffer                (ValueError)
    ├── AverageOutOfReach           (ValueError)
    ├── MissingPackage              (ImportError)
    ├── ModelError
    │   ├── ModelNotFound           (FileNotFoundError)
    │   ├── ModelFileMissing        (FileNotFoundError)
    │   ├── LfsPointer              (ValueError)
    │   ├── AdapterFolder           (ValueError)
    │   ├── OriginalLayout          (ValueError)
    │   ├── QuantizedModel          (ValueError)
    │   ├── ModelNotSupported       (ValueError)
    │   ├── TokenMissing            (ValueError)
    │   ├── UnsafeWeights           (ValueError)
    │   └── WeightsMismatch         (ValueError)
    ├── ExportError
    │   ├── MethodUnknown           (LookupError)
    │   ├── MethodsDoNotCombine     (ValueError)
    │   ├── ParameterInvalid        (ValueError)
    │   ├── ScoreUnknown            (LookupError)
    │   ├── ScoreNotAvailable       (ValueError)
    │   ├── LayerOutOfRange         (ValueError)
    │   ├── PlanInvalid             (ValueError)
    │   ├── OutputExists            (FileExistsError)
    │   ├── GraphNotLowered         (RuntimeError)
    │   ├── MixedTypes              (TypeError)
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
    │   ├── ArgumentsSwapped        (TypeError)
    │   ├── ImageCountMismatch      (ValueError)
    │   ├── OneTurnOnly             (ValueError)
    │   ├── EmptyPrompt             (ValueError)
    │   └── ContextTooLong          (ValueError)
    ├── ConversationError
    │   ├── AlreadyClosed           (RuntimeError)
    │   ├── AnswerOutdated          (RuntimeError)
    │   ├── RequestOutdated         (RuntimeError)
    │   └── SettingRepeated         (TypeError)
    ├── CalibrationError
    │   ├── DataUnreadable          (ValueError)
    │   ├── DataInvalid             (ValueError)
    │   ├── BoundNotMet             (ValueError)
    │   ├── JournalInvalid          (ValueError)
    │   ├── JournalBusy             (RuntimeError)
    │   └── NotCalibratable         (ValueError)
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

from .base import (
    MissingPackage,
    OptionInvalid,
    VtpError,
)
from .bundle import (
    BundleCorrupted,
    BundleError,
    BundleNotFound,
    GuideMismatch,
    GuideMissing,
    ManifestInvalid,
    ManifestTooNew,
    ManifestTooOld,
    UnsafePath,
)
from .calibration import (
    BoundNotMet,
    CalibrationError,
    DataInvalid,
    DataUnreadable,
    JournalBusy,
    JournalInvalid,
    NotCalibratable,
)
from .conversation import (
    AlreadyClosed,
    AnswerOutdated,
    ConversationError,
    RequestOutdated,
    SettingRepeated,
)
from .engine import (
    BeyondLimits,
    BuildFailed,
    BuildKilled,
    EngineError,
    EngineUnavailable,
    EngineUnknown,
    KernelUnavailable,
    RunFailed,
    TargetMissing,
    VariantMismatch,
    VariantMissing,
    VerifyFailed,
)
from .export import (
    DiskFull,
    ExportError,
    GraphNotLowered,
    LayerOutOfRange,
    MethodsDoNotCombine,
    MethodUnknown,
    MixedTypes,
    NotQuantizable,
    OutputExists,
    ParameterInvalid,
    ParityFailed,
    PlanInvalid,
    ScoreNotAvailable,
    ScoreUnknown,
    TargetLacksType,
    WeightsNotCopied,
)
from .keeps import (
    AverageOutOfReach,
    ImagesDiffer,
    KeepCountMismatch,
    KeepGrows,
    KeepOutOfRange,
)
from .media import (
    ImageError,
    ImageTooLarge,
    ImageTypeNotAllowed,
    ImageUnreadable,
    VideoNotSupported,
    VideoUnreadable,
)
from .model import (
    AdapterFolder,
    LfsPointer,
    ModelError,
    ModelFileMissing,
    ModelNotFound,
    ModelNotSupported,
    OriginalLayout,
    QuantizedModel,
    TokenMissing,
    UnsafeWeights,
    WeightsMismatch,
)
from .prompt import (
    ArgumentsSwapped,
    ContextTooLong,
    EmptyPrompt,
    ImageCountMismatch,
    OneTurnOnly,
    PromptError,
    SamplingInvalid,
)

__all__ = [
    "AdapterFolder",
    "AlreadyClosed",
    "AnswerOutdated",
    "ArgumentsSwapped",
    "AverageOutOfReach",
    "BeyondLimits",
    "BoundNotMet",
    "BuildFailed",
    "BuildKilled",
    "BundleCorrupted",
    "BundleError",
    "BundleNotFound",
    "CalibrationError",
    "ContextTooLong",
    "ConversationError",
    "DataInvalid",
    "DataUnreadable",
    "DiskFull",
    "EmptyPrompt",
    "EngineError",
    "EngineUnavailable",
    "EngineUnknown",
    "ExportError",
    "GraphNotLowered",
    "GuideMismatch",
    "GuideMissing",
    "ImageCountMismatch",
    "ImageError",
    "ImageTooLarge",
    "ImageTypeNotAllowed",
    "ImageUnreadable",
    "ImagesDiffer",
    "JournalBusy",
    "JournalInvalid",
    "KeepCountMismatch",
    "KeepGrows",
    "KeepOutOfRange",
    "KernelUnavailable",
    "LayerOutOfRange",
    "LfsPointer",
    "ManifestInvalid",
    "ManifestTooNew",
    "ManifestTooOld",
    "MethodUnknown",
    "MethodsDoNotCombine",
    "MissingPackage",
    "MixedTypes",
    "ModelError",
    "ModelFileMissing",
    "ModelNotFound",
    "ModelNotSupported",
    "NotCalibratable",
    "NotQuantizable",
    "OneTurnOnly",
    "OptionInvalid",
    "OriginalLayout",
    "OutputExists",
    "ParameterInvalid",
    "ParityFailed",
    "PlanInvalid",
    "PromptError",
    "QuantizedModel",
    "RequestOutdated",
    "RunFailed",
    "SamplingInvalid",
    "ScoreNotAvailable",
    "ScoreUnknown",
    "SettingRepeated",
    "TargetLacksType",
    "TargetMissing",
    "TokenMissing",
    "UnsafePath",
    "UnsafeWeights",
    "VariantMismatch",
    "VariantMissing",
    "VerifyFailed",
    "VideoNotSupported",
    "VideoUnreadable",
    "VtpError",
    "WeightsMismatch",
    "WeightsNotCopied",
]
