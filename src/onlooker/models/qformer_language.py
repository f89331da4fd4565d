"""What BLIP-2 and InstructBLIP do behind the Q-Former: projection, prompt, language model, loss, generate.

Letters: B rows (pictures or clips with their prompts), T prompt positions, D hidden of the language model, V
vocabulary.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from onlooker.bridge.scatter import check_rows, prepend, scatter_rows
from onlooker.language.choose import tied_weights
from onlooker.language.loss import next_token_loss
from onlooker.models.generation import Prompt, VisualGeneration
from onlooker.models.language import language_model
from onlooker.nn.initialize import init_normal
from onlooker.nn.masks import check_covers
from onlooker.outputs import ModelOutput


class QFormerLanguage:
    """Put before the module that has the vision tower and the Q-Former.

    A family says which token keeps the places (`placeholder_id`) and what it is called (`placeholder`).
    """

    config: Any
    placeholder = "<image>"
    reads_generation_config: ClassVar[bool] = False
    language_projection: nn.Linear
    language_model: nn.Module

    def build_language(self) -> None:
        """Make the projection and the language model."""
        text = self.config.text_config
        if getattr(text, "word_embed_proj_dim", None) not in (None, text.hidden_size):
            raise ValueError(
                f"text_config has word_embed_proj_dim {text.word_embed_proj_dim} and hidden_size {text.hidden_size}; "
                f"pictures stand among the word embeddings, so the two must be equal"
            )
        self.language_projection = nn.Linear(self.config.qformer_config.hidden_size, text.hidden_size)
        init_normal(self.language_projection, self.config.initializer_range)
        self.language_model = language_model(text)

    @property
    def placeholder_id(self) -> int | None:
        return self.config.image_token_index

    # -- the language model's own embeddings -----------------------------------------------------------------------

    def tied_weights(self) -> dict[str, str]:
        ties = tied_weights(self.language_model)
        return {f"language_model.{name}": f"language_model.{kept}" for name, kept in ties.items()}

    def tie_weights(self) -> None:
        self.language_model.tie_weights()  # type: ignore[operator]

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()  # type: ignore[operator]

    def set_input_embeddings(self, module: nn.Module) -> None:
        self.language_model.set_input_embeddings(module)  # type: ignore[operator]

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()  # type: ignore[operator]

    def set_output_embeddings(self, module: nn.Module) -> None:
        self.language_model.set_output_embeddings(module)  # type: ignore[operator]

    def get_encoder(self) -> nn.Module:
        return self.language_model.get_encoder()  # type: ignore[operator]

    def get_decoder(self) -> nn.Module:
        return self.language_model.get_decoder()  # type: ignore[operator]

    # -- from query features to an answer --------------------------------------------------------------------------

    def project(self, query_output: Tensor, vision_dtype: torch.dtype) -> Tensor:
        """Query features [..., D of the Q-Former] -> visual tokens [..., D]."""
        weight = self.language_projection.weight
        return self.language_projection(query_output.to(weight.dtype if weight.is_floating_point() else vision_dtype))

    def merge(
        self,
        features: Tensor,
        counts: list[int],
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        inputs_embeds: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Put visual tokens among the prompt's embeddings.

        Args:
            features: [sum of counts, D], row after row.
            counts: visual tokens of each row.

        Returns:
            Embeddings [B, T, D] and mask [B, T]; T grows when the prompt keeps no place for the picture.

        Raises:
            ValueError: no prompt at all, two or a mask of another length, or placeholders and features differ in a row.
        """
        embed = self.get_input_embeddings()
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("input_ids is missing: give a prompt, or call generate(), which can begin without one")
            inputs_embeds = embed(input_ids)
        elif input_ids is not None and input_ids.shape != inputs_embeds.shape[:2]:
            raise ValueError(
                f"input_ids {tuple(input_ids.shape)} and inputs_embeds {tuple(inputs_embeds.shape[:2])} are of "
                f"different length: give one of them"
            )
        if attention_mask is None:
            attention_mask = torch.ones(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        check_covers(attention_mask, inputs_embeds)
        features, attention_mask = features.to(inputs_embeds.device), attention_mask.to(inputs_embeds.device)
        check_rows(inputs_embeds, counts)
        if self.placeholder_id is not None:
            if input_ids is not None:
                places = input_ids.to(inputs_embeds.device) == self.placeholder_id
            else:
                token = embed(torch.tensor([self.placeholder_id], device=inputs_embeds.device))
                places = (inputs_embeds == token.to(inputs_embeds.device)).all(-1)
            if inputs_embeds.is_meta or bool(places.any()):
                return scatter_rows(inputs_embeds, places, features, counts, self.placeholder), attention_mask
        warnings.warn(
            f"the prompt keeps no place for the picture: its features are put in front of the text. Let the processor "
            f"write the {self.placeholder} tokens (its num_query_tokens and the model's token index must be set).",
            stacklevel=3,
        )
        return prepend(inputs_embeds, attention_mask, features, counts)

    def answer(
        self,
        embeds: Tensor,
        mask: Tensor,
        labels: Tensor | None,
        decoder_input_ids: Tensor | None,
        decoder_attention_mask: Tensor | None,
        **options: Any,
    ) -> tuple[Tensor | None, Tensor, ModelOutput]:
        """Run the language model: loss, logits and its record.

        A decoder-only model's logits are cut to the length of the labels.
        """
        if self.config.use_decoder_only_language_model:
            record = self.language_model(inputs_embeds=embeds, attention_mask=mask, return_dict=True, **options)
            if labels is None:
                return None, record.logits, record
            length = labels.shape[1]
            logits = record.logits[:, -length:]
            return next_token_loss(logits, labels, mask[:, -length:]), logits, record
        record = self.language_model(
            inputs_embeds=embeds,
            attention_mask=mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            labels=labels,
            return_dict=True,
            **options,
        )
        return record.loss, record.logits, record


class QFormerGeneration(VisualGeneration, QFormerLanguage):
    """The same, for classes that write."""

    def continue_prompt(
        self,
        features: Tensor,
        counts: list[int],
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        inputs_embeds: Tensor | None,
        generation_config: Any,
        options: dict[str, Any],
    ) -> Any:
        """Write the words that follow visual tokens and a prompt; without a prompt, from the start token."""
        if input_ids is None and inputs_embeds is None:
            start = self._start_token_id(generation_config, options)
            input_ids, attention_mask = self.empty_prompt(counts, start, features.device)
        embeds, mask = self.merge(features, counts, input_ids, attention_mask, inputs_embeds)
        return self.write(Prompt(embeds, mask, input_ids, attention_mask), generation_config, options)

    def _start_token_id(self, generation_config: Any, options: dict[str, Any]) -> int:
        """What an answer begins with when there is no prompt: as the call, the settings or the text config say.

        Raises:
            ValueError: none of them says.
        """
        settings = self.generation_config if generation_config is None else generation_config
        for token in (options.get("bos_token_id"), settings.bos_token_id, self.config.text_config.bos_token_id):
            if token is not None:
                return token
        raise ValueError("text_config has no bos_token_id to begin from: give a prompt (an empty one will do)")

    def empty_prompt(self, counts: list[int], start: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Placeholders and the start token for each row, padded on the left where rows differ."""
        if self.placeholder_id is None:
            counts = [0] * len(counts)
        longest, text = max(counts), self.config.text_config
        pad = start if text.pad_token_id is None else text.pad_token_id
        rows = [[pad] * (longest - n) + [self.placeholder_id] * n + [start] for n in counts]
        ids = torch.tensor(rows, device=device)
        if min(counts) == longest:
            return ids, None
        starts = torch.tensor([longest - n for n in counts], device=device)
        return ids, (torch.arange(longest + 1, device=device) >= starts[:, None]).long()
