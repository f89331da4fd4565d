"""The three losses of BLIP-2's first stage, as functions of embeddings and logits (arXiv:2301.12597, section 3.2).

Letters: B rows of this process, N rows of all processes, Q query tokens, d retrieval width, T text positions, V
vocabulary. Pictures and texts of one row belong together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from onlooker.language.loss import IGNORED

#: what LAVIS smooths the targets of contrast and of generation with
LABEL_SMOOTHING = 0.1
#: a learned temperature must not run to zero: the similarities would overflow
LEAST_TEMPERATURE = 1e-3


def similarities(
    image_embeds: Tensor,
    text_embeds: Tensor,
    all_image_embeds: Tensor,
    all_text_embeds: Tensor,
    temperature: Tensor,
) -> tuple[Tensor, Tensor]:
    """How well own pictures fit all texts and own texts all pictures: of each picture the best query counts.

    Args:
        image_embeds: [B, Q, d] of length 1; all_image_embeds: [N, Q, d].
        text_embeds: [B, d] of length 1; all_text_embeds: [N, d].
        temperature: learned, a scalar.

    Returns:
        Image to text and text to image, [B, N] each, divided by the temperature.
    """
    temperature = temperature.clamp(min=LEAST_TEMPERATURE)
    to_text = torch.einsum("bqd,nd->bnq", image_embeds, all_text_embeds).amax(-1)
    to_image = torch.einsum("bd,nqd->bnq", text_embeds, all_image_embeds).amax(-1)
    return to_text / temperature, to_image / temperature


def contrastive_loss(
    image_to_text: Tensor, text_to_image: Tensor, positives: Tensor, label_smoothing: float = LABEL_SMOOTHING
) -> Tensor:
    """ITC: cross-entropy of both directions against the pairs that belong together.

    Args:
        image_to_text, text_to_image: [B, N], see `similarities`.
        positives: [B, N], True where they belong together; a row with several shares its target between them.
        label_smoothing: share of the target that is spread over all N.
    """
    targets = positives.float() / positives.sum(1, keepdim=True)
    targets = (1 - label_smoothing) * targets + label_smoothing / targets.shape[1]
    return (_soft_cross_entropy(image_to_text, targets) + _soft_cross_entropy(text_to_image, targets)) / 2


def _soft_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    return -(targets * scores.float().log_softmax(1)).sum(1).mean()


@torch.no_grad()
def mine_negatives(scores: Tensor, positives: Tensor) -> Tensor:
    """Draw for every row one that does not belong to it, the more similar the likelier (arXiv:2107.07651, 3.2).

    Args:
        scores: [B, N] similarities; softmax of a row, without its positives, is what is drawn from.
        positives: [B, N], True where they belong together.

    Returns:
        Indices [B] into N; IGNORED where everything in the batch belongs together.
    """
    weights = scores.float().masked_fill(positives, -torch.inf).softmax(1).nan_to_num(0.0)
    # A negative that is very unlikely beside others may get a weight of exactly 0: one must stay to draw from.
    weights = weights.masked_fill(~positives, 1e-12) + weights
    has_negative = (~positives).any(1)
    drawn = torch.multinomial(torch.where(has_negative[:, None], weights, 1.0), 1).squeeze(1)
    return torch.where(has_negative, drawn, IGNORED)


def matching_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """ITM: cross-entropy of "belongs together" (1) or not (0).

    Args:
        logits: [rows, 2], already the mean over the queries.
        labels: [rows], IGNORED where there was no negative to be had.
    """
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED)


def generation_loss(
    logits: Tensor, ids: Tensor, mask: Tensor, label_smoothing: float = LABEL_SMOOTHING
) -> tuple[Tensor, Tensor]:
    """ITG: cross-entropy of each word given the queries and the words before it.

    Args:
        logits: [B, T, V].
        ids: [B, T] that were read, the [DEC] token first; mask: [B, T], padded on the right.

    Returns:
        The loss, and the share of words whose best guess was right.
    """
    labels = ids.masked_fill(~mask.bool(), IGNORED)[:, 1:].flatten()
    logits = logits[:, :-1].flatten(0, 1).float()
    loss = F.cross_entropy(logits, labels, ignore_index=IGNORED, label_smoothing=label_smoothing)
    scored = labels != IGNORED
    right = (logits.argmax(-1) == labels) & scored
    return loss, right.sum() / scored.sum().clamp(min=1)
