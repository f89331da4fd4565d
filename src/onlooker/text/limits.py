"""Reads the padding and truncation arguments of a tokenizer call into what the backend is told."""

from __future__ import annotations

import warnings
from typing import NamedTuple

UNLIMITED = int(1e20)  # model_max_length at or above this means that no limit is known
NO_LIMIT = int(1e30)  # what is written into files for "no limit"

_PADDINGS: dict[object, str | None] = {
    False: None,
    None: None,
    "do_not_pad": None,
    True: "longest",
    "longest": "longest",
}
_PADDINGS["max_length"] = "max_length"
_TRUNCATIONS: dict[object, str | None] = {False: None, None: None, "do_not_truncate": None, True: "longest_first"}
_TRUNCATIONS |= {name: name for name in ("longest_first", "only_first", "only_second")}


class Limits(NamedTuple):
    """How a call pads and truncates."""

    padding: str | None  # None, "longest" or "max_length"
    truncation: str | None  # None or the backend's name of the strategy
    max_length: int | None


def _lookup(table: dict[object, str | None], name: str, value: object) -> str | None:
    value = getattr(value, "value", value)  # enum members of other libraries pass too
    if value not in table:
        choices = ", ".join(repr(choice) for choice in table if choice is not None)
        raise ValueError(f"{name} is {value!r}; it may be one of {choices}")
    return table[value]


def _warn(verbose: bool, message: str) -> None:
    if verbose:
        warnings.warn(message, stacklevel=5)


def read_limits(
    padding: bool | str | None,
    truncation: bool | str | None,
    max_length: int | None,
    *,
    pad_to_multiple_of: int | None,
    model_max_length: int,
    verbose: bool = True,
) -> Limits:
    """Settle padding, truncation and the length they work to; with `verbose`, warn of what may not be meant.

    Raises:
        ValueError: an unknown strategy, a length below zero, or a length that `pad_to_multiple_of` does not divide.
    """
    pads = _lookup(_PADDINGS, "padding", padding)
    cuts = _lookup(_TRUNCATIONS, "truncation", truncation)
    if max_length is not None and max_length < 0:
        raise ValueError(f"max_length is {max_length}; it must be 0 or more")
    if max_length is not None and pads is None and truncation is None:
        _warn(
            verbose,
            f"max_length={max_length} was given without truncation: texts are cut to it. "
            "Say truncation=True to mean that, or truncation=False to keep them whole.",
        )
        cuts = "longest_first"
    if max_length is not None and pads == "longest" and cuts is None:
        _warn(
            verbose,
            f"max_length={max_length} has no effect with padding={padding!r} and no truncation. "
            "Say truncation=True to cut texts to it, or padding='max_length' to fill them up to it.",
        )
    if max_length is None and (pads == "max_length" or cuts is not None):
        if model_max_length < UNLIMITED:
            max_length = model_max_length
        else:
            _warn(
                verbose,
                "Padding or truncating to the model's maximum length was asked for, but the tokenizer does not know "
                "one: nothing is padded to it or cut. Give max_length, or set tokenizer.model_max_length.",
            )
            pads, cuts = (None if pads == "max_length" else pads), None
    if cuts and pads and pad_to_multiple_of and max_length is not None and max_length % pad_to_multiple_of:
        raise ValueError(
            f"max_length {max_length} is not a multiple of pad_to_multiple_of {pad_to_multiple_of}, so texts cannot "
            "be cut to the one and padded to the other. Change one of the two."
        )
    return Limits(pads, cuts, max_length)
