"""Turns a stream of token ids into pieces of text that join up to the decoded whole."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from onlooker.text.cleanup import clean_up, safe_length

if TYPE_CHECKING:
    from onlooker.text.tokenizer import Tokenizer

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_BROKEN = "\ufffd"  # what undecodable bytes become


class StreamDecoder:
    """Feed it ids as they are generated; it gives text as soon as no later id can change it.

    Text is held back while a character is incomplete: its bytes may be spread over several tokens.  The pieces of
    all `put` calls and of `end`, joined, equal `tokenizer.decode` of all ids.

    Args:
        skip_special_tokens: leave special tokens out of the text.
        clean_up_tokenization_spaces: as in `decode`; when on, text comes a word later.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        skip_special_tokens: bool = True,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        added = tokenizer.added_tokens_decoder.items() if skip_special_tokens else ()
        self._skipped = {number for number, token in added if token.special}
        wanted = clean_up_tokenization_spaces
        self._cleans = tokenizer.clean_up_tokenization_spaces if wanted is None else wanted
        self._reset()

    def put(self, token_ids: int | Iterable[int]) -> str:
        """Take one id or several; give the text that is now certain (it may be empty)."""
        new = [token_ids] if isinstance(token_ids, int) else [int(number) for number in token_ids]
        if not new:
            return ""
        self._pending += new
        text = self._decode(self._context + self._pending)
        if not text.startswith(self._before) or not self._is_settled(text):
            return ""
        return self._cleaned(self._take(text), is_last=False)

    def end(self) -> str:
        """Give what was held back, and begin anew."""
        text = self._decode(self._context + self._pending)
        piece = self._cleaned(text[len(self._before) :], is_last=True)
        self._reset()
        return piece

    def _reset(self) -> None:
        self._context: list[int] = []  # ids of the piece given last: decoders treat a first token differently
        self._before = ""  # their text
        self._pending: list[int] = []
        self._uncleaned = ""

    def _take(self, text: str) -> str:
        piece = text[len(self._before) :]
        if piece:
            self._context, self._pending = self._pending, []
            self._before = self._decode(self._context)
        return piece

    def _is_settled(self, text: str) -> bool:
        """Whether no further id can change the text so far."""
        if text.endswith(_BROKEN):
            return False
        # A run of byte tokens is decoded as one: a bad byte at its end would undo all of it.
        last = next((number for number in reversed(self._pending) if number not in self._skipped), None)
        token = None if last is None else self._tokenizer.convert_ids_to_tokens(last)
        return token is None or not _BYTE.fullmatch(token)

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, self._skip, clean_up_tokenization_spaces=False)

    def _cleaned(self, piece: str, is_last: bool) -> str:
        if not self._cleans:
            return piece
        text = self._uncleaned + piece
        cut = len(text) if is_last else safe_length(text)
        self._uncleaned = text[cut:]
        return clean_up(text[:cut])
