"""The cells of a batch's true classes in each chunk of the classes: listed, or masked without asking the device.

Shapes: B batch, D feature dimensions, K classes of a chunk, N chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class OwnCells(Protocol):
    """The true classes' cells of one chunk."""

    def fill_(self, value_BK: Tensor, value: float) -> None:
        """Set the cells."""

    def add_(self, pull_KD: Tensor, embedding_BD: Tensor, factor_B: Tensor, inverse_K: Tensor) -> None:
        """Add to each true class's row its image's embedding, times the image's factor and the row's own."""


@dataclass(frozen=True)
class Listed:
    """As many rows and columns as the chunk has cells."""

    row: Tensor
    column: Tensor

    def fill_(self, value_BK: Tensor, value: float) -> None:
        """Set the cells."""
        value_BK[self.row, self.column] = value

    def add_(self, pull_KD: Tensor, embedding_BD: Tensor, factor_B: Tensor, inverse_K: Tensor) -> None:
        """Add the embeddings of the images with a cell."""
        own_B = factor_B[self.row] * inverse_K[self.column]
        pull_KD.index_add_(0, self.column, embedding_BD[self.row] * own_B[:, None])


@dataclass(frozen=True)
class Masked:
    """A column for every image, and whether it is its true class: all shapes are known without the values."""

    column_B: Tensor
    is_own_B: Tensor

    def fill_(self, value_BK: Tensor, value: float) -> None:
        """Set the cells; an image without one writes back what it read."""
        column_B1 = self.column_B[:, None]
        kept_B1 = value_BK.gather(1, column_B1)
        value_BK.scatter_(1, column_B1, kept_B1.masked_fill_(self.is_own_B[:, None], value))

    def add_(self, pull_KD: Tensor, embedding_BD: Tensor, factor_B: Tensor, inverse_K: Tensor) -> None:
        """Add the embeddings of all images, those without a cell times 0."""
        own_B = (factor_B * inverse_K[self.column_B]).mul_(self.is_own_B)
        pull_KD.index_add_(0, self.column_B, embedding_BD * own_B[:, None])


def listed(label_B: Tensor, spans: Sequence[tuple[int, int]]) -> list[OwnCells]:
    """Return the cells of each chunk; reads the labels on the host.

    >>> listed(torch.tensor([4, -1, 0]), [(0, 3), (3, 5)])
    [Listed(row=tensor([2]), column=tensor([0])), Listed(row=tensor([0]), column=tensor([1]))]
    """
    sorted_B, order_B = label_B.sort(stable=True)
    ends = [*(begin for begin, _ in spans), spans[-1][1] if spans else 0]
    cuts = torch.searchsorted(sorted_B, torch.tensor(ends, device=label_B.device)).tolist()
    return [
        Listed(order_B[low:high], sorted_B[low:high] - begin)
        for (begin, _), low, high in zip(spans, cuts, cuts[1:], strict=False)
    ]


def masked(label_B: Tensor, spans: Sequence[tuple[int, int]]) -> list[OwnCells]:
    """Return the cells of each chunk.

    >>> masked(torch.tensor([4, -1, 0]), [(0, 3), (3, 5)])[1]
    Masked(column_B=tensor([1, 0, 0]), is_own_B=tensor([ True, False, False]))
    """
    # all chunks at once: a GPU's time goes by operators here
    width = spans[0][1] if spans else 0
    begin_N1 = torch.arange(len(spans), device=label_B.device)[:, None] * width
    last = spans[-1][1] - 1 if spans else 0
    column_NB = label_B - begin_N1
    is_own_NB = (column_NB >= 0) & (column_NB < width)
    column_NB = column_NB.clamp_(0, width - 1).minimum(last - begin_N1)
    return [Masked(*cells) for cells in zip(column_NB, is_own_NB, strict=True)]
