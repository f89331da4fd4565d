"""The language model that a LAVIS model was trained with, from its own folder, set up as LAVIS sets it up."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onlooker.auto import AutoConfig
from onlooker.config import Config
from onlooker.errors import CheckpointError
from onlooker.models.language import TEXT_MODELS
from onlooker.text import Tokenizer
from onlooker.weights.loading import build_empty
from onlooker.weights.matching import check_complete, match
from onlooker.weights.reading import StoredTensor, find_weights

_PART = "language_model."
# OPT's first files leave a level out.
_RENAMES = {"opt": [(r"^decoder\.", "model.decoder.")]}


@dataclass(frozen=True)
class Language:
    """A language model for a composite: configuration, tensors by the composite's names, and tokenizer."""

    config: Any
    tensors: dict[str, StoredTensor]
    tokenizer: Tokenizer


def read_language(
    name: str | os.PathLike[str],
    model_type: str,
    composite: Mapping[str, StoredTensor],
    *,
    reads_instruction: bool,
    hub: Mapping[str, Any],
) -> Language:
    """Read a folder or hub name of a language model.

    Args:
        model_type: "opt", "t5" or "llama", which it has to be.
        composite: what the rest has; tensors of a language model among them replace the folder's.
        reads_instruction: InstructBLIP, which cuts long prompts from the left.

    Raises:
        ModelNotFoundError: no such model.
        CheckpointError: a model of another type, or one that lacks tensors.
    """
    config = AutoConfig.from_pretrained(os.fspath(name), **hub)
    if config.model_type != model_type:
        raise CheckpointError(
            f"{os.fspath(name)} is a {config.model_type} model; this file was trained with {model_type}."
        )
    tensors = _tensors(name, config, hub)
    own = [key.removeprefix(_PART) for key in composite if key.startswith(_PART)]
    for key in own:
        if key.endswith(("embed_tokens.weight", "shared.weight")):  # trained on, with its own tokens
            config.vocab_size = composite[_PART + key].shape[0]
    tokenizer = _SETUPS[model_type](name, config, {"truncation_side": "left"} if reads_instruction else {}, hub)
    config.torch_dtype = None  # the composite's counts
    return Language(config, {_PART + key: tensor for key, tensor in tensors.items()}, tokenizer)


def _tensors(name: str | os.PathLike[str], config: Config, hub: Mapping[str, Any]) -> dict[str, StoredTensor]:
    cls: Any = TEXT_MODELS[config.model_type]
    stored = find_weights(os.fspath(name), **hub)
    model: Any = build_empty(lambda: cls(config))
    found = match(
        {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()},
        stored,
        tied=model.tied_weights(),
        rename=[*cls.rename, *_RENAMES.get(config.model_type, ())],
        where=os.fspath(name),
    )
    check_complete(found, cls.__name__, os.fspath(name), allow_missing=False, strict=False)
    # Second copies of tied matrices go along: some files say tied where the values differ, and the loader looks.
    return {**found.sources, **found.duplicates}


def _opt(name: Any, config: Any, settings: dict[str, Any], hub: Mapping[str, Any]) -> Tokenizer:
    tokenizer = Tokenizer.from_pretrained(name, **settings, **hub)
    # It was trained to end an answer with a line break.
    config.eos_token_id = tokenizer("\n", add_special_tokens=False)["input_ids"][0]
    return tokenizer


def _t5(name: Any, config: Any, settings: dict[str, Any], hub: Mapping[str, Any]) -> Tokenizer:
    # LAVIS runs it with the exact gelu, and so it was trained on: the folder says "gated-gelu", the tanh form.
    if config.is_gated_act:
        config.dense_act_fn = "gelu"
    config.bos_token_id = config.eos_token_id
    return Tokenizer.from_pretrained(name, **settings, **hub)


def _llama(name: Any, config: Any, settings: dict[str, Any], hub: Mapping[str, Any]) -> Tokenizer:
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "</s>")
    tokenizer = Tokenizer.from_pretrained(name, **ends, **settings, add_bos_token=True, add_eos_token=False, **hub)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    config.pad_token_id = None  # the new token's row is not there yet
    config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id
    return tokenizer


_SETUPS = {"opt": _opt, "t5": _t5, "llama": _llama}
