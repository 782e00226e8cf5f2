"""GLoRI: one query per class looks over the patches and answers for its class (arXiv 2502.05142 version 1).

Tensor names are the published ones, so that a published head can be read.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    def __init__(self, features: int, classes: int, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.embed_standart = nn.Linear(features, width)
        self.query_embed = nn.Embedding(classes, width)
        # Random and never trained, as published: far apart in 256 dimensions, they need not move.
        self.query_embed.weight.requires_grad_(False)
        self.layers = nn.ModuleList([_CrossAttentionLayer(width, heads, hidden, dropout)])
        self.duplicate_pooling = nn.Parameter(torch.empty(classes, width, 1))
        self.duplicate_pooling_bias = nn.Parameter(torch.zeros(classes))
        nn.init.xavier_normal_(self.duplicate_pooling)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        memory = F.relu(self.embed_standart(patches))
        queries = self.query_embed.weight.expand(len(patches), -1, -1)
        hidden, attention = self.layers[0](queries, memory)
        # Each class has a weight vector of its own for its own query ("group fully connected").
        logits = (hidden * self.duplicate_pooling[:, :, 0]).sum(dim=2) + self.duplicate_pooling_bias
        return logits, attention


class GLoRI(nn.Module):
    """Classification head over joined patch tokens.

    Parameters
    ----------
    features : channels of the patch tokens (four times the backbone's width)
    classes : K
    width : channels of queries and memory
    heads : attention heads
    hidden : width of the feed-forward net
    dropout : in training only
    """

    def __init__(
        self, features: int, classes: int, width: int = 256, heads: int = 8, hidden: int = 512, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.decoder = _Decoder(features, classes, width, heads, hidden, dropout)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """(logits [B, K], attention [B, heads, K, N] that sums to 1 over N)."""
        logits, attention = self.decoder(torch.cat(features.patches, dim=2))
        return logits, attention
