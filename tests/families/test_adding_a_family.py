"""A new family is one file and one row, as docs/adding-a-family.md says: here is one.

It has what no family here has: registers in its tower, text between the tiles of an image, and a
plane of every image token that a later layer adds.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText

import vtp
from vtp.errors import BeyondLimits
from vtp.export import ExportOptions, export_model
from vtp.export.families import FAMILIES
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.chat.media import laid_out
from vtp.runtime.engines.capacity import BuildSizes, check_request, make_limits
from vtp.runtime.engines.tensorrt.variant import BuildOptions, build_variant
from vtp.runtime.model.model_input import extent_of

from .conftest import picture
from .tessera_model import TesseraConfig, TesseraForConditionalGeneration
from .tiny import TEXT, VISION, Words, save, template

NAME, ROW = "tessera", "tessera:Tessera"
MODULE = "vtp.export.families.tessera"
QUESTION = "what is it?"
WIDTH = TEXT["hidden_size"]
STEPS = 5


@pytest.fixture(scope="module", autouse=True)
def added(root: Path) -> Iterator[None]:
    """The file of the page, where it would lie in ``export/families``, and its row."""
    spec = spec_from_file_location(MODULE, root / "docs" / "tessera.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    AutoConfig.register(NAME, TesseraConfig, exist_ok=True)
    AutoModelForImageTextToText.register(
        TesseraConfig, TesseraForConditionalGeneration, exist_ok=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, MODULE, module)
        spec.loader.exec_module(module)
        patch.setitem(FAMILIES, NAME, ROW)
        yield


@pytest.fixture(scope="module")
def folder(made_once: Any) -> Path:
    """A small published model of the family."""

    def write(folder: Path) -> None:
        torch.manual_seed(0)
        words = Words("<image>")
        config = TesseraConfig(
            vision_config=transformers.Dinov2WithRegistersConfig(
                hidden_size=32, mlp_ratio=2, num_hidden_layers=3, num_attention_heads=2,
                image_size=32, patch_size=8, num_register_tokens=3,
                initializer_range=VISION["initializer_range"],
            ),
            text_config=words.text(transformers.LlamaConfig, num_hidden_layers=3),
            image_token_id=words.id("<image>"),
        )  # fmt: skip
        processor = transformers.GotOcr2ImageProcessorPil(
            size={"height": 32, "width": 32}, crop_to_patches=True, min_patches=1, max_patches=4
        )
        model = TesseraForConditionalGeneration(config)
        save(folder, model, words, processor, chat=template("<image>"))

    return Path(made_once("family-tessera", write))


@pytest.fixture(scope="module")
def export(made_once: Any, folder: Path) -> Callable[..., Path]:
    def get(label: str, **options: Any) -> Path:
        chosen = ExportOptions(**{"targets": ("ort",), **options})
        return Path(
            made_once(f"tessera-{label}", lambda out: export_model(str(folder), out, chosen))
        )

    return get


class Published:
    """The model as its authors run it, with every rule of its prompt written out."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForImageTextToText.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        ).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.processor: Any = transformers.GotOcr2ImageProcessorPil.from_pretrained(folder)

    def tokens(self, image: str, question: str) -> list[int]:
        """The prompt's tokens, ``image`` standing for the image."""
        text = f"USER: {image}\n{question}\nASSISTANT:"
        found: list[int] = self.tokenizer(text)["input_ids"]
        return found

    @torch.no_grad()
    def rows(self, images: list[Image.Image]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of each tile: features, plane, and attention of [CLS] to the patches."""
        made = self.processor(images, crop_to_patches=True, return_tensors="pt")["pixel_values"]
        features, plane = self.model.model.image_features(made)
        out = self.model.model.vision_tower(made, output_attentions=True)
        registers = self.model.config.vision_config.num_register_tokens
        return features, plane, out.attentions[-1][:, :, 0, 1 + registers :].mean(dim=1)

    def spliced(
        self, tokens: list[int], features: list[torch.Tensor], planes: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Embeddings and planes ``(1, n, width)``, and which rows are image tokens."""
        table, image = self.model.get_input_embeddings(), self.model.config.image_token_id
        of_tiles = iter(zip(features, planes, strict=True))
        rows, added, is_image = [], [], []
        for token in tokens:
            if token == image:
                one, plane = next(of_tiles)
            else:
                one = table(torch.tensor([token]))
                plane = torch.zeros_like(one)
            rows.append(one)
            added.append(plane)
            is_image += [token == image] * len(one)
        assert next(of_tiles, None) is None
        return torch.cat(rows)[None], torch.cat(added)[None], torch.tensor(is_image)

    @torch.no_grad()
    def answer(self, embeds: torch.Tensor, planes: torch.Tensor) -> list[int]:
        """Greedy tokens, everything read anew for each of them."""
        found: list[int] = []
        for _ in range(STEPS):
            out = self.model.model.decode(embeds, planes)
            found.append(int(self.model.lm_head(out.last_hidden_state[0, -1]).argmax()))
            row = self.model.get_input_embeddings()(torch.tensor([found[-1:]]))
            embeds = torch.cat((embeds, row), dim=1)
            planes = torch.cat((planes, torch.zeros_like(row)), dim=1)
        return found


@pytest.fixture(scope="module")
def published(folder: Path) -> Published:
    return Published(folder)


WIDE = (
    "row 1 column 1: <image>row 1 column 2: <image>\n"
    "row 2 column 1: <image>row 2 column 2: <image>\n"
    "whole: <image>"
)
LINE = "row 1 column 1: <image>row 1 column 2: <image>row 1 column 3: <image>\nwhole: <image>"
SHAPES = {(64, 64): (WIDE, 5), (96, 32): (LINE, 4), (20, 20): ("whole: <image>", 1)}
"""Size of an image -> what stands for it, and its tiles."""


@pytest.mark.parametrize("size", SHAPES, ids=str)
def test_an_image_with_every_token(
    export: Callable[..., Path], published: Published, size: tuple[int, int]
) -> None:
    image = picture(*size)
    text, tiles = SHAPES[size]
    features, planes, _ = published.rows([image])
    assert len(features) == tiles
    tokens = published.tokens(text, QUESTION)
    embeds, added, _ = published.spliced(tokens, list(features), list(planes))
    assert float(added.abs().max()) > 0.1
    with vtp.load(export("fastervlm", keep=0.25)) as pipeline:
        request = pipeline.request(image, QUESTION, keep=1.0, max_new_tokens=STEPS)
        assert list(request.inputs.tokens) == tokens
        assert request.prompt_tokens == embeds.shape[1]
        result = pipeline.run(request).finish()
    assert list(result.tokens) == published.answer(embeds, added)


def test_what_cls_attends_to_is_kept_with_its_plane(
    export: Callable[..., Path], published: Published
) -> None:
    image = picture(64, 64)
    features, planes, attention = published.rows([image])
    best = attention.topk(4).indices.sort().values
    tokens = published.tokens(WIDE, QUESTION)
    chosen = (
        [part[kept] for part, kept in zip(parts, best, strict=True)] for parts in (features, planes)
    )
    embeds, added, _ = published.spliced(tokens, *chosen)
    with vtp.load(export("fastervlm", keep=0.25)) as pipeline:
        result = pipeline.generate(image, QUESTION, max_new_tokens=STEPS)
    assert [kept.tolist() for kept in result.kept] == best.tolist()
    wanted = published.answer(embeds, added)
    assert list(result.tokens) == wanted
    bare = published.answer(embeds, torch.zeros_like(added))
    assert bare != wanted, "the plane must matter, or this shows nothing"


DROPS = [(1, "next-attention"), (2, "attention")]


@pytest.fixture(scope="module")
def staged(export: Callable[..., Path]) -> Callable[..., Path]:
    """A bundle that drops once in the decoder, and was checked on the layers before that."""

    def get(layer: int, score: str) -> Path:
        stages, check = (f"{layer}:0.5:{score}",), f"layers:{layer}"
        return export(f"stage-{layer}", method=None, stages=stages, check=check)

    return get


@torch.no_grad()
@pytest.mark.parametrize(("layer", "score"), DROPS)
def test_a_plane_goes_through_a_drop_that_comes_before_it(
    staged: Callable[..., Path], published: Published, layer: int, score: str
) -> None:
    """The plane is added behind layer 1: a drop before that carries it, a later one does not."""
    image = picture(64, 64)
    features, planes, _ = published.rows([image])
    tokens = published.tokens(WIDE, QUESTION)
    embeds, added, is_image = published.spliced(tokens, list(features), list(planes))
    bundle = staged(layer, score)
    with vtp.load(bundle) as pipeline:
        result = pipeline.generate(image, QUESTION, max_new_tokens=1)
    kept = np.concatenate(
        [16 * tile + one for tile, one in enumerate(result.stages[1].kept)]
    )  # of all image tokens
    assert len(kept) == 5 * 16 // 2
    rows = torch.nonzero(~is_image).flatten()
    rows = torch.cat((rows, torch.nonzero(is_image).flatten()[kept])).sort().values

    decoder = published.model.model.language_model
    hidden, numbers = embeds, torch.arange(embeds.shape[1])[None]
    for number, of_layer in enumerate(decoder.layers):
        if number == layer:
            hidden, added, numbers = hidden[:, rows], added[:, rows], numbers[:, rows]
        angles = decoder.rotary_emb(hidden, numbers)
        count = hidden.shape[1]
        causal = torch.full((count, count), torch.finfo(torch.float32).min).triu(1)[None, None]
        hidden = of_layer(hidden, attention_mask=causal, position_embeddings=angles)
        if number == 1:
            hidden = hidden + added
    logits = published.model.lm_head(decoder.norm(hidden[:, -1]))
    assert result.tokens == (int(logits.argmax()),)


@pytest.mark.parametrize(("layers", "score"), DROPS)
def test_a_model_is_checked_on_its_first_layers(
    staged: Callable[..., Path], layers: int, score: str, vtp: Callable[..., Any]
) -> None:
    """Before and behind the plane; where the stage ends, planes of later layers are no part."""
    verified = vtp("verify", staged(layers, score))
    assert verified.status == 0, verified.err
    assert "check.0" in verified.out


def test_every_target_and_method_takes_planes(everything: Path) -> None:
    manifest = json.loads((everything / "manifest.json").read_text())
    assert manifest["language"]["planes"] == [1]
    shapes = {
        (graph["name"], tensor["name"]): tensor["shape"][-1]
        for graph in manifest["graphs"]
        for tensor in (*graph["inputs"], *graph["outputs"])
        if graph["target"] == "trt10"
    }
    assert shapes["vision", "image_embeds"] == 2 * WIDTH
    assert shapes["raters", "inputs_embeds"] == 2 * WIDTH
    assert shapes["language.0", "inputs_embeds"] == 2 * WIDTH
    assert shapes["drop.1", "hidden_states_out"] == 2 * WIDTH
    assert shapes["language.1", "hidden_states"] == 2 * WIDTH
    # Behind layer 1 the plane is part of the hidden state.
    assert shapes["language.1", "hidden_states_out"] == WIDTH
    assert shapes["drop.2", "hidden_states"] == WIDTH
    assert {graph["name"] for graph in manifest["graphs"]} == {name for name, _ in shapes}


@pytest.fixture(scope="module")
def everything(export: Callable[..., Path]) -> Path:
    return export(
        "all", method="cdpruner+sparsevlm", targets=("ort", "onnx", "trt10"),
        parameters={"layers": (1, 2), "ratios": (0.5, 0.25)},
    )  # fmt: skip


def test_tensorrt_rtx_builds_every_graph(everything: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx-cu13")
    bundle = Path(shutil.copytree(everything, tmp_path / "bundle"))
    options = BuildOptions(engine="tensorrt-rtx", compute_capabilities=("8.9",), name="built")
    variant = build_variant(bundle, options)
    graphs = [graph.name for graph in Bundle(bundle).manifest.graphs if graph.target == "onnx"]
    assert [engine.graph for engine in variant.engines] == graphs


def test_a_build_takes_an_image_of_many_tiles(export: Callable[..., Path]) -> None:
    """Each tile stands in the prompt by itself, and all of them are one image."""
    manifest = Bundle(export("fastervlm", keep=0.25)).manifest
    plan, limits = manifest.plan, make_limits(manifest, BuildSizes())
    assert (limits.images, limits.parts) == (1, 5)
    extent = extent_of(laid_out([manifest.preprocessing(picture(64, 64))], manifest.prompt).placed)
    assert extent.images == 5
    check_request(plan, limits, plan.counts(None, extent), extent, "vtp build DIR")
    with pytest.raises(BeyondLimits, match=r"images, tiles and frames per turn: 10, .* is 5"):
        twice = extent_of(
            laid_out([manifest.preprocessing(picture(64, 64))] * 2, manifest.prompt).placed
        )
        check_request(plan, limits, plan.counts(None, twice), twice, "vtp build DIR")


def test_an_overlay_shows_every_tile(
    export: Callable[..., Path], vtp: Callable[..., Any], tmp_path: Path
) -> None:
    """All tokens kept of the tiles, and of the tile that shows the whole: nothing is dimmed."""
    image, target = tmp_path / "image.png", tmp_path / "kept.png"
    picture(64, 64).save(image)
    run = vtp(
        "run", export("fastervlm", keep=0.25), "--image", image, "--prompt", QUESTION,
        "--keep", "1.0", "--max-new-tokens", "1", "--save-overlay", target,
    )  # fmt: skip
    assert run.status == 0, run.err
    with Image.open(image) as before, Image.open(target) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after.convert("RGB")))


def test_the_page_shows_the_file(root: Path) -> None:
    page = (root / "docs" / "adding-a-family.md").read_text(encoding="utf-8")
    assert (root / "docs" / "tessera.py").read_text(encoding="utf-8") in page
    assert f'"{NAME}": "{ROW}"' in page
