"""Cross-entropy of a decoder-only model, blind to padding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100


def next_token_loss(logits: Tensor, labels: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of every label under the logits of the attended token before it.

    A label of -100, at a pad, or at the first attended token of its row is not scored, so that a padded row has the
    loss of the row alone.

    Args:
        logits: [B, T, V].
        labels: [B, T'], T' <= T; the last T' positions are scored.
        attention_mask: [B, T], 1 = attended; None attends all.

    Raises:
        ValueError: more labels than logits.
    """
    if labels.shape[1] > logits.shape[1] or len(labels) != len(logits):
        raise ValueError(f"labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(logits.shape[:2])}")
    length = labels.shape[1]
    logits, labels = logits[:, -length:], labels.to(logits.device)
    if attention_mask is None or bool(attention_mask.all()):
        return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED)
    kept = attention_mask[:, -length:].to(logits.device).bool()
    index = torch.arange(length, device=logits.device).expand_as(kept)
    latest = torch.where(kept, index, -1).cummax(1).values  # last attended position up to each one
    previous = F.pad(latest[:, :-1], (1, 0), value=-1)
    rows, columns = (kept & (previous >= 0) & (labels != IGNORED)).nonzero(as_tuple=True)
    return F.cross_entropy(logits[rows, previous[rows, columns]].float(), labels[rows, columns])
