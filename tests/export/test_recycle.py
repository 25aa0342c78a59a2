"""Tokens that are merged from dropped ones, with the planes that travel beside them."""

from __future__ import annotations

import torch

from vtp.export.modules.recycle import recycle

WIDTH = 4


def test_planes_are_merged_as_the_hidden_states_are_and_choose_nothing() -> None:
    torch.manual_seed(0)
    hidden, planes = torch.randn(1, 12, WIDTH), 100 * torch.randn(1, 12, 2 * WIDTH)
    rows = torch.cat((hidden, planes), dim=-1)
    places, scores = torch.arange(2, 12)[None], torch.rand(1, 10)
    counts = [torch.tensor([count]) for count in (3, 6, 2)]
    bare = recycle(hidden, hidden, places, scores, *counts)
    merged = recycle(rows, hidden, places, scores, *counts)
    assert merged.shape == (1, 2, 3 * WIDTH)
    torch.testing.assert_close(merged[..., :WIDTH], bare)
    # Each merged token is a mean of some of the six; the same ones give its planes.
    six = places[0, scores[0].argsort(descending=True)[3:9]]
    for token in merged[0]:
        subsets = (
            [six[place] for place in range(6) if choice >> place & 1] for choice in range(1, 2**6)
        )
        fits = [
            chosen
            for chosen in subsets
            if torch.allclose(hidden[0, chosen].mean(dim=0), token[:WIDTH], atol=1e-5)
        ]
        assert len(fits) == 1
        torch.testing.assert_close(planes[0, fits[0]].mean(dim=0), token[WIDTH:])
