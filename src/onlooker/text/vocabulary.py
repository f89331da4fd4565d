"""The tokens of a tokenizer: their ids, those with a role, and those added to the vocabulary."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from tokenizers import AddedToken

from onlooker.text.columns import as_ids
from onlooker.text.special_tokens import SpecialTokens


def renamed(backend: tokenizers.Tokenizer, old: str, new: str) -> tokenizers.Tokenizer:
    """The pipeline with another text for one added token; the backend itself has no call for it."""
    content = json.loads(backend.to_str())
    for token in content["added_tokens"]:
        if token["content"] == old:
            token["content"] = new
    return tokenizers.Tokenizer.from_str(json.dumps(content))


class Vocabulary(SpecialTokens):
    """Looks tokens up and adds them, in the pipeline below."""

    backend_tokenizer: tokenizers.Tokenizer
    _lock: threading.Lock  # held while the pipeline is changed, or used with what was just set on it

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def vocab_size(self) -> int:
        """Tokens of the vocabulary proper; `len()` also counts those added."""
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=False)

    def get_vocab(self) -> dict[str, int]:
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        return self.backend_tokenizer.get_added_tokens_decoder()

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        return {token.content: number for number, token in sorted(self.added_tokens_decoder.items())}

    def get_added_vocab(self) -> dict[str, int]:
        return self.added_tokens_encoder

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The id of a token, or of each of several; the unknown token's where the vocabulary lacks one."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        number = self.backend_tokenizer.token_to_id(tokens)
        unknown = self._named["unk_token"]
        if number is None and unknown is not None:
            return self.backend_tokenizer.token_to_id(str(unknown))
        return number

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or of each of several; None where the vocabulary lacks one."""
        if isinstance(ids, (int, np.integer)):
            return self.backend_tokenizer.id_to_token(int(ids))
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [self.backend_tokenizer.id_to_token(number) for number in as_ids(ids) if number not in skipped]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        decoder = self.backend_tokenizer.decoder
        return " ".join(tokens) if decoder is None else decoder.decode(tokens)

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """Add tokens that the vocabulary lacks; say how many were new. Resize the model's embeddings after it."""
        tokens = [new_tokens] if isinstance(new_tokens, (str, AddedToken)) else list(new_tokens)
        with self._lock:
            add = self.backend_tokenizer.add_special_tokens if special_tokens else self.backend_tokenizer.add_tokens
            return add(tokens)

    def add_special_tokens(
        self, special_tokens_dict: Mapping[str, Any], replace_additional_special_tokens: bool = True
    ) -> int:
        """Give roles to tokens, such as {"pad_token": "[PAD]"}, adding those that the vocabulary lacks.

        Raises:
            ValueError: a role that there is not.
        """
        new: list[str | AddedToken] = []
        for role, value in special_tokens_dict.items():
            if role == "additional_special_tokens":
                known = [] if replace_additional_special_tokens else self._additional
                self._additional = [*known, *(token for token in value if str(token) not in map(str, known))]
                new += value
            elif role in self._named:
                setattr(self, role, value)
                new.append(value)
            else:
                raise ValueError(f"{role!r} is no role of a special token; roles are {', '.join(self._named)}")
        return self.add_tokens(new, special_tokens=True)

    def _register(self, added_tokens: Sequence[AddedToken]) -> None:
        """Make the pipeline know every token that the files name, so that none of them is ever split."""
        special = set(self.all_special_tokens)
        tokens = list(added_tokens)
        known = {*self.added_tokens_encoder, *(token.content for token in tokens)}
        tokens += [
            token if isinstance(token, AddedToken) else AddedToken(token, special=True)
            for token in self.all_special_tokens_extended
            if str(token) not in known
        ]
        for token in tokens:
            token.special = token.special or token.content in special
        self.backend_tokenizer.add_tokens(tokens)

    def _known_token(self, token_id: int, what: str) -> str:
        token = self.backend_tokenizer.id_to_token(int(token_id))
        if token is None:
            raise ValueError(f"{what} is {token_id}, but the vocabulary has {len(self)} tokens")
        return token
