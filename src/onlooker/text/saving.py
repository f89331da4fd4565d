"""Writes the files of a tokenizer so that this package and transformers read the same ids from them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from onlooker.text.families import GENERIC, LLAMA, T5, Family
from onlooker.text.special_tokens import TOKEN_NAMES
from onlooker.text.vocabulary import Vocabulary

# Where files came from, and what would make a reader build the pipeline anew from a vocabulary that is not written.
_LEFT_OUT = ("name_or_path", "tokenizer_file", "special_tokens_map_file", "vocab_file", "merges_file", "from_slow")


def save_tokenizer(
    tokens: Vocabulary, family: Family, settings: Mapping[str, Any], save_directory: str | os.PathLike[str]
) -> tuple[str, ...]:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json, and a chat template if there is one.

    Args:
        settings: for tokenizer_config.json beside the tokens, `tokenizer_class` and `chat_template` included.

    Raises:
        NotADirectoryError: the target is a file.
    """
    folder = Path(save_directory)
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file; give a folder to save the tokenizer in")
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "tokenizer.json"]
    tokens.backend_tokenizer.save(str(written[0]))
    settings = {name: value for name, value in settings.items() if name not in _LEFT_OUT}
    template = settings.pop("chat_template", None)
    if isinstance(template, str):
        written.append(folder / "chat_template.jinja")
        written[-1].write_text(template, encoding="utf-8")
    elif template:
        settings["chat_template"] = [{"name": name, "template": text} for name, text in template.items()]
    roles = _plain(tokens.special_tokens_map_extended, {"special": None})
    settings = _with_tokens(settings, tokens, family)
    for filename, content in (("tokenizer_config.json", settings), ("special_tokens_map.json", roles)):
        written.append(folder / filename)
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        written[-1].write_text(text, encoding="utf-8")
    return tuple(str(path) for path in written)


def _with_tokens(settings: dict[str, Any], tokens: Vocabulary, family: Family) -> dict[str, Any]:
    if family in (LLAMA, T5):
        settings.pop("add_prefix_space", None)  # it is in the pipeline; readers take it as a wish to rebuild that
    named = tokens.special_tokens_map
    extra = settings.get("extra_special_tokens")
    settings["extra_special_tokens"] = {name: named[name] for name in extra if name in named} if extra else {}
    roles = ("additional_special_tokens", *TOKEN_NAMES, *settings["extra_special_tokens"])
    settings |= {role: named.get(role) for role in roles}
    added = sorted(tokens.added_tokens_decoder.items())
    settings["added_tokens_decoder"] = {str(number): token.__getstate__() for number, token in added}
    if family is not GENERIC:
        settings["tokenizer_class"] = f"{family.name}TokenizerFast"
    return _plain({name: value for name, value in settings.items() if value is not None}, {"__type": "AddedToken"})


def _plain(value: Any, marks: dict[str, Any]) -> Any:
    """JSON for tokens: their flags, with marks added, or left out where the mark is None."""
    if isinstance(value, AddedToken):
        state = {**value.__getstate__(), **marks}
        return {name: flag for name, flag in state.items() if flag is not None}
    if isinstance(value, dict):
        return {name: _plain(item, marks) for name, item in value.items()}
    return [_plain(item, marks) for item in value] if isinstance(value, (list, tuple)) else value
