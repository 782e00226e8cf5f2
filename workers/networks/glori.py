"""GLoRI: one query per class looks over the patches and answers for its class (arXiv 2502.05142 version 1).

Tensor names are the published ones, so that a published head can be read.
"""

import copy
from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.networks.class_rows import check_rows, with_rows
from workers.networks.features import Features


class _CrossAttentionLayer(nn.Module):
    """A decoder layer without self-attention (ML-Decoder): attention to the patches, then a feed-forward net."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """`queries` [B, K, D], `memory` [B, N, D] to ([B, K, D], attention [B, heads, K, N])."""
        # The published layer adds the queries to themselves where self-attention would stand.
        queries = self.norm1(queries + self.dropout(queries))
        attended, attention = self.multihead_attn(queries, memory, memory, average_attn_weights=False)
        hidden = self.norm2(queries + self.dropout(attended))
        expanded = self.linear2(self.dropout(F.relu(self.linear1(hidden))))
        return self.norm3(hidden + self.dropout(expanded)), attention


class _Decoder(nn.Module):
    def __init__(
        self, features: int, classes: int, width: int, heads: int, hidden: int, dropout: float, cat_cls: bool
    ) -> None:
        super().__init__()
        self.embed_standart = nn.Linear(features, width)
        self.query_embed = nn.Embedding(classes, width)
        # Random and never trained, as published: far apart in 256 dimensions, they need not move.
        self.query_embed.weight.requires_grad_(False)
        self.layers = nn.ModuleList([_CrossAttentionLayer(width, heads, hidden, dropout)])
        self.duplicate_pooling = nn.Parameter(torch.empty(classes, features + width if cat_cls else width, 1))
        self.duplicate_pooling_bias = nn.Parameter(torch.zeros(classes))
        nn.init.xavier_normal_(self.duplicate_pooling)

    def forward(self, patches: Tensor, cls: Tensor | None) -> tuple[Tensor, Tensor]:
        memory = F.relu(self.embed_standart(patches))
        queries = self.query_embed.weight.expand(patches.shape[0], -1, -1)
        hidden, attention = self.layers[0](queries, memory)
        if cls is not None:
            hidden = torch.cat([cls[:, None].expand(-1, hidden.shape[1], -1), hidden], dim=2)
        # Each class has a weight vector of its own for its own query ("group fully connected").
        logits = (hidden * self.duplicate_pooling[:, :, 0]).sum(dim=2) + self.duplicate_pooling_bias
        return logits, attention


class GLoRI(nn.Module):
    """Classification head over joined patch tokens.

    Parameters
    ----------
    features : channels of the joined patch tokens (blocks given times the backbone's width)
    classes : K
    width : channels of queries and memory (768 in the published head)
    heads : attention heads
    hidden : width of the feed-forward net (2048 in the published head)
    dropout : in training only
    cat_cls : whether each class also weighs the joined class tokens, before what its query found
    """

    def __init__(
        self,
        features: int,
        classes: int,
        width: int = 256,
        heads: int = 8,
        hidden: int = 512,
        dropout: float = 0.1,
        cat_cls: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} attention heads do not divide a width of {width}")
        self.cat_cls = cat_cls
        self.decoder = _Decoder(features, classes, width, heads, hidden, dropout, cat_cls)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """(logits [B, K], attention [B, heads, K, N] that sums to 1 over N)."""
        cls = torch.cat(features.cls, dim=1) if self.cat_cls else None
        logits, attention = self.decoder(torch.cat(features.patches, dim=2), cls)
        return logits, attention

    @torch.no_grad()
    def with_classes(self, rows: Sequence[int | None]) -> Self:
        """A head for other classes: class i is the present class `rows[i]`, or with None a new one.

        A class that stays keeps its query, weights and bias; a new one gets a frozen random query, fresh weights and
        no bias. All that the classes share stays. Raises ValueError for a row that is not there.
        """
        check_rows(rows, len(self.decoder.duplicate_pooling_bias))
        # A copy keeps everything that the classes share, whatever a later version adds.
        other = copy.deepcopy(self)
        old, new = self.decoder, other.decoder
        new.query_embed = nn.Embedding(len(rows), old.query_embed.embedding_dim)
        new.query_embed.weight.copy_(with_rows(old.query_embed.weight, rows, torch.randn))
        new.query_embed.weight.requires_grad_(False)
        new.duplicate_pooling = nn.Parameter(with_rows(old.duplicate_pooling, rows, _xavier))
        new.duplicate_pooling_bias = nn.Parameter(with_rows(old.duplicate_pooling_bias, rows, torch.zeros))
        return other


def _xavier(shape: torch.Size) -> Tensor:
    return nn.init.xavier_normal_(torch.empty(shape))
