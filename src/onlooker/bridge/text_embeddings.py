"""Words and positions of the text that the Q-Former reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onlooker.bridge.config import Blip2QFormerConfig


class QFormerTextEmbeddings(nn.Module):
    """Word plus position, with the query tokens joined in front."""

    def __init__(self, config: Blip2QFormerConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.has_absolute_positions = config.position_embedding_type == "absolute"

    def forward(
        self, input_ids: Tensor, position_ids: Tensor | None = None, query_embeds: Tensor | None = None
    ) -> Tensor:
        """
        Args:
            input_ids: [B, T].
            position_ids: [B, T] or [1, T]; 0, 1, ... by default, over the text only.
            query_embeds: [B, Q, D], put in front as they are.

        Raises:
            ValueError: the text is longer than the position table.
        """
        length, room = input_ids.shape[1], self.position_embeddings.num_embeddings
        if length > room:
            raise ValueError(f"the text has {length} tokens and the Q-Former has positions for {room}: give max_length")
        x = self.word_embeddings(input_ids)
        if self.has_absolute_positions:
            if position_ids is None:
                position_ids = torch.arange(length, device=input_ids.device)[None]
            x = x + self.position_embeddings(position_ids)
        return x if query_embeds is None else torch.cat([query_embeds.to(x.dtype), x], dim=1)
