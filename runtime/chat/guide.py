"""A small model that guides a large one, and answers for it where it is sure (SGL).

The guide answers the question first, with every image token. What its text attended to, summed over
all layers, heads, prompt rows and generated rows, ranks the large model's image tokens. "A Stitch
in Time Saves Nine: Small VLM is a Precise Guidance for Accelerating Large VLMs",
https://arxiv.org/abs/2412.03324.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from ...errors import ContextTooLong, GuideMismatch, GuideMissing
from ..bundle.bundle import Bundle
from ..bundle.contract import (
    GUIDE_KIND,
    IMAGE_COLUMNS,
    INPUTS_EMBEDS,
    LOGIT_ROWS,
    LOGITS,
    POSITION_IDS,
    RECEIVED,
    SCORE_ROWS,
)
from ..bundle.keep import keep_count
from ..engines.base import Buffer
from ..model.cache import CachedRun, StageCache
from ..model.decoder import Decoder
from ..model.loaded import LoadedBundle
from ..model.model_input import ModelInput, model_input
from ..model.splice import splice
from ..model.token_placement import SplicedPrompt
from ..model.vision import VisionOutput
from ..preprocessing import Preprocessor
from .media import Read, kinds_of, prepare

CONSISTENCY_KEEP = 0.05
"""Share of the image tokens that the guide keeps when it checks its own answer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Guidance:
    """What the guide made of a question."""

    tokens: tuple[int, ...]
    """Its greedy answer."""
    finished: str
    """``eos`` or ``length``."""
    scores: tuple[np.ndarray, ...]
    """For each image ``(tokens,)`` float32: attention that each image token received."""
    confidence: float
    """Geometric mean of the probabilities of the answer's tokens."""
    consistency: float | None
    """Probability of the same answer when the guide sees only the best 5 % of the image tokens;
    None where no threshold asked for it."""
    read: int
    """Tokens read in prefill."""
    cache_tokens: int
    cache_bytes: int
    ms: float
    """Everything together, milliseconds."""
    preprocess_ms: float
    vision_ms: float
    prefill_ms: float
    decode_ms: float

    @property
    def certainty(self) -> float:
        """What an exit threshold is compared with: the mean of confidence and consistency."""
        return (
            self.confidence
            if self.consistency is None
            else ((self.confidence + self.consistency) / 2)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class GuideRequest:
    """A question to a guide, resolved; nothing has run yet."""

    inputs: ModelInput
    """With every image token."""
    limit: int
    """Most tokens of its answer."""
    check: bool
    """Whether to work out the consistency too."""
    ms: float
    """Time that it took to prepare, milliseconds."""


class Guide:
    """A guide's bundle on an engine.

    Args:
        loaded: the bundle of the small model, exported with ``--method guide``.
        large: the bundle that it guides.

    Raises:
        GuideMissing: the bundle is no guide.
        GuideMismatch: tokenizer, chat template or image tokens differ.
    """

    def __init__(self, loaded: LoadedBundle, large: LoadedBundle) -> None:
        guide = loaded.bundle.manifest.plan.guide
        if guide is None:
            raise GuideMissing(
                f"{str(loaded.bundle.path)!r} is not a guide: export the small model with "
                "vtp export MODEL --method guide --out DIR"
            )
        _check_match(loaded, large)
        self._loaded = loaded
        self._include_last_row = guide.include_last_visual_row

    def request(
        self,
        prompt: str,
        images: Sequence[Read],
        max_new_tokens: int | None = None,
        check: bool = False,
        sizes: Sequence[int] | None = None,
    ) -> GuideRequest:
        """Prepare a question; no graph runs.

        Args:
            prompt: the question.
            images: images and videos, as from ``read_media``.
            max_new_tokens: longest answer; None takes the guide's default.
            check: whether to work out the consistency too.
            sizes: image tokens of each image in the large model; None: not compared.

        Raises:
            GuideMismatch: the guide has other image tokens of these images.
            ContextTooLong: they are more than the guide can read.
        """
        loaded, manifest = self._loaded, self._loaded.bundle.manifest
        began, layout, plan = perf_counter(), manifest.prompt, manifest.plan
        text = layout.lay_out(prompt, kinds_of(images), first=True)
        media = prepare(images, manifest.preprocessing, layout)
        tokens = loaded.text.encode(layout.expand(text, media.pieces))
        inputs = model_input(plan, tokens, layout.placeholders, media.placed, plan.keeps(1.0))
        own = inputs.extent.sizes
        if sizes is not None and own != tuple(sizes):
            raise GuideMismatch("number of image tokens", list(own), list(sizes))
        needed = inputs.text_tokens + inputs.extent.total
        room = manifest.language.context - needed
        if room < 1:
            raise ContextTooLong(needed + 1, manifest.language.context, "the guide's context")
        limit = min(max_new_tokens or manifest.generation.max_new_tokens, room)
        loaded.decoder.capacities(needed + limit - 1)
        return GuideRequest(
            inputs=inputs, limit=limit, check=check, ms=(perf_counter() - began) * 1e3
        )

    def rank(self, request: GuideRequest) -> Guidance:
        """Answer a question, greedily, and note what mattered."""
        with self._loaded.lock:
            return self._rank(request)

    def _rank(self, request: GuideRequest) -> Guidance:
        loaded, inputs = self._loaded, request.inputs
        eos, began = loaded.bundle.manifest.generation.eos, perf_counter()
        vision = loaded.vision(inputs.media, inputs.tile_counts) if inputs.media else None
        encoded = perf_counter()
        turn = self._splice(inputs.tokens, vision)
        cache = loaded.decoder.cache(turn.placement.tokens + request.limit - 1).stages[0]
        columns = turn.placement.image_rows
        logits, received = read_prompt(loaded.decoder, turn, cache, self._include_last_row)
        filled = perf_counter()
        answer, certainties = [int(logits[-1].argmax())], [_log_best(logits[-1])]
        loop = _GuideLoop(loaded.decoder, cache, columns)
        while answer[-1] not in eos and len(answer) < request.limit:
            row, more = loop.step(answer[-1], turn.next_position + len(answer) - 1)
            received = received + more
            answer.append(int(row.argmax()))
            certainties.append(_log_best(row))
        decoded = perf_counter()
        consistency = None
        if request.check:
            consistency = self._consistency(inputs.tokens, vision, received, answer)
        ends = np.cumsum(turn.placement.sizes)[:-1]
        return Guidance(
            tokens=tuple(answer),
            finished="eos" if answer[-1] in eos else "length",
            scores=tuple(np.split(received, ends)) if inputs.media else (),
            confidence=float(np.exp(np.mean(certainties))),
            consistency=consistency,
            read=turn.placement.tokens,
            cache_tokens=cache.length,
            cache_bytes=cache.nbytes,
            ms=request.ms + (perf_counter() - began) * 1e3,
            preprocess_ms=request.ms,
            vision_ms=(encoded - began) * 1e3,
            prefill_ms=(filled - encoded) * 1e3,
            decode_ms=(decoded - filled) * 1e3,
        )

    def close(self) -> None:
        """Release its graphs and memory."""
        self._loaded.close()

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of an answer."""
        return self._loaded.text.decode(list(tokens))

    def _splice(self, tokens: Sequence[int], vision: VisionOutput | None) -> SplicedPrompt:
        ids = self._loaded.bundle.manifest.prompt.placeholders
        if vision is None:
            return splice(self._loaded.decoder, tokens, ids)
        return splice(self._loaded.decoder, tokens, ids, vision.rows, vision.arranged())

    def _consistency(
        self,
        tokens: Sequence[int],
        vision: VisionOutput | None,
        scores: np.ndarray,
        answer: list[int],
    ) -> float:
        """Probability of the answer, token after token, with few image tokens, at one go."""
        decoder = self._loaded.decoder
        turn = self._splice(tokens, vision)
        rows, positions = np.arange(turn.placement.tokens), turn.placement.positions
        if vision is not None:
            keep = keep_count(CONSISTENCY_KEEP, scores.size, "floor")
            kept = np.argsort(-scores, kind="stable")[:keep]
            rows = np.sort(
                np.concatenate([turn.placement.text_rows, turn.placement.image_rows[kept]])
            )
        fed = answer[:-1]
        embeds = decoder.engine.buffer((1, len(rows) + len(fed), decoder.row_width), "float32")
        embeds.write_rows(0, turn.embeds.read()[0, rows])
        embeds.write_rows(len(rows), decoder.text_rows(np.array(fed, dtype=np.int64)))
        following = decoder.same(turn.next_position + np.arange(len(fed)))
        numbers = np.concatenate([positions[:, rows], following], axis=1)
        cache = decoder.cache(numbers.shape[1]).stages[0]
        compared = np.arange(len(rows) - 1, numbers.shape[1])
        none = np.zeros(1, dtype=np.int64)
        logits, _ = _GuideRun(decoder, cache, embeds, none, none, compared).run(numbers)
        return float(np.exp(sum(_log_of(row, t) for row, t in zip(logits, answer, strict=True))))


def read_prompt(
    decoder: Decoder, turn: SplicedPrompt, cache: StageCache, include_last_row: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Read a turn with a guide's language graph.

    Args:
        decoder: of the guide.
        turn: the turn.
        cache: an empty cache with room for it.
        include_last_row: as ``plan.GuideRecord.include_last_visual_row``.

    Returns:
        Logits ``(1, vocab)`` of the last row, and ``(image tokens,)`` float32, the attention that
        each received from the rows behind the last of them.
    """
    columns, rows = turn.placement.image_rows, np.arange(turn.placement.tokens)
    if len(columns):
        rows = turn.placement.rows_after_images
        if include_last_row:
            rows = np.concatenate([columns[-1:], rows])
    last = np.array([turn.placement.tokens - 1])
    return _GuideRun(decoder, cache, turn.embeds, rows, columns, last).run(turn.placement.positions)


class _GuideRun:
    """The guide's language graph bound for one run."""

    def __init__(
        self,
        decoder: Decoder,
        cache: StageCache,
        embeds: Buffer,
        score_rows: np.ndarray,
        columns: np.ndarray,
        logit_rows: np.ndarray,
    ) -> None:
        # Where there is no image, one column stands in.
        self._columns = len(columns)
        columns = columns if len(columns) else np.zeros(1, dtype=np.int64)
        self._decoder = decoder
        self._positions = decoder.buffer(GUIDE_KIND, POSITION_IDS, tokens=embeds.shape[1])
        self._logits = decoder.buffer(GUIDE_KIND, LOGITS, answers=len(logit_rows))
        self._received = decoder.buffer(GUIDE_KIND, RECEIVED, columns=len(columns))
        self._run = CachedRun(
            decoder.graphs[0],
            cache,
            embeds.shape[1],
            {
                INPUTS_EMBEDS: embeds,
                POSITION_IDS: self._positions,
                SCORE_ROWS: decoder.filled(score_rows),
                IMAGE_COLUMNS: decoder.filled(columns),
                LOGIT_ROWS: decoder.filled(logit_rows),
            },
            {LOGITS: self._logits, RECEIVED: self._received},
        )

    def run(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits ``(answers, vocab)`` and ``(columns,)`` received attention."""
        self._positions.write(self._decoder.numbers(positions))
        self._run()
        received = self._received.read()[: self._columns].astype(np.float32)
        return self._logits.read().copy(), received


class _GuideLoop:
    """Decode, one token at a time."""

    def __init__(self, decoder: Decoder, cache: StageCache, columns: np.ndarray) -> None:
        self._decoder = decoder
        self._embeds = decoder.engine.buffer((1, 1, decoder.row_width), "float32")
        first = np.zeros(1, dtype=np.int64)
        self._step = _GuideRun(decoder, cache, self._embeds, first, columns, first)

    def step(self, token: int, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Append a token; logits ``(vocab,)`` and received attention ``(columns,)``."""
        self._embeds.write(self._decoder.text_rows(np.array([token]))[None])
        logits, received = self._step.run(self._decoder.same(np.array([position])))
        return logits[0], received


def _log_of(logits: np.ndarray, token: int) -> float:
    """Log probability of a token, ``logits (vocab,)``."""
    wide = logits.astype(np.float64)
    top = wide.max()
    return float(wide[token] - top - np.log(np.exp(wide - top).sum()))


def _log_best(logits: np.ndarray) -> float:
    return _log_of(logits, int(logits.argmax()))


def _check_match(guide: LoadedBundle, large: LoadedBundle) -> None:
    small, big = guide.bundle.manifest, large.bundle.manifest
    pairs: list[tuple[str, object, object]] = [
        ("patch grid", small.plan.grid, big.plan.grid),
        ("crop", _view(small.preprocessing), _view(big.preprocessing)),
        ("chat template", small.prompt, big.prompt),
        ("end tokens", small.generation.eos, big.generation.eos),
    ]
    for what, a, b in pairs:
        if a != b:
            raise GuideMismatch(what, a, b)
    words = guide.text.vocabulary(), large.text.vocabulary()
    if words[0] != words[1]:
        raise GuideMismatch("vocabulary", f"{len(words[0])} entries", f"{len(words[1])} entries")
    sample = f"{big.golden.prompt} A, b; 12!"
    if guide.text.encode(sample) != large.text.encode(sample):
        raise GuideMismatch("tokenizer", "splits text differently", "which must be the same")


def _view(preprocessing: Preprocessor) -> tuple[object, ...]:
    """What of a picture the tower sees."""
    tiles = ("resize", "crop", "pad_to_square", "layout", "pinpoints")
    names = (*tiles, "patch", "merge", "min_pixels", "max_pixels")
    settings = preprocessing.to_dict()
    view = {name: settings.get(name) for name in names}
    return (preprocessing.kind, *((view | {"pad_to_square": bool(view["pad_to_square"])}).items()))


def guide_bundle_missing(bundle: Bundle) -> GuideMissing:
    """The error of a bundle that drops by a guide's scores and has no guide."""
    return GuideMissing(
        f"{str(bundle.path)!r} drops image tokens by the scores of a guide, but none was given: "
        "give the bundle of a smaller model exported with --method guide (--guide DIR, guide=...), "
        "or keep every token (--keep 1.0)"
    )
