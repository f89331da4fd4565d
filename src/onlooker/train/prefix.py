"""Prefix language modelling for an encoder-decoder: the front of a text is read, the rest is written."""

from __future__ import annotations

import torch
from torch import Tensor

from onlooker.language.loss import IGNORED


def split_prefix(input_ids: Tensor, attention_mask: Tensor, labels: Tensor, *, pad_token_id: int) -> dict[str, Tensor]:
    """Move a random front part of every row's labels behind its prompt (arXiv:2301.12597, section 3.3).

    At least the last label of a row, its end token, is left to be written, and at least one more where there are two.

    Args:
        input_ids, attention_mask: [B, T] of the encoder; pads may stand anywhere and are moved to the right.
        labels: [B, T'], IGNORED = not scored.

    Returns:
        New "input_ids", "attention_mask" and "labels".
    """
    encoder, decoder = [], []
    for ids, mask, row in zip(input_ids, attention_mask, labels):
        words = row[row != IGNORED]
        cut = int(torch.randint(max(len(words) - 1, 1), ()))  # 0 ... len - 2
        encoder.append(torch.cat([ids[mask.bool()], words[:cut]]))
        decoder.append(words[cut:])
    ids = _stack(encoder, pad_token_id)
    lengths = torch.tensor([len(row) for row in encoder], device=ids.device)
    return {
        "input_ids": ids,
        "attention_mask": (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long(),
        "labels": _stack(decoder, IGNORED),
    }


def _stack(rows: list[Tensor], padding: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
