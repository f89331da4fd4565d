"""The documented generation options: names, types, defaults."""

from __future__ import annotations

from typing import Any


class GenerationOptions:
    """Only the table; `GenerationConfig` adds reading, writing and checking."""

    # how long
    max_length: int | None = 20
    max_new_tokens: int | None = None
    min_length: int | None = 0
    min_new_tokens: int | None = None
    max_time: float | None = None  # seconds
    stop_strings: str | list[str] | None = None
    # which way
    do_sample: bool = False
    num_beams: int = 1
    num_return_sequences: int = 1
    early_stopping: bool | str = False  # True, False or "never"
    length_penalty: float | None = 1.0
    penalty_alpha: float | None = None  # contrastive search, together with top_k
    use_cache: bool = True
    prompt_lookup_num_tokens: int | None = None  # tokens of the prompt or the answer to try at once
    max_matching_ngram_size: int | None = None  # tokens that have to be there again for it; 2 when not given
    # sampling
    temperature: float | None = 1.0
    top_k: int | None = 50
    top_p: float | None = 1.0
    min_p: float | None = None
    typical_p: float | None = 1.0
    epsilon_cutoff: float | None = 0.0
    eta_cutoff: float | None = 0.0
    # changed scores
    repetition_penalty: float | None = 1.0
    no_repeat_ngram_size: int | None = 0
    bad_words_ids: list[list[int]] | None = None
    sequence_bias: Any = None  # {(ids): bias} or [[[ids], bias]]
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    exponential_decay_length_penalty: tuple[int, float] | None = None
    remove_invalid_values: bool = False
    renormalize_logits: bool = False
    # special tokens
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None
    # what comes back
    return_dict_in_generate: bool = False
    output_scores: bool = False
    output_logits: bool | None = None
    output_attentions: bool = False
    output_hidden_states: bool = False
    # kept for files; validate.py says which of them are refused when they are switched on
    encoder_repetition_penalty: float | None = 1.0
    encoder_no_repeat_ngram_size: int | None = 0
    guidance_scale: float | None = None
    diversity_penalty: float | None = 0.0
    num_beam_groups: int | None = 1
    constraints: Any = None
    force_words_ids: Any = None
    dola_layers: Any = None
    token_healing: bool = False
    watermarking_config: Any = None
    cache_implementation: str | None = None


DEFAULTS: dict[str, Any] = {name: getattr(GenerationOptions, name) for name in GenerationOptions.__annotations__}


def as_ids(value: Any) -> list[int]:
    """One id, several (list or tensor) or none, as a list."""
    if value is None:
        return []
    value = value.tolist() if hasattr(value, "tolist") else value
    return [int(token) for token in value] if isinstance(value, (list, tuple)) else [int(value)]
