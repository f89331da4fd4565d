"""Prompt lookup: try tokens that followed the same words before, and run them all in one forward pass.

A guess never decides anything: every token is chosen from the scores behind the tokens before it, in the order and
with the random numbers of a plain run, and a guess only spares the forward pass where it turns out right. (Saxena,
Prompt Lookup Decoding, 2023.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onlooker.generate.config import GenerationConfig

_NGRAM = 2  # the reference's default


class Lookup:
    """A decoding of one row that steps over right guesses without running them again.

    Args:
        decoding: with a cache, just begun.
        text: ids where to look before the new ones.
        max_new: tokens that the decoding has room for.

    Raises:
        ValueError: a decoding that cannot run several tokens at once.
    """

    def __init__(self, decoding: Any, text: list[int], max_new: int, config: GenerationConfig) -> None:
        if not hasattr(decoding, "run") or not config.use_cache:
            raise ValueError(
                "prompt_lookup_num_tokens needs a cache of a language model that onlooker writes itself: leave it out"
            )
        self._decoding, self._room = decoding, max_new
        self._count = config.prompt_lookup_num_tokens or 0
        self._guesses = Guesses(text, config.max_matching_ngram_size or _NGRAM, decoding.logits.shape[1])
        self._tried: list[int] = []  # tokens of the last forward pass, the first of which was no guess
        self._right = 0  # how many of them were chosen
        self.logits, self.hidden, self.lengths = decoding.logits, decoding.hidden, decoding.lengths
        self._scores = self.logits

    def step(self, token_ids: Tensor) -> Tensor:
        token = int(token_ids[0])
        self._guesses.append(token)
        self._room -= 1
        if self._right < len(self._tried) and self._tried[self._right] == token:
            self._right += 1
        else:
            self._run(token, token_ids)
        self.logits = self._scores[:, self._right - 1]
        return self.logits

    def _run(self, token: int, token_ids: Tensor) -> None:
        if self._right:
            self._decoding.keep(self._right)
        self._tried = [token, *self._guesses.next(min(self._count, self._room))]
        self._scores = self._decoding.run(torch.tensor([self._tried], device=token_ids.device))
        self._right = 1

    def select(self, rows: Tensor) -> None:
        raise NotImplementedError("one row has nothing to select from")


class Guesses:
    """A text, and what stood in it behind each of its words.

    Args:
        ngram: most tokens whose repetition is looked for; fewer where there is none.
        vocabulary: ids from here on (placeholders of pictures may be such) are never guessed.
    """

    def __init__(self, text: list[int], ngram: int, vocabulary: int) -> None:
        self._text: list[int] = []
        self._ngram, self._vocabulary = ngram, vocabulary
        self._ends: dict[tuple[int, ...], int] = {}  # where each n-gram was last followed by something
        for token in text:
            self.append(token)

    def append(self, token: int) -> None:
        end = len(self._text)
        for n in range(1, min(self._ngram, end) + 1):
            self._ends[tuple(self._text[end - n :])] = end
        self._text.append(token)

    def next(self, count: int) -> list[int]:
        """At most `count` tokens; what is guessed may itself be repeated, as in a text that goes round."""
        length = len(self._text)
        for n in range(min(self._ngram, length), 0, -1):
            place = self._ends.get(tuple(self._text[length - n :]))
            if place is None:
                continue
            found: list[int] = []
            for index in range(place, place + count):
                token = self._text[index] if index < length else found[index - length]
                if token >= self._vocabulary:
                    break
                found.append(token)
            return found
        return []
