"""What every BLIP-2 class with a picture does first: vision tower, then queries that look at it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from onlooker.bridge.qformer import QFormerOutput
from onlooker.models.blip2.config import Blip2Config
from onlooker.models.blip2.parts import Blip2QFormerModel, Blip2VisionModel
from onlooker.pretrained import PreTrainedModel
from onlooker.vision.eva import VisionOutput


class Blip2PreTrainedModel(PreTrainedModel):
    """Facts about BLIP-2 checkpoints."""

    config_class = Blip2Config
    config: Blip2Config
    main_input_name = "pixel_values"
    _no_split_modules: ClassVar[tuple[str, ...]] = ("EvaLayer", "QFormerLayer", "LlamaLayer", "OPTLayer", "T5Block")

    def keep_in_fp32(self, dtype: torch.dtype) -> tuple[str, ...]:
        """In float16 the Q-Former and its queries stay in float32, beside what every model keeps."""
        own = (r"^query_tokens$", r"^qformer\.") if dtype == torch.float16 else ()
        return (*super().keep_in_fp32(dtype), *own)


class Blip2Encoder(nn.Module):
    """Vision tower, query tokens and Q-Former."""

    def __init__(self, config: Blip2Config) -> None:
        super().__init__()
        self.config = config
        self.vision_model = Blip2VisionModel(config.vision_config)
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, config.qformer_config.hidden_size))
        self.qformer = Blip2QFormerModel(config.qformer_config)

    def look(
        self,
        pixel_values: Tensor | None,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> tuple[VisionOutput, QFormerOutput]:
        """Pictures [N, 3, h, w] -> the tower's record, and the Q-Former's with features [N, Q, D]."""
        options = {
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
            "return_dict": True,
        }
        vision = self.vision_model(pixel_values, interpolate_pos_encoding, **options)
        return vision, self.query(vision.last_hidden_state, **options)

    def query(self, image_embeds: Tensor, **options: bool | None) -> QFormerOutput:
        """Vision features [N, 1 + P, D'] -> the Q-Former's record with features [N, Q, D]."""
        queries = self.query_tokens.expand(len(image_embeds), -1, -1).to(image_embeds.device)
        return self.qformer(queries, encoder_hidden_states=image_embeds, **options)
