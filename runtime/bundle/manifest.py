"""The manifest: what a bundle says of itself. Read strictly, versioned."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from ...errors import ManifestInvalid, ManifestTooNew, ManifestTooOld
from ..files.strict import read, write
from ..preprocessing import Preprocessor, read_preprocessor, write_preprocessor
from .contract import Sizes, TensorSpec, row_width
from .plan import Plan
from .prompt import PromptLayout
from .variants import VariantRecord

SCHEMA = 6
OLDEST = 4
"""Oldest schema that is read: what came since has a value that means what was before."""
FILE_NAME = "manifest.json"
FORMS = ("int8", "fp8", "int4-awq")
"""Ways to quantize the matrix products of a bundle."""
DTYPES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Types of weights, with their size in bytes."""
BITS = (4, 8)
"""Sizes of quantized weights."""
BLOCKS = (16, 32, 64, 128, 256)
"""Lengths of a block of quantized weights; ONNX Runtime takes powers of two from 16 on."""
# Far above any model; keeps a manifest that lies from filling the memory.
_LIMITS = {
    "layers": 2**10,
    "heads": 2**10,
    "kv_heads": 2**10,
    "head_dim": 2**12,
    "width": 2**18,
    "inner": 2**20,
    "vocab": 2**24,
    "context": 2**26,
}
_MOST_PLANES = 64


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file of the bundle."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class GraphRecord:
    """One graph file."""

    name: str
    """As in ``contract.KINDS``."""
    target: str
    """Flavour: ``ort``, ``onnx`` or ``trt10``."""
    file: str
    sha256: str
    bytes: int
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """Where the bundle comes from."""

    id: str
    """Preset's hub id, hub id or folder name."""
    revision: str | None
    """Commit on the hub, where it came from there."""
    family: str


@dataclass(frozen=True, kw_only=True)
class WeightsRecord:
    """How the matrices of the decoder and of its head are quantized."""

    bits: int
    """4 or 8."""
    block: int
    """Weights of one output, side by side along the input, that share a scale: of ``BLOCKS``."""
    symmetric: bool
    """Without zero points."""

    def __post_init__(self) -> None:
        for name, allowed in (("bits", BITS), ("block", BLOCKS)):
            if getattr(self, name) not in allowed:
                raise ManifestInvalid(
                    f"manifest.language.weights.{name}",
                    f"{getattr(self, name)} is not in {list(allowed)}",
                )

    def show(self) -> str:
        """``int4, symmetric, blocks of 32``."""
        kind = "symmetric" if self.symmetric else "asymmetric"
        return f"int{self.bits}, {kind}, blocks of {self.block}"


