"""What a pruning method is.

A method is a frozen dataclass in a file of its own; its fields are its parameters. It says which
tokens matter; the base owns what methods must not differ on: the tie rule, the order and the gather
(``TopKTokens``), and what a keep and a position mode mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from ...errors import LayerOutOfRange, ParameterInvalid, ScoreNotAvailable
from ...runtime.bundle.plan import Drop
from ..ops.node import node
from ..ops.topk_tokens import topk_tokens


class TowerKind(Protocol):
    """What is known of a tower before it runs; ``families.base.VisionParts``."""

    @property
    def has_cls(self) -> bool:
        """Whether row 0 is a [CLS] token."""
        ...

    @property
    def free_size(self) -> bool:
        """Whether the number of tokens depends on the image."""
        ...

    @property
    def one_to_one(self) -> bool:
        """Whether an image is one tile, and every patch of it a token."""
        ...


class TowerView(Protocol):
    """What a vision-side method may look at: one run of the tower up to its feature layer.

    Layers are counted back from the feature layer, which is ``-1``; where a tower has layers in
    which a patch sees its surroundings alone, those are left out of the count.
    """

    features: torch.Tensor
    """``(images, tokens, width)``, before the projector."""
    states: torch.Tensor
    """``(images, tokens, states width)``: all that is kept of a token, its features and, in models
    with planes, the hidden states that those are made of."""
    keep: torch.Tensor
    """``(1,)`` int64: tokens to keep of each image."""
    has_cls: bool
    depth: int
    """Layers that were run and are counted."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens."""
        ...

    def cls_states(self) -> torch.Tensor:
        """``(images, 1, states width)``: the same of the [CLS] token."""
        ...

    def cls_attention(self, layer: int = -1) -> torch.Tensor:
        """``(images, heads, tokens)`` float32: softmax of the [CLS] row over [CLS] and all image
        tokens; the [CLS] column itself is left out."""
        ...

    def received_attention(self, layer: int = -1) -> torch.Tensor:
        """``(images, heads, tokens)`` float32: attention that each image token receives, mean over
        the image tokens that give it (the column mean); [CLS] is left out on both sides."""
        ...

    def keys(self, layer: int = -1) -> torch.Tensor:
        """``(images, tokens, head_dim)``: keys of the image tokens, mean over heads."""
        ...

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """``features`` -> ``(images, n, language width)``, for scores that need it."""
        ...

    def rows(self, states: torch.Tensor) -> torch.Tensor:
        """``states`` -> ``(images, n, row_width)``: what the language model reads."""
        ...

    def prompt_embeds(self) -> torch.Tensor:
        """``(texts, language width)``: embeddings of the prompt's text tokens."""
        ...


@dataclass(frozen=True, kw_only=True)
class Method:
    """Base of all methods."""

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str | None] = None
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named sets of parameters, as published; the fields' defaults are the first of them."""

    @property
    def positions(self) -> str:
        """The published position mode."""
        return "compact"

    def parameters(self) -> dict[str, Any]:
        """Name and value of every parameter, for the manifest."""
        return {f.name: asdict(self)[f.name] for f in fields(self)}


