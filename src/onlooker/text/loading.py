"""Reads the tokenizer files of a model, new or old, into a text pipeline and its settings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tokenizers import AddedToken

from onlooker.errors import CheckpointError, ModelNotFoundError
from onlooker.hub import find_file
from onlooker.text.families import BERT, GENERIC, GPT2, LLAMA, T5, Family, family_of, with_defaults
from onlooker.text.sentencepiece import from_spiece
from onlooker.text.special_tokens import TOKEN_NAMES
from onlooker.text.vocabularies import from_bpe, from_word_pieces

VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model", "vocab.txt")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")


class TokenizerFiles(NamedTuple):
    """What the files of a tokenizer say."""

    backend: tokenizers.Tokenizer
    family: Family
    settings: dict[str, Any]
    added_tokens: list[AddedToken]  # in the order of their ids


def read_tokenizer(
    name_or_path: str | os.PathLike[str], subfolder: str, hub: Mapping[str, Any], overrides: Mapping[str, Any]
) -> TokenizerFiles:
    """Read tokenizer.json or a slow vocabulary, with tokenizer_config.json and the files beside it.

    Raises:
        ModelNotFoundError: no such model, or it has no tokenizer.
        CheckpointError: files that are damaged or do not belong together.
    """
    prefix = f"{subfolder}/" if subfolder else ""

    def find(filename: str) -> Path | None:
        return find_file(name_or_path, prefix + filename, **hub)

    paths = {"tokenizer.json": find("tokenizer.json")}
    settings = read_json(find("tokenizer_config.json"))
    if paths["tokenizer.json"] is None or _is_rebuilt(settings):
        paths |= {filename: find(filename) for filename in VOCABULARIES[1:]}
    found = {filename: path for filename, path in paths.items() if path is not None}
    if not found or set(found) in ({"vocab.json"}, {"merges.txt"}):
        raise ModelNotFoundError(
            f"{os.fspath(name_or_path)!r} has no tokenizer{f' in {subfolder!r}' if subfolder else ''}: looked for "
            f"{', '.join(VOCABULARIES)}. Give a folder or a hub id that has one."
        )
    family = _family(settings, found)
    if family is GENERIC and "tokenizer.json" not in found:
        raise CheckpointError(
            f"{os.fspath(name_or_path)!r} has no tokenizer.json, and how a {settings['tokenizer_class']} splits text "
            "is not in its vocabulary files. Save it as tokenizer.json with the library it was made with."
        )
    added = _added_tokens(settings, overrides, find)
    if template := read_chat_template(name_or_path, subfolder, hub):
        settings["chat_template"] = template
    settings = with_defaults(family, {**settings, **overrides})
    if family is BERT and "tokenizer.json" not in found:
        settings.setdefault("clean_up_tokenization_spaces", True)  # what saves the pipeline also saves this setting
    return TokenizerFiles(_backend(found, family, settings), family, settings, added)


def read_json(path: Path | None) -> dict[str, Any]:
    """A JSON object, or an empty one where there is no file.

    Raises:
        CheckpointError: the file is not a JSON object.
    """
    if path is None:
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}). Download it again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__} where a JSON object was expected.")
    return value


def read_chat_template(name_or_path: str | os.PathLike[str], subfolder: str, hub: Mapping[str, Any]) -> str | None:
    """The chat template that a model keeps in a file of its own, or None."""
    for filename in _TEMPLATES:
        path = find_file(name_or_path, f"{subfolder}/{filename}" if subfolder else filename, **hub)
        if path is not None:
            is_json = filename.endswith(".json")
            return read_json(path).get("chat_template") if is_json else path.read_text(encoding="utf-8")
    return None


def _is_rebuilt(settings: Mapping[str, Any]) -> bool:
    """LLaMA and T5 files that name a prefix setting mean it for the vocabulary, not for the saved pipeline."""
    return family_of(settings.get("tokenizer_class")) in (LLAMA, T5) and settings.get("add_prefix_space") is not None


def _family(settings: Mapping[str, Any], found: Mapping[str, Path]) -> Family:
    name = settings.get("tokenizer_class")
    if name is not None:
        return family_of(name)
    evidence = {"merges.txt": GPT2, "spiece.model": T5, "tokenizer.model": LLAMA, "vocab.txt": BERT}
    is_slow = "tokenizer.json" not in found
    return next((family for name, family in evidence.items() if is_slow and name in found), GENERIC)


def _backend(found: Mapping[str, Path], family: Family, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    spiece = found.get("spiece.model") or found.get("tokenizer.model")
    if spiece is not None:
        return from_spiece(spiece, family, settings)
    if "tokenizer.json" in found:
        text = found["tokenizer.json"].read_text(encoding="utf-8")
        try:
            return tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the backend raises no narrower one
            raise CheckpointError(
                f"{found['tokenizer.json']} cannot be read ({error}). Download it again, or install a newer tokenizers."
            ) from error
    if "merges.txt" in found and "vocab.json" in found:
        return from_bpe(found["vocab.json"], found["merges.txt"], settings)
    return from_word_pieces(found["vocab.txt"], settings)


def _added_tokens(settings: dict[str, Any], overrides: Mapping[str, Any], find: Any) -> list[AddedToken]:
    """Tokens beside the vocabulary; turns token records in the settings into tokens on the way."""
    numbered: dict[int, AddedToken] = {}
    if "added_tokens_decoder" in settings:
        numbered = {int(number): _as_token(token) for number, token in settings.pop("added_tokens_decoder").items()}
    else:
        for role, token in read_json(find("special_tokens_map.json")).items():
            settings[role] = [_as_token(item, special=True) for item in token] if isinstance(token, list) else token
            if isinstance(token, dict):
                settings[role] = _as_token(token, special=True)
        special = {str(_as_token(settings[role])) for role in TOKEN_NAMES if settings.get(role)}
        special |= {str(_as_token(token)) for token in settings.get("additional_special_tokens") or ()}
        for text, number in read_json(find("added_tokens.json")).items():
            numbered[number] = AddedToken(text, normalized=text not in special, special=text in special)
    by_text = {str(token): token for token in numbered.values()}
    for role in (*TOKEN_NAMES, "additional_special_tokens"):
        token = settings.get(role)
        if isinstance(token, list):
            settings[role] = [_as_token(item) if isinstance(item, dict) else item for item in token]
        elif token is not None:
            token = _as_token(token) if isinstance(token, dict) else token
            settings[role] = by_text.get(str(token), token)
    return [numbered[number] for number in sorted(numbered)]


def _as_token(token: str | AddedToken | Mapping[str, Any], special: bool = False) -> AddedToken:
    if isinstance(token, AddedToken):
        return token
    if isinstance(token, str):
        return AddedToken(token, special=special)
    flags = {name: value for name, value in token.items() if name != "__type"}
    return AddedToken(**(flags | {"special": True} if special else flags))
