"""InstructBLIP (arXiv:2305.06500): BLIP-2 whose Q-Former reads the instruction, for pictures and for clips.

Letters: B rows, F frames, N frames of all rows, Q query tokens, T prompt positions, D hidden of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from onlooker.models.blip2.outputs import Blip2ForConditionalGenerationModelOutput, Blip2ImageFeatures
from onlooker.models.generation import Clips
from onlooker.models.instructblip.config import InstructBlipConfig, InstructBlipVideoConfig
from onlooker.models.instructblip.parts import (
    InstructBlipQFormerModel,
    InstructBlipVideoQFormerModel,
    InstructBlipVideoVisionModel,
    InstructBlipVisionModel,
)
from onlooker.models.qformer_language import QFormerGeneration, QFormerLanguage
from onlooker.nn.masks import compact, is_right_padded
from onlooker.nn.rows import own_rows
from onlooker.outputs import output_options
from onlooker.pretrained import PreTrainedModel


class InstructBlipVideoForConditionalGenerationModelOutput(Blip2ForConditionalGenerationModelOutput):
    """Loss, logits [B, T, V] and the records of the three parts."""


class InstructBlipVideoModel(QFormerLanguage, PreTrainedModel, nn.Module):
    """Vision tower, instructed Q-Former, projection and language model, on clips.

    The language model keeps its head here, so that the published checkpoints load as they are.
    """

    config_class: ClassVar[Any] = InstructBlipVideoConfig
    vision_class: ClassVar[Any] = InstructBlipVideoVisionModel
    qformer_class: ClassVar[Any] = InstructBlipVideoQFormerModel
    main_input_name = "pixel_values"
    placeholder = "<video>"
    _no_split_modules: ClassVar[tuple[str, ...]] = (
        "EvaLayer",
        "QFormerLayer",
        "InstructQFormerEmbeddings",
        "LlamaLayer",
        "OPTLayer",
        "T5Block",
    )

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.vision_model = self.vision_class(config.vision_config)
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, config.qformer_config.hidden_size))
        self.qformer = self.qformer_class(config.qformer_config)
        self.build_language()

    def keep_in_fp32(self, dtype: torch.dtype) -> tuple[str, ...]:
        own = (r"^query_tokens$",) if dtype == torch.float16 else ()
        return (*super().keep_in_fp32(dtype), *own)

    @property
    def placeholder_id(self) -> int | None:
        return self.config.video_token_index

    def frames(self, pixel_values: Clips) -> tuple[Tensor, list[int]]:
        """All frames [N, 3, h, w], row after row, and the number of each row.

        Raises:
            ValueError: neither [B, F, 3, h, w] nor a list of [F, 3, h, w].
        """
        if pixel_values is None:
            raise ValueError("pixel_values is missing: give clips, [B, frames, 3, height, width]")
        for clip in pixel_values:
            if clip.dim() != 4 or not len(clip):
                raise ValueError(
                    f"a clip has shape {tuple(clip.shape)}; pixel_values is [B, frames, 3, h, w], or a list of "
                    f"[frames, 3, h, w] when clips differ in length. A picture is a clip of one frame: "
                    f"pixel_values[:, None]."
                )
        return torch.cat(list(pixel_values)), [len(clip) for clip in pixel_values]

    def clip_features(
        self,
        pixel_values: Clips,
        qformer_input_ids: Tensor | None,
        qformer_attention_mask: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> tuple[Blip2ImageFeatures, list[int]]:
        """Clips and the instruction -> visual tokens [N * Q, D] with the records of the parts, and tokens of each row.

        Raises:
            ValueError: no instruction for the Q-Former, or other than one for each clip.
        """
        pixels, frames = self.frames(pixel_values)
        if qformer_input_ids is None:
            raise ValueError(
                "qformer_input_ids is missing: this Q-Former reads the instruction. Let the processor write it (an "
                "empty text will do)."
            )
        if len(qformer_input_ids) != len(frames):
            raise ValueError(
                f"{len(frames)} pictures or clips and {len(qformer_input_ids)} instructions: give one for each"
            )
        options = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        vision = self.vision_model(pixels, interpolate_pos_encoding, **options, return_dict=True)
        tokens, looked = self.read_patches(
            vision.last_hidden_state, frames, qformer_input_ids, qformer_attention_mask, **options
        )
        return Blip2ImageFeatures(tokens, vision, looked), [count * self.query_tokens.shape[1] for count in frames]

    def read_patches(
        self,
        patches: Tensor,
        frames: list[int],
        qformer_input_ids: Tensor,
        qformer_attention_mask: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor, Any]:
        """What the Q-Former, told the instructions, takes out of patch features that may have been made before.

        Args:
            patches: [N, 1 + P, D of the tower], row after row.
            frames: of each row.
            qformer_input_ids, qformer_attention_mask: [B, T'].
            options: of the Q-Former: output_attentions, output_hidden_states.

        Returns:
            Visual tokens [N * Q, D], and the Q-Former's record.
        """
        queries = self.query_tokens.expand(len(patches), -1, -1).to(patches.device)
        if qformer_attention_mask is None:
            qformer_attention_mask = torch.ones_like(qformer_input_ids)
        elif not is_right_padded(qformer_attention_mask):  # the Q-Former counts positions from its queries
            qformer_input_ids, lengths = compact(qformer_input_ids, qformer_attention_mask)
            index = torch.arange(qformer_input_ids.shape[1], device=lengths.device)
            qformer_attention_mask = (index < lengths[:, None]).long()
        mask = torch.cat(
            [qformer_attention_mask.new_ones(len(frames), queries.shape[1]), qformer_attention_mask], dim=1
        )
        repeats = torch.tensor(frames, device=mask.device)
        looked = self.qformer(
            qformer_input_ids.repeat_interleave(repeats, 0),
            attention_mask=mask.repeat_interleave(repeats, 0),
            query_embeds=queries,
            encoder_hidden_states=patches,
            **options,
            return_dict=True,
        )
        tokens = self.project(own_rows(looked.last_hidden_state[:, : queries.shape[1]]), patches.dtype)
        return tokens.flatten(0, 1), looked

    def forward(
        self,
        pixel_values: Clips,
        qformer_input_ids: Tensor | None = None,
        qformer_attention_mask: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        use_cache: bool | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> InstructBlipVideoForConditionalGenerationModelOutput | tuple:
        """Scores of the words behind a clip and a prompt.

        Args:
            pixel_values: [B, F, 3, h, w] normalised, or a list of [F_i, 3, h, w]; [B, 3, h, w] in the picture classes.
            qformer_input_ids: [B, T'] the instruction in the Q-Former's vocabulary.
            qformer_attention_mask: [B, T'], 1 = attended.
            input_ids: [B, T] with F * Q placeholders in each row; or inputs_embeds [B, T, D].
            attention_mask: [B, T], 1 = attended; pads may stand anywhere.
            decoder_input_ids: [B, T''], for an encoder-decoder; made from `labels` by default.
            labels: [B, T], -100 = not scored; gives `loss`.

        Raises:
            ValueError: clips of another shape, no instruction, no prompt, or a row with other than F * Q placeholders.
        """
        need_weights, keep_states, as_record = output_options(
            self.config, output_attentions, output_hidden_states, return_dict
        )
        features, counts = self.clip_features(
            pixel_values,
            qformer_input_ids,
            qformer_attention_mask,
            interpolate_pos_encoding,
            need_weights,
            keep_states,
        )
        embeds, mask = self.merge(features.pooler_output, counts, input_ids, attention_mask, inputs_embeds)
        loss, logits, language = self.answer(
            embeds,
            mask,
            labels,
            decoder_input_ids,
            decoder_attention_mask,
            use_cache=use_cache,
            output_attentions=need_weights,
            output_hidden_states=keep_states,
        )
        output = InstructBlipVideoForConditionalGenerationModelOutput(
            loss, logits, features.vision_outputs, features.qformer_outputs, language
        )
        return output if as_record else output.to_tuple()


class InstructBlipVideoForConditionalGeneration(QFormerGeneration, InstructBlipVideoModel):
    """InstructBLIP for answers about clips."""

    def get_video_features(
        self,
        pixel_values: Clips,
        qformer_input_ids: Tensor | None = None,
        qformer_attention_mask: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        return_dict: bool = False,
    ) -> Tensor | list[Tensor] | Blip2ImageFeatures:
        """Clips and the instruction -> visual tokens [B, F * Q, D], a list of them for a list of clips.

        Args:
            return_dict: True gives a record with `pooler_output`, `vision_outputs` and `qformer_outputs`, which also
                unpacks as that tuple.
        """
        features, counts = self.clip_features(
            pixel_values, qformer_input_ids, qformer_attention_mask, interpolate_pos_encoding
        )
        rows: Sequence[Tensor] | Tensor = features.pooler_output.split(counts)
        rows = torch.stack(list(rows)) if isinstance(pixel_values, Tensor) else list(rows)
        if not return_dict:
            return rows
        return Blip2ImageFeatures(rows, features.vision_outputs, features.qformer_outputs)

    @torch.no_grad()
    def generate(
        self,
        pixel_values: Clips,
        qformer_input_ids: Tensor | None = None,
        qformer_attention_mask: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        generation_config: Any = None,
        **options: Any,
    ) -> Any:
        """Write the words that follow a clip and a prompt (see `Blip2ForConditionalGeneration.generate`).

        Args:
            pixel_values, qformer_input_ids, qformer_attention_mask: as for `forward`.
            input_ids: [B, T] with F * Q placeholders in each row; without a prompt every clip is described.

        Raises:
            ValueError: inputs that do not fit each other, no bos token to begin from, or options that do not fit.
        """
        features, counts = self.clip_features(
            pixel_values, qformer_input_ids, qformer_attention_mask, interpolate_pos_encoding
        )
        return self.continue_prompt(
            features.pooler_output, counts, input_ids, attention_mask, inputs_embeds, generation_config, options
        )


class InstructBlipModel(InstructBlipVideoModel):
    """The same on pictures [B, 3, h, w]."""

    config_class = InstructBlipConfig
    vision_class = InstructBlipVisionModel
    qformer_class = InstructBlipQFormerModel
    placeholder = "<image>"

    @property
    def placeholder_id(self) -> int | None:
        return self.config.image_token_index

    def frames(self, pixel_values: Clips) -> tuple[Tensor, list[int]]:
        if pixel_values is None or not isinstance(pixel_values, Tensor) or pixel_values.dim() != 4:
            shape = tuple(pixel_values.shape) if isinstance(pixel_values, Tensor) else type(pixel_values).__name__
            raise ValueError(
                f"pixel_values is {shape}; wanted pictures, [B, 3, height, width]. Clips want the class "
                f"InstructBlipVideoForConditionalGeneration."
            )
        return pixel_values, [1] * len(pixel_values)


class InstructBlipForConditionalGeneration(InstructBlipModel, InstructBlipVideoForConditionalGeneration):
    """InstructBLIP for answers about pictures."""

    def get_image_features(self, *args: Any, **kwargs: Any) -> Any:
        """Pictures and the instruction -> visual tokens [B, Q, D] (see `get_video_features`)."""
        return self.get_video_features(*args, **kwargs)
