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
            f"{str(path)!r} is not a bundle (it has no manifest.json): make one with "
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
            f"manifest.json has schema version {found}, but this vtp reads up to {supported}: "
            "update vtp with pip install -U vtp-toolkit, or export the model again"
        )


class ManifestTooOld(BundleError, ValueError):
    """The manifest was written by an older vtp, in a schema that is no longer read."""

    def __init__(self, found: object, supported: int) -> None:
        super().__init__(
            f"manifest.json has schema version {found}, but this vtp reads {supported} or newer: "
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
            f"the {what} of the guide ({guide}) differs from that of the large model ({large}): a "
            "guide needs the same tokenizer, chat template and image tokens; use a smaller model "
            "of the same family"
        )


class BundleCorrupted(BundleError, ValueError):
    """A file of the bundle is not what the manifest says."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(
            f"bundle file {name!r} {problem}: it was changed, or its copy is incomplete; "
            "copy the bundle again, or export the model again"
        )


class UnsafePath(BundleError, ValueError):
    """A path in a bundle that leads out of it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"path {path!r} in the bundle {problem}, but every file of a bundle must be inside its "
            "folder: do not use this bundle unless you know who made it"
        )