@dataclass(frozen=True, kw_only=True)
class LanguageRecord:
    """Sizes of the decoder."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    width: int
    inner: int
    """Inner width of the gated MLP."""
    vocab: int
    context: int
    """Most positions the model knows."""
    embedding: str
    """Name in the weight file of the embedding table ``(vocab, width)``."""
    dtype: str = "float32"
    """Type of the weights and of the KV cache: one of ``DTYPES``."""
    position_axes: int = 1
    """Numbers that a token carries: 1, or 3 (temporal, height, width) with M-RoPE."""
    separator: str | None = None
    """Name in the weight file of the row ``(width,)`` that separates image tokens, if any."""
    weights: WeightsRecord | None = None
    """How the matrices are quantized; None: they are of ``dtype``, as everything else."""
    planes: tuple[int, ...] = ()
    """For each plane of an image token the layer behind which it is added, ascending. In a row that
    goes to a graph they follow the hidden state; those of text tokens are zeros."""

    def row_width(self, layer: int) -> int:
        """As ``contract.row_width``."""
        return row_width(self.width, self.planes, layer)

    @property
    def sizes(self) -> Sizes:
        """What the names of dimensions in ``contract.KINDS`` stand for."""
        names = ("width", "heads", "kv_heads", "head_dim", "vocab")
        axes = self.position_axes if self.position_axes > 1 else None
        return {**{name: getattr(self, name) for name in names}, "axes": axes}

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            if not 1 <= getattr(self, name) <= limit:
                raise ManifestInvalid(
                    f"manifest.language.{name}", f"{getattr(self, name)} is not in 1..{limit}"
                )
        if self.position_axes not in (1, 3):
            raise ManifestInvalid(
                "manifest.language.position_axes", f"{self.position_axes} is neither 1 nor 3"
            )
        if len(self.planes) > _MOST_PLANES or list(self.planes) != sorted(set(self.planes)):
            raise ManifestInvalid(
                "manifest.language.planes",
                f"{list(self.planes)} is not a list of at most {_MOST_PLANES} layers, ascending",
            )
        if self.dtype not in DTYPES:
            raise ManifestInvalid(
                "manifest.language.dtype", f"{self.dtype!r} is not in {list(DTYPES)}"
            )

    def first_layers(self, layers: int) -> LanguageRecord:
        """Of the decoder that ends after ``layers`` layers: its hidden states are its logits."""
        return replace(self, layers=layers, vocab=self.width)

    def kv_bytes_per_token(self) -> int:
        """Bytes of one token's keys and values over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * DTYPES[self.dtype]


@dataclass(frozen=True, kw_only=True)
class GenerationDefaults:
    """What generation does when it is not told."""

    max_new_tokens: int
    temperature: float
    top_p: float
    eos: tuple[int, ...]
    """Token ids that end an answer."""
    top_k: int | None = None
    """Most probable tokens that are drawn from; None: all."""
    repetition_penalty: float = 1.0
    """How much less likely a token gets that the prompt or the answer holds; 1 changes nothing."""


@dataclass(frozen=True, kw_only=True)
class GoldenCase:
    """The golden sample at some keeps: what PyTorch answers."""

    keep: tuple[int | float, ...]
    """One for each drop."""
    tokens: tuple[int, ...]
    """Greedy answer."""
    frames: int = 0
    """Frames of the video that is asked about, made from the image; 0 for the image itself."""


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far an exported graph was from PyTorch, in ONNX Runtime, on the golden sample."""

    graph: str
    target: str
    keep: tuple[int | float, ...]
    output: str
    max_abs: float
    mean_abs: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A sample with its answers, replayed by ``vtp verify``."""

    image: str
    """File of the sample image."""
    prompt: str
    tensors: str
    """safetensors file; for case C ``C.image_embeds``, ``C.kept``, ``C.logits`` and the vision
    graph's ``C.scores``; for drop D inside the decoder ``C.drop.D.scores`` and ``C.drop.D.left``
    (patches); of a guide ``C.received``."""
    tolerance: float
    """Largest difference accepted, relative to the largest magnitude in the tensor."""
    cases: tuple[GoldenCase, ...]
    measured: tuple[Deviation, ...]
    rounding: tuple[Deviation, ...] = ()
    """What the precision costs in PyTorch itself, where ``measured`` does not hold it: the first
    logits of each case with quantized weights (``measured`` is against PyTorch with those), and of
    the model as a whole in bfloat16, which no processor here computes in, without pruning."""
    layers: int | None = None
    """Set where the model was too large to be checked whole: the sample runs through the vision
    graph and the graph ``check.0``, the first layers of ``language.0``. Their hidden state after
    the last token takes the place of the logits."""

    def __post_init__(self) -> None:
        if self.layers is not None and self.layers < 1:
            raise ManifestInvalid("manifest.golden.layers", f"{self.layers} is not at least 1")


