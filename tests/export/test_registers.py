"""A tower with registers between [CLS] and the patches: they are attended to, and never kept."""

from __future__ import annotations

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from vtp.export.methods.base import COLUMN_MEAN
from vtp.export.methods.fastervlm import FasterVlm
from vtp.export.modules.vision import VisionGraph
from vtp.export.ops.attention import use_traced_attention
from vtp.export.parts.vision import VisionParts
from vtp.runtime.bundle.contract import PIXEL_VALUES

WIDTH, HEADS, REGISTERS, PATCHES = 16, 2, 3, 4


class WithRegisters(nn.Module):
    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.registers = nn.Parameter(torch.randn(1, REGISTERS, WIDTH))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        rows = self.embeddings(pixel_values)
        registers = self.registers.expand(len(rows), -1, -1)
        return torch.cat((rows[:, :1], registers, rows[:, 1:]), dim=1)


@torch.no_grad()
def test_registers_are_no_image_tokens() -> None:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=HEADS,
        image_size=8, patch_size=4, initializer_range=1.0, initializer_factor=1.0,
    )  # fmt: skip
    tower = CLIPVisionModel(config).eval()
    tower = getattr(tower, "vision_model", tower)
    use_traced_attention(tower)
    (layer,) = tower.encoder.layers
    embeddings, projector = WithRegisters(tower.embeddings), nn.Linear(WIDTH, 12)
    parts = VisionParts(
        embeddings=embeddings, layers=tower.encoder.layers, projector=projector, has_cls=True,
        registers=REGISTERS, grid=(2, 2), image_size=(8, 8),
    )  # fmt: skip
    pixels = torch.randn(2, 3, 8, 8)

    rows = embeddings(pixels)
    assert rows.shape[1] == 1 + REGISTERS + PATCHES
    normed = layer.layer_norm1(rows)
    query, key = (
        proj(normed).reshape(2, -1, HEADS, WIDTH // HEADS).transpose(1, 2)
        for proj in (layer.self_attn.q_proj, layer.self_attn.k_proj)
    )
    attention = torch.softmax(query @ key.transpose(2, 3) * (WIDTH // HEADS) ** -0.5, dim=-1)
    first = 1 + REGISTERS
    wanted = {
        "cls": attention[:, :, 0, first:].mean(dim=1),
        COLUMN_MEAN: attention[:, :, first:, first:].mean(dim=(1, 2)),
    }
    hidden = layer(rows, attention_mask=None, vtp=_Plain())
    hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    for score, expected in wanted.items():
        graph = VisionGraph(parts, FasterVlm(score=score))
        embeds, kept, scores = graph({PIXEL_VALUES: pixels}, keep=torch.tensor([2]))
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)
        best = expected.topk(2).indices.sort().values
        assert torch.equal(kept, best)
        chosen = torch.take_along_dim(hidden[:, first:], best[..., None], dim=1)
        torch.testing.assert_close(embeds, projector(chosen), atol=1e-4, rtol=1e-4)


class _Plain:
    def attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        weights = torch.softmax(query @ key.transpose(2, 3) * scale, dim=-1)
        return (weights @ value).transpose(1, 2)
