"""The graphs of a bundle: their names, what they take and give, and when each exists.

Everything that makes, runs, builds or describes a graph reads it here: the exporter's tracer, the
PyTorch reference, the decoder's buffers, TensorRT's profiles, ``vtp inspect`` and
``docs/bundle.md``. A name of a graph or of a tensor is spelled in no other place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

FLOAT, INT = "float32", "int64"
CACHE_TYPE = "cache"
"""Type of the KV cache, which is that of the weights."""

Dim = str | int
Sizes = Mapping[str, "Dim | None"]
"""What the names of dimensions stand for in one model: a number, another name, or None where there
is no such axis."""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output of a graph."""

    name: str
    dtype: str
    """numpy name, such as ``float32``."""
    shape: tuple[int | str, ...]
    """A text is a symbolic dimension."""


def row_width(width: int, planes: Sequence[int], layer: int) -> int:
    """How wide a row is that arrives at a layer: its hidden state, then its planes still to come.

    Args:
        width: of a hidden state.
        planes: for each plane of an image token the layer behind which it is added.
        layer: the layer.
    """
    return width * (1 + sum(plane >= layer for plane in planes))


def whole(shape: tuple[int | str, ...]) -> tuple[int, ...]:
    """A shape all of whose dimensions are numbers.

    Raises:
        ValueError: one is not.
    """
    numbers = tuple(dim for dim in shape if isinstance(dim, int))
    if len(numbers) < len(shape):
        raise ValueError(f"{shape} has dimensions without a size")
    return numbers


@dataclass(frozen=True)
class Tensor:
    """A row of the table: an input or output that a graph of a kind may have."""

    name: str
    """``{layer}`` stands for each layer of the stage."""
    dims: tuple[Dim, ...]
    dtype: str = FLOAT
    when: str = ""
    """When it is there; empty: always."""
    appended: tuple[Dim, ...] | None = None
    """Its dimensions where the target reads filled rows of the cache and gives out new ones; an
    empty tuple: it is not there then."""

    def spec(
        self,
        sizes: Sizes,
        cache_type: str = FLOAT,
        layer: int | None = None,
        appended: bool = False,
    ) -> TensorSpec:
        """The tensor of one model; ``appended`` where rows are appended to the cache."""
        named = self.appended if appended and self.appended else self.dims
        dims = (sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in named)
        return TensorSpec(
            name=self.name if layer is None else self.name.format(layer=layer),
            dtype=cache_type if self.dtype == CACHE_TYPE else self.dtype,
            shape=tuple(dim for dim in dims if dim is not None),
        )

    @property
    def of_layers(self) -> bool:
        """Whether each layer has one."""
        return "{layer}" in self.name


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """A graph of one model."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, kw_only=True)
class GraphKind:
    """A row of the table of graphs."""

    name: str
    """``N`` stands for a number."""
    about: str
    """What it computes."""
    when: str
    """When a bundle has it."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def spec(
        self,
        sizes: Sizes,
        having: Collection[str] = (),
        *,
        number: int | None = None,
        layers: int = 0,
        cache_type: str = FLOAT,
        first: Sequence[TensorSpec] = (),
    ) -> GraphSpec:
        """The graph of one model.

        Args:
            sizes: of its dimensions.
            having: names of the tensors that it has of those that are not always there.
            number: what ``N`` stands for.
            layers: layers whose caches it reads.
            cache_type: type of the cache.
            first: inputs before those of the table, which the model's family declares.
        """

        def chosen(rows: Iterable[Tensor]) -> list[TensorSpec]:
            found: list[TensorSpec] = []
            of_layers = []
            for row in rows:
                if row.of_layers:
                    of_layers.append(row)
                elif not row.when or row.name in having:
                    found.append(row.spec(sizes, cache_type))
            for layer in range(layers):
                found += [row.spec(sizes, cache_type, layer) for row in of_layers]
            return found

        unknown = set(having) - {row.name for row in (*self.inputs, *self.outputs)}
        if unknown:
            raise ValueError(f"{self.name} has no {', '.join(sorted(unknown))}")
        name = self.name if number is None else self.name.replace("N", str(number))
        return GraphSpec(
            name=name,
            inputs=(*first, *chosen(self.inputs)),
            outputs=tuple(chosen(self.outputs)),
        )

    def tensor(self, name: str) -> Tensor:
        """The row of an input or output."""
        return next(row for row in (*self.outputs, *self.inputs) if row.name == name)


VISION, VIDEO, SHRINK, RATERS = "vision", "video", "shrink", "raters"
LANGUAGE, DROP = "language", "drop"
CHECK = "check.0"
"""The first layers of the first language graph, which a large model is checked on."""


def language_graph(number: int) -> str:
    """Name of the graph of a language stage."""
    return f"{LANGUAGE}.{number}"


def drop_graph(number: int) -> str:
    """Name of the graph before a language stage, which drops tokens; 1 is the first."""
    return f"{DROP}.{number}"


