"""Adapters of peft on a loaded model: put on, merged, and remembered."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from onlooker.errors import MissingExtraError, ModelNotFoundError
from onlooker.hub import find_file

ADAPTER_CONFIG = "adapter_config.json"
_PEFT = "_peft"  # in the model's __dict__, where torch does not take it for a part


def require_peft() -> Any:
    """The package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", extra="train") from error
    return peft


def remember(model: Any, wrapper: Any) -> None:
    """Keep peft's view of a model whose layers it has replaced."""
    model.__dict__[_PEFT] = wrapper


def peft_of(model: Any) -> Any:
    """Peft's view of the model, None without adapters."""
    return model.__dict__.get(_PEFT)


def find_adapter(name_or_path: str | Path, **hub: Any) -> Path:
    """The folder of an adapter, its weights in it.

    Raises:
        ModelNotFoundError: there is no adapter of that name.
        MissingExtraError: peft is not installed.
    """
    require_peft()
    file = find_file(name_or_path, ADAPTER_CONFIG, **hub)
    if file is None:
        raise ModelNotFoundError(f"{name_or_path} holds no adapter: it has no {ADAPTER_CONFIG}")
    for weights in ("adapter_model.safetensors", "adapter_model.bin"):
        if find_file(name_or_path, weights, **hub) is not None:
            break
    return file.parent


def load_adapter(model: Any, name_or_path: str | Path, *, merge: bool = True, **hub: Any) -> Any:
    """Put a trained adapter on a model, in place.

    Args:
        name_or_path: folder or hub name with adapter_config.json, as peft writes them.
        merge: fold it into the weights, so that it costs nothing afterwards; a quantised model keeps it beside them.
        hub: revision, cache_dir and their like.

    Returns:
        The model.

    Raises:
        ModelNotFoundError: there is no adapter of that name.
        MissingExtraError: peft is not installed.
        ValueError: the model has an adapter already, or the adapter was made for another model.
    """
    peft = require_peft()
    if peft_of(model) is not None:
        raise ValueError("this model carries an adapter already: merge it first (merge_adapter)")
    wrapper = peft.PeftModel.from_pretrained(model, str(find_adapter(name_or_path, **hub)))
    wrapper.eval()
    remember(model, wrapper)
    is_quantized = getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False)
    return merge_adapter(model) if merge and not is_quantized else model


def merge_adapter(model: Any) -> Any:
    """Fold the adapter into the weights, in place, and give the model its plain layers back.

    Raises:
        ValueError: there is no adapter.
    """
    wrapper = model.__dict__.pop(_PEFT, None)
    if wrapper is None:
        raise ValueError("this model carries no adapter to merge")
    tied = model.config.tie_word_embeddings
    with warnings.catch_warnings():
        # A composite's own "tied" says nothing of its language model; peft takes it at its word and changes it.
        warnings.filterwarnings("ignore", message="Input and output embeddings are no longer tied")
        merged = wrapper.merge_and_unload()
    model.config.tie_word_embeddings = tied
    return merged
