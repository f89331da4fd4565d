"""Who sees whom in the Q-Former that queries and text share: the three masks of arXiv:2301.12597, figure 2.

Each takes the number of queries and the text's mask [B, T] (1 = a word, pads on the right) and gives [B, Q + T, Q + T],
1 = row may look at column, queries first.
"""

from __future__ import annotations

import torch
from torch import Tensor


def bidirectional(num_queries: int, text_mask: Tensor) -> Tensor:
    """Matching: all see all."""
    keys = torch.cat([text_mask.new_ones(len(text_mask), num_queries), text_mask], dim=1)
    return keys[:, None].expand(-1, keys.shape[1], -1)


def multimodal_causal(num_queries: int, text_mask: Tensor) -> Tensor:
    """Generation: queries see queries; a word sees the queries and the words up to itself."""
    seen = bidirectional(num_queries, text_mask).clone()
    length = text_mask.shape[1]
    seen[:, :num_queries, num_queries:] = 0
    seen[:, num_queries:, num_queries:] *= torch.ones_like(seen[0, :length, :length]).tril()
    return seen


def uni_modal(num_queries: int, text_mask: Tensor) -> Tensor:
    """Contrast: queries see queries and words see words, so that neither knows the other."""
    seen = bidirectional(num_queries, text_mask).clone()
    seen[:, :num_queries, num_queries:] = 0
    seen[:, num_queries:, :num_queries] = 0
    return seen