def kind_and_number(name: str) -> tuple[str, int]:
    """``("language", 2)`` of ``language.2``; a graph without number has 0."""
    kind, _, number = name.partition(".")
    return kind, int(number or 0)


def is_language(name: str) -> bool:
    """Whether a graph, or a file of its name, is that of a language stage."""
    return name.startswith(f"{LANGUAGE}.")


PIXEL_VALUES = "pixel_values"
KEEP = "keep"
PROMPT_EMBEDS = "prompt_embeds"
IMAGE_EMBEDS = "image_embeds"
KEPT = "kept"
SCORES = "scores"
INDEX, WEIGHT, SHRUNKEN = "index", "weight", "shrunken"
INPUTS_EMBEDS = "inputs_embeds"
HIDDEN_STATES, HIDDEN_STATES_OUT = "hidden_states", "hidden_states_out"
POSITION_IDS = "position_ids"
WRITE_INDEX = "write_index"
LOGITS = "logits"
QUERY, QUERIES = "query", "queries"
SCORE_ROWS, IMAGE_COLUMNS, LOGIT_ROWS = "score_rows", "image_columns", "logit_rows"
RECEIVED = "received"
IMAGE_ROWS, TEXT_ROWS = "image_rows", "text_rows"
RECYCLED, MERGED = "recycled", "merged"
KEY_CACHE = "key_cache"
RATER_ROWS, RATER_WEIGHTS = "rater_rows", "rater_weights"
GIVEN_SCORES = "given_scores"

_PAST, _PRESENT = "past_key_values", "present"


def past(layer: int | str, part: str) -> str:
    """Name of a layer's cache before a step; ``part`` is ``key`` or ``value``."""
    return f"{_PAST}.{layer}.{part}"


def present(layer: int | str, part: str) -> str:
    """Name of a layer's cache behind a step."""
    return f"{_PRESENT}.{layer}.{part}"


def is_cache(name: str) -> bool:
    """Whether a tensor is a layer's cache."""
    return name.startswith((f"{_PAST}.", f"{_PRESENT}."))


def is_present(name: str) -> bool:
    """Whether a tensor is a layer's cache behind a step."""
    return name.startswith(f"{_PRESENT}.")


def cache_place(name: str) -> tuple[int, str]:
    """Layer and part of a cache, by its name."""
    _, layer, part = name.split(".")
    return int(layer), part


PARTS = ("key", "value")
_CACHE = ("batch", "kv_heads", "capacity", "head_dim")
_CACHES = {
    name: tuple(
        Tensor(name("{layer}", part), _CACHE, CACHE_TYPE, appended=("batch", rows, *_CACHE[1::2]))
        for part in PARTS
    )
    for name, rows in ((past, "past"), (present, "tokens"))
}
_PASTS, _PRESENTS = _CACHES[past], _CACHES[present]

_METHOD = "with a method of the vision side"
_FIRST, _LATER = "in the first stage", "in the later stages"

_STAGE = (
    Tensor(INPUTS_EMBEDS, ("batch", "tokens", "row_width"), when=_FIRST),
    Tensor(HIDDEN_STATES, ("batch", "tokens", "row_width"), when=_LATER),
    Tensor(POSITION_IDS, ("axes", "batch", "tokens"), INT),
    Tensor(WRITE_INDEX, ("batch",), INT, appended=()),
)

VISION_KIND = GraphKind(
    name=VISION,
    about="encoder, scores, selection, projector; images",
    when="always",
    inputs=(
        Tensor(KEEP, (1,), INT, _METHOD),
        Tensor(PROMPT_EMBEDS, ("texts", "width"), when="with a method that reads the prompt"),
    ),
    outputs=(
        Tensor(IMAGE_EMBEDS, ("images", "rows", "row_width")),
        Tensor(KEPT, ("images", "rows"), INT, _METHOD),
        Tensor(SCORES, ("images", "tokens"), when=_METHOD),
    ),
)
"""Its first inputs hold the image, ``PIXEL_VALUES`` and what else the model's family declares."""

VIDEO_KIND = replace(
    VISION_KIND,
    name=VIDEO,
    about="the same for frames of a video",
    when="where the model looks at frames by other weights",
)

SHRINK_KIND = GraphKind(
    name=SHRINK,
    about="fewer tokens of a large mosaic of tiles, means of four each",
    when="of models that shrink large images",
    inputs=(
        Tensor(IMAGE_EMBEDS, ("images", "tokens", "row_width")),
        Tensor(INDEX, ("rows", 4), INT),
        Tensor(WEIGHT, ("rows", 4)),
    ),
    outputs=(Tensor(SHRUNKEN, (1, "rows", "row_width")),),
)