@dataclass(frozen=True, kw_only=True)
class ProductsRecord:
    """How the matrix products of the graphs were quantized after the export."""

    form: str
    """``int8`` or ``fp8``: type of weights and of activations where they are multiplied;
    ``int4-awq``: of the decoder's weights alone."""
    keep: tuple[int | float, ...]
    """Keeps at which activations were seen, one for each drop of the plan."""
    requests: int
    """Questions that were asked to see them."""
    ranges: str
    """How ranges were made of what was seen."""
    left: tuple[str, ...]
    """Parts of the model that were not quantized, such as ``vision layer 3``."""

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ManifestInvalid("manifest.products.form", f"{self.form!r} is not in {FORMS}")


@dataclass(frozen=True, kw_only=True)
class HistoryRecord:
    """One change of the manifest after the export."""

    field: str
    """What was changed, such as ``plan.drops.keep``."""
    old: tuple[int | float, ...]
    new: tuple[int | float, ...]
    when: str
    """UTC, as ``2026-01-31T12:00:00Z``."""
    why: str
    """What changed it, and on which grounds."""
    replaced: str
    """sha256 of the manifest that held the old value."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All of it."""

    schema: int
    vtp: str
    """Version that wrote it."""
    model: ModelRecord
    plan: Plan
    graphs: tuple[GraphRecord, ...]
    weights: FileRecord
    language: LanguageRecord
    preprocessing: Preprocessor = field(
        metadata={"read": read_preprocessor, "write": write_preprocessor}
    )
    prompt: PromptLayout
    generation: GenerationDefaults
    files: tuple[FileRecord, ...]
    """Tokenizer and golden files."""
    golden: Golden
    products: ProductsRecord | None = None
    """Set where matrix products are quantized; None: they are of the type of the weights."""
    variants: tuple[VariantRecord, ...] = ()
    """Engines that were built of the graphs, with ``vtp build``."""
    history: tuple[HistoryRecord, ...] = ()
    """Changes by ``vtp calibrate``, the oldest first."""

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ManifestInvalid("variants", f"two have one name: {names}")
        for variant in self.variants:
            if len(variant.limits.counts) != len(self.plan.drops):
                raise ManifestInvalid(f"variants.{variant.name}.limits", "not one for each drop")
        checked = self.golden.layers
        if checked is not None and checked > self.plan.stages[0].stop:
            raise ManifestInvalid(
                "golden.layers", f"{checked} is more than the {self.plan.stages[0].stop} of stage 0"
            )
        if self.plan.layers != self.language.layers:
            raise ManifestInvalid(
                "plan.layers", f"{self.plan.layers} is not the decoder's {self.language.layers}"
            )

    def graph(self, name: str, target: str) -> GraphRecord:
        """The record of a graph in a target.

        Raises:
            ManifestInvalid: there is none.
        """
        for record in self.graphs:
            if (record.name, record.target) == (name, target):
                return record
        raise ManifestInvalid("graphs", f"there is no graph {name!r} for target {target!r}")

    @property
    def any_size(self) -> bool:
        """Whether an image has as many tokens as its size asks for."""
        vision = next(graph for graph in self.graphs if graph.name == "vision")
        return any("tokens" in spec.shape for spec in vision.inputs)

    def targets(self) -> list[str]:
        """Targets that the bundle carries."""
        return sorted({record.target for record in self.graphs})

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(write(self), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read the file's text.

        Raises:
            ManifestTooNew, ManifestTooOld: a schema version that this vtp does not read.
            ManifestInvalid: anything else that breaks the schema.
        """
        try:
            data = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ManifestInvalid("the whole file", f"it is not JSON ({error})") from error
        if not isinstance(data, dict):
            raise ManifestInvalid("the whole file", "an object is needed")
        schema = data.get("schema")
        if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
            raise ManifestInvalid("schema", f"a version number is needed, not {schema!r}")
        if schema > SCHEMA:
            raise ManifestTooNew(schema, SCHEMA)
        if schema < OLDEST:
            raise ManifestTooOld(schema, OLDEST)
        return read(cls, data | {"schema": SCHEMA}, "manifest")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
