"""The special tokens of a vocabulary as attributes that can be read and set: `pad_token`, `pad_token_id`, ..."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import AddedToken

TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def _token(name: str) -> property:
    def read(self: SpecialTokens) -> str | None:
        token = self._named[name]
        return None if token is None else str(token)

    def write(self: SpecialTokens, token: str | AddedToken | None) -> None:
        if token is not None and not isinstance(token, (str, AddedToken)):
            raise ValueError(f"{name} must be a string, not {token!r}; to set it by number use {name}_id")
        self._named[name] = token

    return property(read, write, doc=f"The {name}, or None. It may be set.")


def _token_id(name: str) -> property:
    def read(self: SpecialTokens) -> int | None:
        token = self._named[name]
        return None if token is None else self.convert_tokens_to_ids(str(token))

    def write(self: SpecialTokens, token_id: int | None) -> None:
        self._named[name] = None if token_id is None else self._known_token(token_id, f"{name}_id")

    return property(read, write, doc=f"The id of the {name}, or None. It may be set.")


class SpecialTokens:
    """What a tokenizer knows about its special tokens; the tokenizer below it turns tokens into ids and back."""

    bos_token, bos_token_id = _token("bos_token"), _token_id("bos_token")
    eos_token, eos_token_id = _token("eos_token"), _token_id("eos_token")
    unk_token, unk_token_id = _token("unk_token"), _token_id("unk_token")
    sep_token, sep_token_id = _token("sep_token"), _token_id("sep_token")
    pad_token, pad_token_id = _token("pad_token"), _token_id("pad_token")
    cls_token, cls_token_id = _token("cls_token"), _token_id("cls_token")
    mask_token, mask_token_id = _token("mask_token"), _token_id("mask_token")

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._named: dict[str, str | AddedToken | None] = dict.fromkeys(TOKEN_NAMES)
        self._additional: list[str | AddedToken] = list(settings.get("additional_special_tokens") or ())
        # A family's own names, such as {"image_token": "<image>"}.  Newer files may hold a bare list instead.
        extra = settings.get("extra_special_tokens") or {}
        if isinstance(extra, Mapping):
            self._named.update(extra)
        else:
            self._additional += [token for token in extra if str(token) not in map(str, self._additional)]
        for name in TOKEN_NAMES:
            setattr(self, name, settings.get(name))

    def __getattr__(self, name: str) -> Any:
        # Only reached for names that are no attributes: the family's own tokens.
        named = self.__dict__.get("_named", {})
        if name in named:
            return None if named[name] is None else str(named[name])
        if name.endswith("_id") and named.get(name[:-3]) is not None:
            return self.convert_tokens_to_ids(str(named[name[:-3]]))
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        raise NotImplementedError

    def _known_token(self, token_id: int, what: str) -> str:
        raise NotImplementedError

    @property
    def additional_special_tokens(self) -> list[str]:
        """Special tokens without a role of their own."""
        return [str(token) for token in self._additional]

    @additional_special_tokens.setter
    def additional_special_tokens(self, tokens: Iterable[str | AddedToken] | None) -> None:
        self._additional = list(tokens or ())

    @property
    def additional_special_tokens_ids(self) -> list[int | None]:
        return self.convert_tokens_to_ids(self.additional_special_tokens)

    @additional_special_tokens_ids.setter
    def additional_special_tokens_ids(self, token_ids: Iterable[int]) -> None:
        self._additional = [self._known_token(number, "additional_special_tokens_ids") for number in token_ids]

    @property
    def special_tokens_map_extended(self) -> dict[str, Any]:
        """Role -> token, with the flags of tokens that carry flags; roles without a token are left out."""
        named: dict[str, Any] = {name: self._named[name] for name in TOKEN_NAMES if self._named[name]}
        if self._additional:
            named["additional_special_tokens"] = list(self._additional)
        return named | {name: token for name, token in self._named.items() if name not in TOKEN_NAMES and token}

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """Role -> token as strings; roles without a token are left out."""
        return {
            name: [str(item) for item in token] if isinstance(token, list) else str(token)
            for name, token in self.special_tokens_map_extended.items()
        }

    @property
    def all_special_tokens_extended(self) -> list[str | AddedToken]:
        """Every special token once, those with a role first, with the flags of tokens that carry flags."""
        seen: dict[str, str | AddedToken] = {}
        for value in self.special_tokens_map_extended.values():
            for token in value if isinstance(value, list) else [value]:
                seen.setdefault(str(token), token)
        return list(seen.values())

    @property
    def all_special_tokens(self) -> list[str]:
        return [str(token) for token in self.all_special_tokens_extended]

    @property
    def all_special_ids(self) -> list[int | None]:
        return self.convert_tokens_to_ids(self.all_special_tokens)
