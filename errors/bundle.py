"""A bundle that is not what it says."""

from __future__ import annotations

from pathlib import Path

from .base import VtpError


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
            f"manifest.json has schema version {found}, this vtp reads {supported} and newer: "
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
