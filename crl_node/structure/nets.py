"""The network that corrects a decision's log odds: what the expansion around one completion misses.

A deep set over the columns that are still open (Zaheer et al. 2017): the same small network serves any number of
columns, any problem and any variable.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from crl_node.data import Array
from crl_node.structure.tree import GLOBAL, PAIR, Features


class Correction(nn.Module):
    """(row [B, GLOBAL], pair [B, n, PAIR], held [B, n]) -> [B] nats that are added to the decision's log odds."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.of_pair = nn.Linear(PAIR, width)
        self.of_row = nn.Linear(GLOBAL, width, bias=False)
        self.each = nn.Linear(width, width)
        self.both = nn.Linear(GLOBAL + width, width)
        self.again = nn.Linear(width, width)
        self.last = nn.Linear(width, 1)

    def forward(self, row: Tensor, pair: Tensor, held: Tensor) -> Tensor:
        """See the class; `held` is 0 where a pair is padding."""
        each = silu(self.of_pair(pair) + self.of_row(row)[:, None, :])
        each = silu(self.each(each))
        pooled = (each * held[:, :, None]).sum(dim=1) * 0.25
        hidden = silu(self.both(torch.cat([row, pooled], dim=1)))
        out: Tensor = self.last(silu(self.again(hidden)))
        return out[:, 0]


def as_correct(network: Correction, rows: int = 4096) -> Callable[[Features], Array]:
    """The network as a plain function of arrays, `rows` decisions at a time."""

    def correct(features: Features) -> Array:
        out = np.empty(len(features.row))
        with torch.inference_mode():
            for start in range(0, len(out), rows):
                part = slice(start, start + rows)
                pair = torch.from_numpy(features.pair[part])
                out[part] = network(
                    torch.from_numpy(features.row[part]), pair, torch.ones(pair.shape[:2])
                ).numpy()
        return out

    return correct
