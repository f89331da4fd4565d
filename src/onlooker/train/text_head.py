"""The head that writes captions in BLIP-2's first stage: BERT's, with the words of the text embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onlooker.bridge.config import Blip2QFormerConfig
from onlooker.nn.activations import activation
from onlooker.nn.initialize import init_normal


class TextHead(nn.Module):
    """Hidden states of the Q-Former's text positions -> scores of the next word (arXiv:1810.04805, appendix A).

    LAVIS keeps it as `cls.predictions`; what is made of the first stage afterwards does not need it.
    """

    def __init__(self, config: Blip2QFormerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.act = activation(config.hidden_act)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        init_normal(self, config.initializer_range)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """
        Args:
            x: [B, T, D].
            table: word embeddings [V, D], shared.

        Returns:
            Scores [B, T, V].
        """
        return F.linear(self.LayerNorm(self.act(self.dense(x))), table, self.bias)