RATERS_KIND = GraphKind(
    name=RATERS,
    about="which text tokens rate the image tokens",
    when="where a score needs it",
    inputs=(
        Tensor(INPUTS_EMBEDS, (1, "tokens", "row_width")),
        Tensor(IMAGE_ROWS, ("image_tokens",), INT),
        Tensor(RATER_ROWS, ("raters",), INT),
    ),
    outputs=(Tensor(RATER_WEIGHTS, ("raters",)),),
)

LANGUAGE_KIND = GraphKind(
    name=language_graph("N"),  # type: ignore[arg-type]
    about="decoder layers between two drops, for prefill and decode alike",
    when="always, one for each stage",
    inputs=(*_STAGE, *_PASTS),
    outputs=(
        Tensor(LOGITS, ("batch", "vocab"), when="in the last stage"),
        Tensor(
            HIDDEN_STATES_OUT, ("batch", "tokens", "row_width_out"), when="in the earlier stages"
        ),
        Tensor(
            QUERY, ("batch", "heads", 1, "head_dim"), when="where the next drop's score reads it"
        ),
        Tensor(
            QUERIES,
            ("batch", "heads", "tokens", "head_dim"),
            when="where the next drop's score reads it",
        ),
        *_PRESENTS,
    ),
)

GUIDE_KIND = GraphKind(
    name=language_graph(0),
    about="a whole decoder that tells what its text attended to",
    when="in a bundle that guides another",
    inputs=(
        *_STAGE,
        Tensor(SCORE_ROWS, ("scorers",), INT),
        Tensor(IMAGE_COLUMNS, ("columns",), INT),
        Tensor(LOGIT_ROWS, ("answers",), INT),
        *_PASTS,
    ),
    outputs=(
        Tensor(LOGITS, ("answers", "vocab")),
        Tensor(RECEIVED, ("columns",)),
        *_PRESENTS,
    ),
)

_SCORE = "where the drop's score reads it"

DROP_KIND = GraphKind(
    name=drop_graph("N"),  # type: ignore[arg-type]
    about="score, selection and what is left of the sequence, before language stage N",
    when="for each drop inside the decoder",
    inputs=(
        Tensor(HIDDEN_STATES, (1, "tokens", "row_width")),
        Tensor(IMAGE_ROWS, ("groups", "candidates"), INT),
        Tensor(TEXT_ROWS, ("texts",), INT),
        Tensor(KEEP, (1,), INT),
        Tensor(RECYCLED, (1,), INT, "where dropped tokens are recycled"),
        Tensor(MERGED, (1,), INT, "where dropped tokens are recycled"),
        Tensor(QUERY, (1, "heads", 1, "head_dim"), when=_SCORE),
        Tensor(QUERIES, (1, "heads", "tokens", "head_dim"), when=_SCORE),
        Tensor(
            KEY_CACHE,
            (1, "kv_heads", "capacity", "head_dim"),
            CACHE_TYPE,
            _SCORE,
            appended=(1, "past", "kv_heads", "head_dim"),
        ),
        Tensor(WRITE_INDEX, (1,), INT, _SCORE),
        Tensor(RATER_ROWS, ("raters",), INT, _SCORE),
        Tensor(RATER_WEIGHTS, ("raters",), when=_SCORE),
        Tensor(POSITION_IDS, ("axes", 1, "tokens"), INT, _SCORE),
        Tensor(GIVEN_SCORES, ("groups", "candidates"), when=_SCORE),
    ),
    outputs=(
        Tensor(HIDDEN_STATES_OUT, (1, "left", "row_width")),
        Tensor(KEPT, ("groups", "keep"), INT),
        Tensor(SCORES, ("groups", "candidates")),
    ),
)

CHECK_KIND = replace(
    LANGUAGE_KIND,
    name=CHECK,
    about="the first layers of the first language stage, which vtp verify replays",
    when="where a model was too large to be checked whole",
    outputs=(Tensor(LOGITS, ("batch", "width")), *_PRESENTS),
)

KINDS = (
    VISION_KIND,
    VIDEO_KIND,
    SHRINK_KIND,
    RATERS_KIND,
    LANGUAGE_KIND,
    DROP_KIND,
    GUIDE_KIND,
    CHECK_KIND,
)
"""The table of graphs, in the order in which a request meets them."""

VISION_SIDE = (VISION, VIDEO, SHRINK)
"""Graphs whose matrices are never quantized."""

BEFORE_STAGES = (RATERS_KIND,)
"""Graphs that run once for a prompt, before the first language stage: what they put out, a drop's
score reads."""


def kind_of(name: str, guides: bool = False) -> GraphKind:
    """The row of a graph.

    Args:
        name: of the graph, as in the manifest.
        guides: whether the bundle guides another.
    """
    if guides and name == GUIDE_KIND.name:
        return GUIDE_KIND
    stem = name.partition(".")[0]
    return next(
        kind for kind in KINDS if kind is not GUIDE_KIND and kind.name.partition(".")[0] == stem
    )
