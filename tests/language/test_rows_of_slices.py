"""Slices of positions go into linear layers side by side."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onlooker.bridge.config import Blip2QFormerConfig
from onlooker.bridge.qformer import QFormerEncoder
from onlooker.language.decoder import keep_positions
from onlooker.nn.rows import own_rows


def lies_well(x: torch.Tensor) -> bool:
    """Strides too: a size of one hides them from is_contiguous()."""
    return x.stride() == torch.empty(x.shape).stride()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("count", [1, 4, 10])
def test_kept_positions_lie_side_by_side(batch: int, count: int) -> None:
    hidden = torch.randn(batch, 10, 8)
    kept = keep_positions(hidden, count)
    assert torch.equal(kept, hidden[:, -count:])
    assert lies_well(kept) or (batch == 1 and count > 1)  # a single long row is no batch
    assert own_rows(hidden) is hidden or batch == 1


@pytest.mark.parametrize("batch", [1, 2])
def test_no_linear_of_the_qformer_gets_a_strided_batch(batch: int) -> None:
    config = Blip2QFormerConfig(
        hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=3, encoder_hidden_size=16
    )
    encoder = QFormerEncoder(config, has_text=True).eval()
    seen: list[bool] = []
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(
                lambda _, inputs: seen.append(lies_well(inputs[0]) or (batch == 1 and inputs[0].shape[1] > 1))
            )
    for text in (1, 5):
        encoder(torch.randn(batch, 4 + text, 16), 4, source=torch.randn(batch, 9, 16))
    assert seen and all(seen)
