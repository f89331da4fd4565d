"""Language models that this package does not write itself, borrowed from transformers when it is installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from onlooker.errors import MissingExtraError
from onlooker.language.config import ForeignConfig
from onlooker.language.decoding import select_states
from onlooker.nn.masks import compact, positions


def other_library(extra: str, reason: str) -> Any:
    """transformers itself, for who compares with it.

    Args:
        extra: what to install it with.
        reason: what it is needed for, a sentence.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtraError("transformers", extra, reason)
    import transformers

    return transformers


def check_installed(model_type: str, own: list[str]) -> None:
    """
    Raises:
        ValueError: transformers is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ValueError(
            f"text_config has model_type {model_type!r}; this package writes {', '.join(own)} itself, and takes other "
            f"language models from transformers, which is not installed. Type: pip install 'onlooker[transformers]'"
        )


def foreign_config(values: dict[str, Any]) -> ForeignConfig:
    """The configuration of such a model, with the other library's defaults filled in."""
    from transformers import AutoConfig

    values = dict(values)
    theirs = AutoConfig.for_model(values.pop("model_type"), **values)
    config = ForeignConfig(**theirs.to_dict())
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
        if hasattr(theirs, name):  # their aliases, as n_embd
            setattr(config, name, getattr(theirs, name))
    return config


def foreign_model(config: ForeignConfig) -> nn.Module:
    """Build the module. Its buffers hold values that no checkpoint has, so it is never built on the meta device."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    values = config.to_dict()
    theirs = AutoConfig.for_model(values.pop("model_type"), **values)
    theirs.use_cache = True
    factory = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    device = torch.get_default_device()
    with torch.device("cpu" if device.type == "meta" else device):
        return factory.from_config(theirs)


class ForeignDecoding:
    """Cached rows of a decoder-only or encoder-decoder model of transformers.

    Those libraries keep one length for all rows, so rows are padded on the left.
    """

    def __init__(self, model: nn.Module, inputs_embeds: Tensor, attention_mask: Tensor | None, **decoder: Any) -> None:
        self._model = model
        self._fixed: dict[str, Any] = {}
        inputs_embeds, lengths = compact(inputs_embeds, attention_mask)
        if decoder.get("decoder_input_ids") is not None:
            self._start_decoder(inputs_embeds, lengths, **decoder)
        else:
            self.lengths, self._is_decoder_only = lengths, True
            inputs_embeds, self._mask = _left_padded(inputs_embeds, lengths)
            self._run({"inputs_embeds": inputs_embeds}, positions(self._mask).clamp(min=0))

    def _start_decoder(
        self,
        inputs_embeds: Tensor,
        lengths: Tensor,
        decoder_input_ids: Tensor,
        decoder_attention_mask: Tensor | None = None,
    ) -> None:
        self._is_decoder_only = False
        mask = (torch.arange(inputs_embeds.shape[1], device=lengths.device) < lengths[:, None]).long()
        encoder: Any = self._model.get_encoder()  # type: ignore[operator]
        encoded = encoder(inputs_embeds=inputs_embeds, attention_mask=mask, return_dict=True)
        self._fixed = {"encoder_outputs": encoded, "attention_mask": mask}
        ids, self.lengths = compact(decoder_input_ids, decoder_attention_mask)
        if bool((self.lengths != ids.shape[1]).any()):
            raise ValueError("decoder prompts of unequal length need a language model that onlooker writes itself")
        self._mask = torch.ones_like(ids)
        self._run({"decoder_input_ids": ids}, None)

    def _run(self, tokens: dict[str, Tensor], position_ids: Tensor | None, cache: Any = None) -> None:
        masked = {"attention_mask": self._mask, "position_ids": position_ids} if self._is_decoder_only else {}
        output = self._model(
            **tokens,
            **masked,
            **self._fixed,
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=True,
            return_dict=True,
        )
        self._cache = output.past_key_values
        states = output.hidden_states if self._is_decoder_only else output.decoder_hidden_states
        self.hidden, self.logits = states[-1], output.logits[:, -1]
        if cache is None and self._is_decoder_only:
            self.hidden = compact(self.hidden, self._mask)[0]

    def step(self, token_ids: Tensor) -> Tensor:
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        if self._is_decoder_only:
            embed: Any = self._model.get_input_embeddings()  # type: ignore[operator]
            embeds = embed(token_ids[:, None])
            self._run({"inputs_embeds": embeds}, positions(self._mask)[:, -1:], self._cache)
        else:
            self._run({"decoder_input_ids": token_ids[:, None]}, None, self._cache)
        return self.logits

    def select(self, rows: Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._mask = self._mask[rows]
        if self._fixed:
            encoded = self._fixed["encoder_outputs"]
            encoded["last_hidden_state"] = encoded["last_hidden_state"][rows]
            self._fixed["attention_mask"] = self._fixed["attention_mask"][rows]
        select_states(self, rows)


def _left_padded(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Right-padded rows [B, T, D] -> rows padded on the left, and their mask."""
    longest = x.shape[1]
    index = torch.arange(longest, device=x.device) - (longest - lengths[:, None])
    mask = (index >= 0).long()
    return x[torch.arange(len(x), device=x.device)[:, None], index.clamp(min=0)], mask
