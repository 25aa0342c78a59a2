"""What a wrapper module is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class GraphModule(nn.Module):
    """A module whose call is one graph; outputs, flattened, are in the order of the graph's."""

    def arguments(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """The graph's inputs by name, as ``forward`` takes them."""
        return dict(inputs)
