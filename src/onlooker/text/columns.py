"""What goes into a tokenizer call and comes out of it, checked and put into rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def check_text(text: Any, text_pair: Any, is_split_into_words: bool) -> bool:
    """Whether `text` is a batch.

    Raises:
        ValueError: it is not text, or the second texts do not go with the first.
    """
    for name, given in (("text", text), ("text_pair", text_pair)):
        if not (_is_text(given) or (name == "text_pair" and given is None)):
            raise ValueError(
                f"{name} is {_describe(given)}; a string or a list of strings is wanted (with "
                "is_split_into_words=True a list of words, or a list of lists of words)"
            )
    is_batch = not isinstance(text, str)
    if is_split_into_words:
        is_batch = is_batch and bool(text) and not isinstance(text[0], str)
    if is_batch and text_pair is not None and (isinstance(text_pair, str) or len(text_pair) != len(text)):
        given = "one string" if isinstance(text_pair, str) else f"{len(text_pair)} texts"
        raise ValueError(f"text is a list of {len(text)}, but text_pair is {given}; give a list of {len(text)}")
    return is_batch


def _is_text(given: Any) -> bool:
    if isinstance(given, str):
        return True
    return isinstance(given, (list, tuple)) and all(
        isinstance(item, str) or (isinstance(item, (list, tuple)) and all(isinstance(word, str) for word in item))
        for item in given
    )


def _describe(given: Any) -> str:
    if isinstance(given, (list, tuple)):
        strange = next((item for item in given if not _is_text(item)), None)
        return f"a {type(given).__name__} that holds {strange!r}"
    return repr(given)


def as_array(name: str, rows: Sequence[Any]) -> np.ndarray:
    """Rows as one array of int64; an array, because empty rows must not become floats.

    Raises:
        ValueError: rows of unequal length.
    """
    lengths = sorted({len(row) for row in rows if isinstance(row, list)})
    if len(lengths) > 1:
        raise ValueError(
            f"{name} has rows of {', '.join(map(str, lengths))} tokens and cannot become one tensor. Give "
            "padding=True, and truncation=True with max_length where rows are too long."
        )
    return np.array(rows, dtype=np.int64)


def as_ids(token_ids: Any) -> list[int]:
    """One row of ids from a list, array, tensor or single id.

    Raises:
        ValueError: something else, more than one row, or ids below 0.
    """
    if hasattr(token_ids, "tolist"):
        token_ids = token_ids.tolist()
    ids = [token_ids] if isinstance(token_ids, int) else _one_row(token_ids)
    negative = min(ids, default=0)
    if negative < 0:
        raise ValueError(
            f"{negative} is not a token id. Labels mark ignored positions with -100: replace it by "
            "tokenizer.pad_token_id before decoding."
        )
    return ids


def _one_row(token_ids: Any) -> list[int]:
    row = list(token_ids)
    if set(map(type, row)) <= {int}:
        return row
    if any(isinstance(item, (list, tuple)) or getattr(item, "ndim", 0) for item in row):
        raise ValueError("one row of ids is wanted, and several came. Use batch_decode for them.")
    return [int(item) for item in row]
