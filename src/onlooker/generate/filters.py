"""The chain of score filters that a configuration asks for, in the documented order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from onlooker.generate import forcing, penalties, truncation
from onlooker.generate.config import GenerationConfig
from onlooker.generate.options import as_ids

Filter = Callable[[Tensor, Tensor], Tensor]


class Filters:
    """Filters in order, applied to one float32 copy of the scores.

    Args:
        before, custom, after: the caller's own filters stand between penalties and sampling filters; they are given
            the ids that will be returned, the others a history without pads.
        prompt: [rows, T] the prompt as a history, or None where it has no pads and the ids serve.
    """

    def __init__(
        self, before: Sequence[Filter], custom: Sequence[Filter], after: Sequence[Filter], prompt: Tensor | None
    ) -> None:
        self.before, self.custom, self.after = before, custom, after
        self.prompt = prompt
        self.active = bool(before or custom or after)

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """ids [rows, L] and float32 scores [rows, V] -> scores; the tensor given is written over."""
        if self.before:
            history = ids
            if self.prompt is not None:
                history = torch.cat([self.prompt, ids[:, self.prompt.shape[1] :]], dim=1)
            for apply in self.before:
                scores = apply(history, scores)
        for apply in self.custom:
            scores = apply(ids, scores)
        if self.after and self.custom:
            scores = scores.clone()  # what comes after writes in place, and a caller may have kept a reference
        for apply in self.after:
            scores = apply(ids, scores)
        return scores


def build_filters(
    config: GenerationConfig,
    custom: Callable[..., Tensor] | Iterable[Filter] | None,
    prompt_ids: Tensor,
    prompt_mask: Tensor | None,
    prompt_length: int,
) -> Filters:
    """Everything that is switched on; filters whose value changes nothing are left out."""
    most, least = config.new_tokens(prompt_length)
    before = _penalties(config) + _forcing(config, prompt_ids.shape[1], prompt_length, most, least)
    after = _truncation(config) if config.do_sample else []
    if config.renormalize_logits:
        after.append(lambda history, scores: scores.log_softmax(-1))
    return Filters(before, as_list(custom), after, _history(prompt_ids, prompt_mask))


def as_list(given: Callable[..., Tensor] | Iterable[Filter] | None) -> list[Filter]:
    """None, one callable or several, as a list.  A list that can itself be called counts as a list."""
    if given is None:
        return []
    if isinstance(given, Iterable):
        return list(given)
    return [given]


def _history(prompt_ids: Tensor, prompt_mask: Tensor | None) -> Tensor | None:
    """Prompts with their pads moved to the front as -1; None when there are none."""
    if prompt_mask is None or bool(prompt_mask.bool().all()):
        return None
    kept = prompt_mask.bool().to(prompt_ids.device)
    order = kept.long().argsort(dim=1, stable=True)
    return prompt_ids.gather(1, order).masked_fill(~kept.gather(1, order), -1)


def _penalties(config: GenerationConfig) -> list[Filter]:
    found: list[Filter] = []
    if config.sequence_bias:
        found.append(penalties.sequence_bias(config.sequence_bias))
    if config.repetition_penalty is not None and config.repetition_penalty != 1:
        found.append(penalties.RepetitionPenalty(config.repetition_penalty))
    if config.no_repeat_ngram_size:
        found.append(penalties.NoRepeatNgram(config.no_repeat_ngram_size))
    if config.bad_words_ids:
        found.append(penalties.bad_words(config.bad_words_ids, config.eos_ids))
    return found


def _forcing(config: GenerationConfig, prompt: int, prompt_length: int, most: int, least: int) -> list[Filter]:
    found: list[Filter] = []
    if least and config.eos_ids:
        found.append(forcing.Suppress(config.eos_ids, prompt, until=least))
    if config.forced_bos_token_id is not None:
        # The one after a lone start token; a longer prompt has begun already.
        found.append(forcing.Force([config.forced_bos_token_id], prompt, at=1 - prompt_length))
    if config.forced_eos_token_id is not None:
        found.append(forcing.Force(as_ids(config.forced_eos_token_id), prompt, at=most - 1))
    if config.remove_invalid_values:
        found.append(lambda history, scores: scores.nan_to_num_(nan=0.0))
    if config.exponential_decay_length_penalty and config.eos_ids:
        start, factor = config.exponential_decay_length_penalty
        found.append(forcing.GrowEos(config.eos_ids, prompt, int(start), factor))
    if config.suppress_tokens:
        found.append(forcing.Suppress(as_ids(config.suppress_tokens), prompt))
    if config.begin_suppress_tokens:
        begin = int(config.forced_bos_token_id is not None and prompt_length <= 1)
        found.append(forcing.Suppress(as_ids(config.begin_suppress_tokens), prompt, until=begin + 1, since=begin))
    return found


def _truncation(config: GenerationConfig) -> list[Filter]:
    keep = max(len(config.eos_ids), 1) + 1 if config.num_beams > 1 else 1
    found: list[Filter] = []
    if config.temperature is not None and config.temperature != 1:
        found.append(truncation.Temperature(config.temperature))
    if config.top_k:
        found.append(truncation.TopK(config.top_k, keep))
    if config.top_p is not None and config.top_p < 1:
        found.append(truncation.TopP(config.top_p, keep))
    if config.min_p:
        found.append(truncation.MinP(config.min_p, keep))
    if config.typical_p is not None and config.typical_p < 1:
        found.append(truncation.Typical(config.typical_p, keep))
    if config.epsilon_cutoff:
        found.append(truncation.Epsilon(config.epsilon_cutoff, keep))
    if config.eta_cutoff:
        found.append(truncation.Eta(config.eta_cutoff, keep))
    return found
