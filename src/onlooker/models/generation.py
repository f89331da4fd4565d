"""`generate` for every model that writes: from a prompt to generate/, whatever the language model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onlooker.generate.config import GenerationConfig
from onlooker.generate.loop import generate
from onlooker.language.choose import begin
from onlooker.language.protocol import Decoding
from onlooker.nn.masks import check_covers

#: clips as models take them: one tensor [B, F, 3, h, w], or a list of [F_i, 3, h, w] when they differ in length
Clips = Any
#: keywords of generate() that are objects, not settings
OBJECTS = ("logits_processor", "stopping_criteria", "streamer", "generator", "tokenizer")


@dataclass
class Prompt:
    """What a language model is to continue.

    Args:
        embeds: [B, T, D], pictures among them.
        mask: [B, T], 1 = attended.
        ids: [B, T'] as given, what the answer begins with; None when only embeddings were given.
        ids_mask: [B, T'] as given; None attends all.
        decoder_ids: [B, T''] of an encoder-decoder; the start token by default.
        begin: new tokens at most -> the prompt run, from what is known of it; not where all of it has to be seen.
    """

    embeds: Tensor
    mask: Tensor
    ids: Tensor | None = None
    ids_mask: Tensor | None = None
    decoder_ids: Tensor | None = None
    begin: Callable[[int], Decoding] | None = None


@dataclass
class Task:
    """One call of generate(), ready for the loop or for an engine.

    Args:
        model: the language model.
        ids: [B, T] what the result begins with.
        decoder: what an encoder-decoder's start needs beside the prompt.
        keywords: of `generate.loop.generate`.
        lookup_ids: see there.
    """

    model: nn.Module
    prompt: Prompt
    ids: Tensor
    config: GenerationConfig
    decoder: dict[str, Any]
    keywords: dict[str, Any]
    lookup_ids: Tensor | None = None

    def start(self, max_new_tokens: int) -> Any:
        """Run the prompt."""
        prompt, config = self.prompt, self.config
        use_cache = True if config.use_cache is None else config.use_cache
        if prompt.begin is not None and use_cache and not config.is_contrastive:
            return prompt.begin(max_new_tokens)
        return begin(self.model, prompt.embeds, prompt.mask, max_new_tokens, use_cache=use_cache, **self.decoder)


class Generation:
    """Settings of generate(), and the way from a prompt to ids."""

    config: Any

    @property
    def generation_config(self) -> GenerationConfig:
        """Defaults of generate(), first from the text configuration; edits are honoured."""
        stored = self.__dict__.get("_generation_config")
        if stored is None:
            stored = self.__dict__["_generation_config"] = self._default_generation_config()
        return stored

    @generation_config.setter
    def generation_config(self, value: GenerationConfig) -> None:
        self.__dict__["_generation_config"] = value

    def _default_generation_config(self) -> GenerationConfig:
        return GenerationConfig.from_model_config(self.config.get_text_config())

    def can_generate(self) -> bool:
        return True

    def write(self, prompt: Prompt, generation_config: GenerationConfig | None, options: dict[str, Any]) -> Any:
        """Continue a prompt; see `generate` of the public classes."""
        task = self.prepare(prompt, generation_config, options)
        return generate(task.start, task.ids, task.config, lookup_ids=task.lookup_ids, **task.keywords)

    def prepare(self, prompt: Prompt, generation_config: GenerationConfig | None, options: dict[str, Any]) -> Task:
        """What `write` does with a prompt, not yet done."""
        objects = {name: options.pop(name) for name in OBJECTS if name in options}
        decoder_ids = options.pop("decoder_input_ids", prompt.decoder_ids)
        decoder_mask = options.pop("decoder_attention_mask", None)
        config = (generation_config or self.generation_config).with_options(**options)
        if not self.config.get_text_config().is_encoder_decoder:
            ids = prompt.ids
            if ids is None:
                ids = torch.zeros(len(prompt.mask), 0, dtype=torch.long, device=prompt.mask.device)
            keywords = {"prompt_mask": prompt.ids_mask, "prompt_length": prompt.mask.shape[1], **objects}
            return Task(self._language_model(), prompt, ids, config, {}, keywords)
        if decoder_ids is None:
            token = self._decoder_start_token_id(config)
            decoder_ids = torch.full((len(prompt.embeds), 1), token, device=prompt.embeds.device)
        look_in = None if prompt.ids is None else torch.cat([prompt.ids, decoder_ids], dim=1)
        decoder = {"decoder_input_ids": decoder_ids, "decoder_attention_mask": decoder_mask}
        keywords = {"prompt_mask": decoder_mask, **objects}
        return Task(self._language_model(), prompt, decoder_ids, config, decoder, keywords, look_in)

    def _language_model(self) -> nn.Module:
        raise NotImplementedError

    def _decoder_start_token_id(self, config: GenerationConfig) -> int:
        text = self.config.get_text_config()
        for token in (config.decoder_start_token_id, getattr(text, "decoder_start_token_id", None), text.pad_token_id):
            if token is not None:
                return token
        raise ValueError("the text configuration has no decoder_start_token_id to begin an answer with: set it")


class VisualGeneration(Generation):
    """A composite whose `language_model` writes."""

    language_model: nn.Module

    def _language_model(self) -> nn.Module:
        return self.language_model


class TextGeneration(Generation):
    """A language model by itself."""

    def _language_model(self) -> nn.Module:
        return self  # type: ignore[return-value]

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        **options: Any,
    ) -> Any:
        """Continue a text.

        Args:
            input_ids: [B, T]; or inputs_embeds [B, T, D].
            attention_mask: [B, T], 1 = attended; pads may stand anywhere.
            options: any field of GenerationConfig, and logits_processor, stopping_criteria, streamer, generator,
                tokenizer.

        Returns:
            Ids: the prompt and the new tokens; new tokens only after inputs_embeds; the start token and the new tokens
            of an encoder-decoder. With return_dict_in_generate a GenerateOutput.

        Raises:
            ValueError: neither input_ids nor inputs_embeds, or options that do not fit.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("give input_ids or inputs_embeds to continue")
            inputs_embeds = self.get_input_embeddings()(input_ids)  # type: ignore[attr-defined]
        mask = attention_mask
        if mask is None:
            mask = torch.ones(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        check_covers(mask, inputs_embeds)
        ids_mask = None if input_ids is None else attention_mask
        return self.write(Prompt(inputs_embeds, mask, input_ids, ids_mask), generation_config, options)
