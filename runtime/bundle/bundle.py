"""A bundle on disk: found, checked, read."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ...errors import (
    BundleCorrupted,
    BundleError,
    BundleNotFound,
    ManifestInvalid,
    UnsafePath,
)
from ..files.onnx_external import external_locations
from ..files.tensorfile import TensorFile
from .manifest import FILE_NAME, FileRecord, GraphRecord, Manifest
from .variants import EngineRecord

TOKENIZER = "tokenizer.json"
_MAX_MANIFEST = 16 * 2**20
_BLOCK = 2**22
_PLAIN_PATH = re.compile(r"[\w.-]{1,100}(/[\w.-]{1,100}){0,3}", re.ASCII)


class Bundle:
    """The folder that ``vtp export`` writes.

    Args:
        path: the folder.

    Raises:
        BundleNotFound: there is no manifest.
        ManifestInvalid, ManifestTooNew: the manifest cannot be read.
        UnsafePath: the manifest names a file outside the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        source = self.path / FILE_NAME
        if not source.is_file():
            raise BundleNotFound(self.path)
        if source.stat().st_size > _MAX_MANIFEST:
            raise ManifestInvalid("the whole file", f"it is larger than {_MAX_MANIFEST:,} bytes")
        try:
            text = source.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ManifestInvalid("the whole file", f"it is not UTF-8 ({error})") from error
        self.manifest = Manifest.from_json(text)
        for record in (*self.records(), *self.engine_records()):
            self.file(record.file)
        golden = self.manifest.golden
        for name in (TOKENIZER, golden.image, golden.tensors):
            if name not in {record.file for record in self.manifest.files}:
                raise ManifestInvalid("files", f"{name!r} is not listed")

    def records(self) -> list[FileRecord | GraphRecord]:
        """Every file that ``vtp export`` wrote, as the manifest lists them."""
        manifest = self.manifest
        return [manifest.weights, *manifest.graphs, *manifest.files]

    def engine_records(self) -> list[EngineRecord]:
        """Every file that ``vtp build`` wrote."""
        return [record for variant in self.manifest.variants for record in variant.engines]

    def file(self, name: str) -> Path:
        """Path of a file of the bundle.

        Raises:
            UnsafePath: the name is absolute, climbs out, or is a link that leads out.
        """
        if not _PLAIN_PATH.fullmatch(name) or ".." in name.split("/"):
            raise UnsafePath(name, "is not a plain path inside the bundle")
        path = self.path / name
        try:
            inside = path.resolve().is_relative_to(self.path.resolve())
        except (OSError, RuntimeError) as error:
            raise UnsafePath(name, f"cannot be followed ({error})") from error
        if not inside:
            raise UnsafePath(name, "is a link that leads out of the bundle")
        return path

    def verify(self, target: str | None = None) -> None:
        """Compare size and sha256 of every file with the manifest, then look where graphs point.

        Args:
            target: leave out the graphs of other targets.

        Raises:
            BundleCorrupted: naming the first file that differs.
            UnsafePath: a graph takes its weights from elsewhere than the bundle's weight file.
        """
        with self.verified(target):
            pass

    @contextmanager
    def verified(self, target: str | None = None) -> Iterator[None]:
        """Do as ``verify``, but compute the weight file's long sha256 while the block runs.

        All other files are checked before the block; what is wrong with the weights is raised when
        it ends, in place of any error of the block's own.
        """
        weights = self.manifest.weights
        for record in self.records():
            other_target = isinstance(record, GraphRecord) and target not in (None, record.target)
            if not other_target and record is not weights:
                self._refuse(self.problem(record))
        self._refuse(self._wrong_size(weights))
        with ThreadPoolExecutor(max_workers=1) as pool:
            checking = pool.submit(self.problem, weights)
            try:
                yield
            finally:
                self._refuse(checking.result())

    @staticmethod
    def _refuse(problem: BundleError | None) -> None:
        if problem is not None:
            raise problem

    def problem(self, record: FileRecord | GraphRecord | EngineRecord) -> BundleError | None:
        """What is wrong with a file, if anything: missing, changed, or pointing elsewhere."""
        wrong_size = self._wrong_size(record)
        if wrong_size is not None:
            return wrong_size
        path = self.file(record.file)
        if sha256_of(path) != record.sha256:
            return BundleCorrupted(record.file, "has another sha256 than the manifest says")
        if isinstance(record, GraphRecord):
            for location in external_locations(path):
                if location != self.manifest.weights.file:
                    return UnsafePath(location, "is not the bundle's weight file")
        return None

    def _wrong_size(self, record: FileRecord | GraphRecord | EngineRecord) -> BundleError | None:
        path = self.file(record.file)
        if not path.is_file():
            return BundleCorrupted(record.file, "is missing")
        size = path.stat().st_size
        if size != record.bytes:
            return BundleCorrupted(record.file, f"has {size:,} bytes, not {record.bytes:,}")
        return None

    def rewrite(self, manifest: Manifest) -> None:
        """Put another manifest in the place of this one, whole or not at all."""
        file, name = tempfile.mkstemp(prefix=f".{FILE_NAME}.", dir=self.path)
        try:
            with os.fdopen(file, "w", encoding="utf-8") as stream:
                stream.write(manifest.to_json())
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(self.path / FILE_NAME)
        finally:
            Path(name).unlink(missing_ok=True)
        self.manifest = manifest

    def embedding_table(self) -> np.ndarray:
        """Token embeddings ``(vocab, width)``, mapped: only rows that are used are read.

        Raises:
            BundleCorrupted: the table is not there or has another shape than the manifest says.
        """
        language = self.manifest.language
        weights = self.manifest.weights.file
        table = TensorFile(self.file(weights)).tensor(language.embedding)
        if table.shape != (language.vocab, language.width):
            raise BundleCorrupted(weights, f"has an embedding table of shape {table.shape}")
        return table

    def separator_row(self) -> np.ndarray | None:
        """Row ``(width,)`` between image tokens, of models that have one.

        Raises:
            BundleCorrupted: it is not there or has another shape than the manifest says.
        """
        language, weights = self.manifest.language, self.manifest.weights.file
        if language.separator is None:
            return None
        row = TensorFile(self.file(weights)).tensor(language.separator)
        if row.shape != (language.width,):
            raise BundleCorrupted(weights, f"has a separator of shape {row.shape}")
        return row


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