@dataclass(frozen=True, kw_only=True)
class VisionMethod(Method):
    """Drops tokens in the vision graph, before the language model sees any."""

    default_keep: ClassVar[float] = 0.1
    rounding: ClassVar[str] = "half-even"
    needs_cls: ClassVar[bool] = False
    reads_prompt: ClassVar[bool] = False
    """Whether the score depends on the prompt's text."""
    in_order: ClassVar[bool] = True
    """Whether kept tokens are patches in raster order; else only one tile can be arranged."""
    on_projected: ClassVar[bool] = False
    """Whether the score needs every token behind the projector; else only kept ones pass it."""

    def scores(self, tower: TowerView) -> torch.Tensor:
        """Importance of every image token, ``(images, tokens)`` float32, higher is kept."""
        raise NotImplementedError

    def score_layer(self, depth: int) -> int | None:
        """Counted layer, of ``depth``, that the score is read from; None if from none."""
        return None

    def select(self, tower: TowerView) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What is left of the images.

        Returns:
            ``image_embeds (images, keep, row_width)``, ``kept (images, keep)`` int64, the
            patch that each stands for (-1 for none), and ``scores (images, tokens)``.
        """
        scores = self.scores(tower)
        if self.on_projected:
            rows, kept = topk_tokens(tower.rows(tower.states), scores, tower.keep)
            return rows, kept, scores
        states, kept = topk_tokens(tower.states, scores, tower.keep)
        return tower.rows(states), kept, scores

    @property
    def needs_grid(self) -> bool:
        """Whether the choice asks where in a grid of one size a token stands."""
        return False

    @property
    def reads_cls(self) -> bool:
        """Whether the score reads a [CLS] token."""
        return self.needs_cls

    def check(self, tower: TowerKind) -> None:
        """Refuse a tower that the method cannot read.

        Raises:
            ScoreNotAvailable: naming what fits.
        """
        if self.reads_cls and not tower.has_cls:
            raise ScoreNotAvailable(self.name)
        if self.needs_grid and tower.free_size:
            raise ScoreNotAvailable(
                self.name,
                "selects places of one grid, but images of this model have grids of any size: use "
                "a method that looks at the tokens (fastervlm with --score column-mean, divprune, "
                "cdpruner)",
            )
        if not self.in_order and not tower.one_to_one:
            raise ScoreNotAvailable(
                self.name,
                "returns tokens that are not patches in their original order; only models with "
                "one tile per image and one token per patch can read them: use another method "
                "(vtp list methods)",
            )


CLS, COLUMN_MEAN = "cls", "column-mean"


@dataclass(frozen=True, kw_only=True)
class AttentionScored(VisionMethod):
    """A vision-side method that ranks by attention inside the tower."""

    score: str = CLS
    """``cls``: attention of the [CLS] row. ``column-mean``: attention received from all image
    tokens, for towers without [CLS] (as ports of these methods to SigLIP do)."""

    def __post_init__(self) -> None:
        check_choice(self.name, "score", self.score, (CLS, COLUMN_MEAN))

    def heads(self, tower: TowerView, layer: int = -1) -> torch.Tensor:
        """``(images, heads, tokens)`` float32, of the kind that ``score`` names."""
        of_kind = tower.cls_attention if self.score == CLS else tower.received_attention
        return of_kind(layer)

    def score_layer(self, depth: int) -> int | None:
        return depth - 1

    @property
    def reads_cls(self) -> bool:
        return self.score == CLS


@dataclass(frozen=True, kw_only=True)
class DecoderMethod(Method):
    """Drops tokens between layers of the decoder."""

    budget: str = "all"
    """Whether a drop keeps its share of each ``image``, or the best of ``all`` images together."""

    @property
    def positions(self) -> str:
        return "original"

    def drops(self, depth: int) -> tuple[Drop, ...]:
        """Where tokens are dropped in a decoder of ``depth`` layers.

        Raises:
            LayerOutOfRange: a layer outside the decoder.
        """
        raise NotImplementedError

    def places(
        self, layers: Sequence[int], ratios: Sequence[float], published: Sequence[int], depth: int
    ) -> list[tuple[int, float]]:
        """First layer and keep of every stage after the first.

        Args:
            layers: as the user set them; empty for those published.
            ratios: one for each.
            published: layers in a decoder of 32, spread over another depth.
            depth: layers of this decoder.

        Raises:
            LayerOutOfRange, ParameterInvalid: layers that cannot be, or another number of ratios.
        """
        chosen = tuple(layers) or spread_layers(published, depth)
        self.check_layers(chosen, depth)
        if len(chosen) != len(ratios):
            accepted = f"one ratio for each of the layers {chosen}"
            raise ParameterInvalid(self.name, "ratios", ratios, accepted)
        return list(zip(chosen, ratios, strict=True))

    def check_layers(self, layers: Sequence[int], depth: int) -> None:
        """Refuse layers that do not ascend within 1..depth - 1.

        Raises:
            LayerOutOfRange: as said.
        """
        fits = list(layers) == sorted(set(layers)) and all(0 < layer < depth for layer in layers)
        if not fits or not layers:
            raise LayerOutOfRange(self.name, layers, depth)


def spread_layers(published: Sequence[int], depth: int) -> tuple[int, ...]:
    """Layers published for a decoder of 32, at the same share of ``depth``; at least one apart."""
    layers: list[int] = []
    for layer in published:
        layers.append(max(round(layer * depth / 32), layers[-1] + 1 if layers else 1))
    return tuple(layers)


def check_choice(method: str, name: str, value: object, accepted: tuple[str, ...]) -> None:
    """Refuse a parameter that is not one of a few words.

    Raises:
        ParameterInvalid: naming the words.
    """
    if value not in accepted:
        raise ParameterInvalid(method, name, value, " or ".join(accepted))


def fixed_scores(ranks: np.ndarray, features: torch.Tensor) -> torch.Tensor:
    """``ranks (tokens,)``, rank 0 is kept first -> ``(images, tokens)`` float32 scores."""
    if not torch.compiler.is_exporting():
        return -torch.from_numpy(ranks).float().expand(features.shape[0], -1)
    # As an ONNX node, because a tensor made while tracing on fake tensors would have no values.
    (scores,) = node(
        "::Constant",
        (),
        {"value_floats": [-float(rank) for rank in ranks]},
        ((torch.float32, (len(ranks),)),),
    )
    return scores[None, :].expand(features.shape[0], -1)
