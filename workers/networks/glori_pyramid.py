"""GLoRI with what version 2 of its paper adds (arXiv 2502.05142v2): OUR READING, there is no public code or weight.

Not compatible with any published tensor. What the paper names and how it is read here:
- adaptive temperature per query: a small net on the mean patch, tanh, exp; it scales the query's attention logits;
- pyramid patch merging: means over 8 x 8, 4 x 4 and 2 x 2 patches, each projected to a third of the width, brought
  back to the grid and joined: coarse context as a second memory beside the fine patches;
- class token skip: the joined class tokens go to every class's output.
"""

import copy
from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.networks.class_rows import check_rows, with_rows
from workers.networks.features import Features

#: Sides, in patches, of the squares that are merged.
_MERGED = (8, 4, 2)


class PyramidGLoRI(nn.Module):
    """Classification head over joined patch tokens and their pyramid.

    Parameters
    ----------
    features : channels of the joined patch tokens, and of the joined class tokens
    classes : K
    width : channels of queries and memory; a multiple of 3 and of `heads`
    heads : attention heads
    hidden : width of the feed-forward net
    dropout : in training only
    """

    def __init__(
        self, features: int, classes: int, width: int = 768, heads: int = 8, hidden: int = 2048, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if width % 3 or width % heads:
            raise ValueError(f"a width of {width} is not divided by 3 and by {heads} attention heads")
        self.heads = heads
        self.embed = nn.Linear(features, width)
        self.merge = nn.ModuleList(nn.Linear(width, width // 3) for _ in _MERGED)
        self.query_embed = nn.Embedding(classes, width)
        self.query_embed.weight.requires_grad_(False)
        self.temperature = nn.Sequential(nn.Linear(width, width // 4), nn.GELU(), nn.Linear(width // 4, classes))
        self.to_query, self.to_key, self.to_value = (nn.Linear(width, width) for _ in range(3))
        self.project = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )
        self.norm_query, self.norm_attended, self.norm_output = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        self.pooling = nn.Parameter(nn.init.xavier_normal_(torch.empty(classes, features + width)))
        self.bias = nn.Parameter(torch.zeros(classes))
        # Begin at temperature 1 for every query.
        last = self.temperature[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """(logits [B, K], attention [B, heads, K, N] that sums to 1 over N).

        A patch's attention is that to itself and to the coarse context at its place.
        """
        fine = F.relu(self.embed(torch.cat(features.patches, dim=2)))
        memory = torch.cat([fine, self._pyramid(fine, features.grid)], dim=1)
        queries = self.norm_query(self.query_embed.weight).expand(fine.shape[0], -1, -1)
        query, key, value = (
            self._split(part) for part in (self.to_query(queries), self.to_key(memory), self.to_value(memory))
        )
        scale = torch.exp(torch.tanh(self.temperature(fine.mean(dim=1))))[:, None, :, None]
        weights = (scale * (query @ key.transpose(2, 3)) / query.shape[3] ** 0.5).softmax(dim=3)
        attended = (self.dropout(weights) @ value).transpose(1, 2).flatten(2)
        hidden = self.norm_attended(queries + self.dropout(self.project(attended)))
        hidden = self.norm_output(hidden + self.dropout(self.feed_forward(hidden)))
        skip = torch.cat(features.cls, dim=1)[:, None].expand(-1, hidden.shape[1], -1)
        logits = (torch.cat([skip, hidden], dim=2) * self.pooling).sum(dim=2) + self.bias
        patches = fine.shape[1]
        return logits, weights[..., :patches] + weights[..., patches:]

    @torch.no_grad()
    def with_classes(self, rows: Sequence[int | None]) -> Self:
        """A head for other classes: class i is the present class `rows[i]`, or with None a new one.

        A class that stays keeps its query, temperature, weights and bias; a new one gets a frozen random query,
        temperature 1, fresh weights and no bias. Raises ValueError for a row that is not there.
        """
        check_rows(rows, len(self.bias))
        other = copy.deepcopy(self)
        other.query_embed = nn.Embedding(len(rows), self.query_embed.embedding_dim)
        other.query_embed.weight.copy_(with_rows(self.query_embed.weight, rows, torch.randn))
        other.query_embed.weight.requires_grad_(False)
        last = self.temperature[-1]
        assert isinstance(last, nn.Linear)
        temperature = nn.Linear(last.in_features, len(rows))
        temperature.weight.copy_(with_rows(last.weight, rows, torch.zeros))
        temperature.bias.copy_(with_rows(last.bias, rows, torch.zeros))
        other.temperature[-1] = temperature
        other.pooling = nn.Parameter(
            with_rows(self.pooling, rows, lambda shape: nn.init.xavier_normal_(torch.empty(shape)))
        )
        other.bias = nn.Parameter(with_rows(self.bias, rows, torch.zeros))
        return other

    def _pyramid(self, fine: Tensor, grid: tuple[int, int]) -> Tensor:
        """Context [B, N, width] of patches [B, N, width] on `grid`."""
        rows, columns = grid
        cells = fine.transpose(1, 2).reshape(fine.shape[0], -1, rows, columns)
        levels = []
        for side, project in zip(_MERGED, self.merge, strict=True):
            # A square that the border cuts is the mean of what it holds.
            merged = F.avg_pool2d(cells, side, ceil_mode=True, count_include_pad=False)
            projected = project(merged.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            spread = projected.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
            levels.append(spread[:, :, :rows, :columns])
        return torch.cat(levels, dim=1).flatten(2).transpose(1, 2)

    def _split(self, tokens: Tensor) -> Tensor:
        """[B, L, width] to [B, heads, L, width / heads]."""
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)
