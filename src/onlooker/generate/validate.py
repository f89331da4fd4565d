"""Refuse generation options that are out of range, exclude each other, or cannot be honoured."""

from __future__ import annotations

import logging
from typing import Any

from onlooker.generate.options import DEFAULTS, GenerationOptions

_logger = logging.getLogger(__name__)

_POSITIVE_INTS = (
    *("max_new_tokens", "num_beams", "num_return_sequences"),
    *("prompt_lookup_num_tokens", "max_matching_ngram_size"),
)
_COUNTS = ("min_new_tokens", "min_length", "no_repeat_ngram_size", "top_k")
_FRACTIONS = ("min_p", "epsilon_cutoff", "eta_cutoff")  # 0 included
_SAMPLING = ("temperature", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
# Documented elsewhere, not built here: kept in files, refused when switched on, so that nothing is silently ignored.
_REFUSED: dict[str, str] = {
    "encoder_repetition_penalty": "use repetition_penalty or a logits_processor",
    "encoder_no_repeat_ngram_size": "use no_repeat_ngram_size or a logits_processor",
    "guidance_scale": "use a logits_processor",
    "diversity_penalty": "use do_sample=True with num_beams for varied beams",
    "num_beam_groups": "use do_sample=True with num_beams for varied beams",
    "constraints": "use a logits_processor",
    "force_words_ids": "use a logits_processor",
    "dola_layers": "leave it out",
    "token_healing": "leave it out",
    "watermarking_config": "use a logits_processor",
    "output_attentions": "call the model with output_attentions=True on the returned ids",
    "output_hidden_states": "call the model with output_hidden_states=True on the returned ids",
}
_warned: set[str] = set()


def _want(ok: bool, config: GenerationOptions, name: str, wanted: str) -> None:
    if not ok:
        raise ValueError(f"{name} is {getattr(config, name)!r}; it must be {wanted}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_values(config: GenerationOptions) -> None:
    """Check each value, then the combinations.

    Raises:
        ValueError: naming the option, what came and what is wanted.
    """
    _check_numbers(config)
    _check_token_lists(config)
    _want(config.early_stopping in (True, False, "never"), config, "early_stopping", "True, False or 'never'")
    _check_modes(config)


def _check_numbers(config: GenerationOptions) -> None:
    def given(name: str) -> bool:
        return getattr(config, name) is not None

    for name in filter(given, _POSITIVE_INTS):
        _want(_is_int(getattr(config, name)) and getattr(config, name) >= 1, config, name, "an integer of at least 1")
    for name in filter(given, _COUNTS):
        _want(_is_int(getattr(config, name)) and getattr(config, name) >= 0, config, name, "an integer of at least 0")
    for name in filter(given, _FRACTIONS):
        value = getattr(config, name)
        _want(_is_number(value) and 0 <= value <= 1, config, name, "between 0 and 1")
    for name in filter(given, ("top_p", "typical_p")):
        value = getattr(config, name)
        _want(_is_number(value) and 0 < value <= 1, config, name, "above 0 and at most 1")
    if given("repetition_penalty"):
        value = config.repetition_penalty
        _want(_is_number(value) and value > 0, config, "repetition_penalty", "above 0 (1 changes nothing)")  # type: ignore[operator]
    for name in filter(given, ("length_penalty", "penalty_alpha", "max_time")):
        _want(_is_number(getattr(config, name)), config, name, "a number")
    if given("penalty_alpha"):
        _want(0 <= config.penalty_alpha <= 1, config, "penalty_alpha", "between 0 and 1")  # type: ignore[operator]
    if given("temperature"):
        value = config.temperature
        # 0 without sampling is what people write for "no randomness", which it is.
        ok = _is_number(value) and (value > 0 or (value == 0 and not config.do_sample))  # type: ignore[operator]
        _want(ok, config, "temperature", "above 0; for the likeliest token each time leave do_sample False")


def _check_token_lists(config: GenerationOptions) -> None:
    words = config.bad_words_ids
    if words is not None:
        ok = isinstance(words, (list, tuple)) and all(
            isinstance(word, (list, tuple)) and word and all(_is_int(token) and token >= 0 for token in word)
            for word in words
        )
        _want(ok, config, "bad_words_ids", "a list of non-empty lists of token ids, such as [[5], [7, 8]]")
    decay = config.exponential_decay_length_penalty
    if decay is not None:
        ok = isinstance(decay, (list, tuple)) and len(decay) == 2 and all(map(_is_number, decay))
        _want(ok, config, "exponential_decay_length_penalty", "a pair (start, factor)")


def _check_modes(config: GenerationOptions) -> None:
    if config.num_beams > 1 and config.num_return_sequences > config.num_beams:
        raise ValueError(
            f"num_return_sequences {config.num_return_sequences} is more than num_beams {config.num_beams}; "
            f"a beam search finds num_beams answers"
        )
    if config.num_beams == 1 and config.num_return_sequences > 1 and not config.do_sample:
        raise ValueError(
            f"num_return_sequences {config.num_return_sequences} without sampling or beams would be "
            f"copies of one answer; give do_sample=True or num_beams"
        )
    if config.prompt_lookup_num_tokens and (config.num_beams > 1 or config.penalty_alpha):
        given = f"num_beams={config.num_beams}" if config.num_beams > 1 else f"penalty_alpha={config.penalty_alpha}"
        raise ValueError(f"prompt_lookup_num_tokens is for greedy search and sampling, and {given} for another way")
    if config.penalty_alpha:
        other = "num_beams" if config.num_beams > 1 else "do_sample" if config.do_sample else None
        if other:
            raise ValueError(
                f"penalty_alpha {config.penalty_alpha} asks for contrastive search and {other}="
                f"{getattr(config, other)} for another way; give one of them"
            )


def check_supported(config: GenerationOptions) -> None:
    """Checked when generating, not when loading, so that any published file loads.

    Raises:
        ValueError: an option that other libraries document and this one does not have is switched on.
    """
    for name, instead in _REFUSED.items():
        value = getattr(config, name)
        # guidance_scale 1 is off although its default is None
        if value and value != DEFAULTS[name] and not (name == "guidance_scale" and value == 1):
            raise ValueError(f"generate() does not do {name} (it is {value!r}); {instead}")
    if not config.do_sample:
        _mention_idle(config)


def _mention_idle(config: GenerationOptions) -> None:
    """Say once that a sampling option does nothing: published recipes set some, so it is no error."""
    for name in _SAMPLING:
        value = getattr(config, name)
        if value is not None and value != DEFAULTS[name] and name not in _warned:
            _warned.add(name)
            _logger.warning("%s=%s has no effect without do_sample=True", name, value)
