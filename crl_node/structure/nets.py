"""The network that corrects a decision's log odds: what the expansion around one completion misses.

A deep set over the columns that are still open (Zaheer et al. 2017): the same small network serves any number of
columns, any problem and any variable.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from crl_node.data import Array
from crl_node.structure.tree import GLOBAL, PAIR, Features


class Correction(nn.Module):
    """(row [B, GLOBAL], pair [B, n, PAIR], open [B, n]) -> [B] nats that are added to the decision's log odds."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(PAIR + GLOBAL, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.all = nn.Sequential(
            nn.Linear(GLOBAL + width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )

    def forward(self, row: Tensor, pair: Tensor, held: Tensor) -> Tensor:
        first = self.each[0]
        lifted = nn.functional.linear(pair, first.weight[:, :PAIR])
        lifted = lifted + nn.functional.linear(row, first.weight[:, PAIR:], first.bias)[:, None, :]
        each = self.each[1:](lifted)
        pooled = (each * held[:, :, None]).sum(dim=1) * 0.25
        return self.all(torch.cat([row, pooled], dim=1))[:, 0]


def as_correct(network: Correction, rows: int = 4096) -> Callable[[Features], Array]:
    """The network as a plain function of arrays, `rows` decisions at a time."""

    def correct(features: Features) -> Array:
        out = np.empty(len(features.row))
        with torch.inference_mode():
            for start in range(0, len(out), rows):
                part = slice(start, start + rows)
                pair = torch.from_numpy(features.pair[part])
                out[part] = network(torch.from_numpy(features.row[part]), pair, torch.ones(pair.shape[:2])).numpy()
        return out

    return correct
