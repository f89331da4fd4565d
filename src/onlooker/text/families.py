"""What a tokenizer's class name stands for: its usual special tokens, inputs, padding side and text pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tokenizers
from tokenizers import normalizers, pre_tokenizers, processors


@dataclass(frozen=True)
class Family:
    """Facts that files leave out because the class that wrote them knew them."""

    name: str  # "GPT2" for GPT2Tokenizer and GPT2TokenizerFast
    tokens: Mapping[str, str] = field(default_factory=dict)  # role -> token where the files give none
    input_names: tuple[str, ...] = ("input_ids", "token_type_ids", "attention_mask")
    padding_side: str = "right"


_NO_TYPES = ("input_ids", "attention_mask")
GENERIC = Family("PreTrained")
GPT2 = Family("GPT2", dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>"), _NO_TYPES)
T5 = Family("T5", {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}, _NO_TYPES)
LLAMA = Family("Llama", {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}, _NO_TYPES, "left")
BERT = Family(
    "Bert",
    {f"{role}_token": f"[{role.upper()}]" for role in ("unk", "sep", "pad", "cls", "mask")},
)
_FAMILIES = {family.name: family for family in (GPT2, T5, LLAMA, BERT)}
NEWER_GENERIC = "TokenizersBackend"  # what newer files call a class of no family; it has no token types


def family_of(tokenizer_class: str | None) -> Family:
    """The family of a class name such as "LlamaTokenizerFast"; names we do not know are generic."""
    name = (tokenizer_class or "").removesuffix("Fast").removesuffix("Tokenizer")
    return _FAMILIES.get(name, GENERIC)


def with_defaults(family: Family, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a file, with the family's own values where the file has none."""
    completed = {**family.tokens, **settings}
    if family is T5:
        extra = list(completed.get("additional_special_tokens") or ())
        count = completed.setdefault("extra_ids", 100)
        if not any("<extra_id_" in str(token) for token in extra):
            extra += [f"<extra_id_{i}>" for i in range(count)]
        completed["additional_special_tokens"] = extra
    return completed


def fit_pipeline(
    backend: tokenizers.Tokenizer, family: Family, settings: Mapping[str, Any], token_id: Callable[[str], int | None]
) -> None:
    """Let the settings of tokenizer_config.json act on the pipeline, where the family's class does so.

    A setting that is not written leaves the pipeline as it was saved: newer files leave out what is in it.

    Raises:
        ValueError: a start or end token is to be written but there is none.
    """
    has_ends = "add_bos_token" in settings or "add_eos_token" in settings
    if family is LLAMA and (has_ends or backend.post_processor is None):
        backend.post_processor = _start_and_end(settings, token_id)
    if family is BERT:
        _fit_bert_normalizer(backend, settings)
    if isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel) and settings.get("add_prefix_space") is not None:
        state = json.loads(backend.pre_tokenizer.__getstate__())
        keep = {name: state[name] for name in ("trim_offsets", "use_regex") if name in state}
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(settings["add_prefix_space"]), **keep)


def _start_and_end(settings: Mapping[str, Any], token_id: Callable[[str], int | None]) -> Any:
    """LLaMA files record what stands around a text as settings, and the tokens may have been renamed since."""
    used: dict[str, int] = {}
    before = after = ""
    for role, wanted in (("bos", settings.get("add_bos_token", True)), ("eos", settings.get("add_eos_token", False))):
        if not wanted:
            continue
        token = settings.get(f"{role}_token")
        number = None if token is None else token_id(str(token))
        if number is None:
            raise ValueError(f"add_{role}_token is set, but there is no {role}_token. Name one, or unset it.")
        used[str(token)] = number
        before, after = (str(token), after) if role == "bos" else (before, str(token))
    pieces = {
        side: " ".join(f"{piece}:{side}" for piece in (before, name, after) if piece)
        for side, name in enumerate(("$A", "$B"))
    }
    return processors.TemplateProcessing(
        single=pieces[0], pair=f"{pieces[0]} {pieces[1]}", special_tokens=list(used.items())
    )


def _fit_bert_normalizer(backend: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    if not isinstance(backend.normalizer, normalizers.BertNormalizer):
        return
    state = json.loads(backend.normalizer.__getstate__())
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=state["clean_text"],
        handle_chinese_chars=settings.get("tokenize_chinese_chars", state["handle_chinese_chars"]),
        strip_accents=settings.get("strip_accents", state["strip_accents"]),
        lowercase=settings.get("do_lower_case", state["lowercase"]),
    )
