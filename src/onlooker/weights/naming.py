"""Tables of tensor names: what a file calls a tensor and what the model calls it, readable in both directions.

A pair is written once: `("language_model.model.{rest:.+}", "model.language_model.{rest}")`.  `{x}` stands for one
piece without dots, `{x:regex}` for what the regex matches; both sides use the same captures, so that the pair can be
applied backwards when saving.  A right side of None drops the tensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

_Tensor = TypeVar("_Tensor")
_CAPTURE = re.compile(r"\{(\w+)(?::((?:[^{}]|\{\d+\})+))?\}")


class RenameTable:
    """Pairs of name patterns; a pattern must match the whole name and the first pair that does wins."""

    def __init__(self, pairs: Sequence[tuple[str, str | None]]) -> None:
        self.pairs = tuple(pairs)
        self._to_memory = [_compile(left, right) for left, right in pairs]
        self._to_file = [_compile(right, left) for left, right in pairs if right is not None]

    def to_memory(self, name: str) -> str | None:
        """The model's name of a file's tensor; the name itself when no pair matches, None when it is dropped."""
        return _apply(self._to_memory, name)

    def renamed(self, tensors: Mapping[str, _Tensor]) -> dict[str, _Tensor]:
        """The same by the model's names, without those that are dropped."""
        names = {name: self.to_memory(name) for name in tensors}
        return {to: tensors[name] for name, to in names.items() if to is not None}

    def to_file(self, name: str) -> str:
        """The file's name of a model's tensor; the name itself when no pair matches."""
        return _apply(self._to_file, name) or name


def _compile(source: str, target: str | None) -> tuple[re.Pattern[str], str | None]:
    captures: dict[str, str] = {}
    for side in (source, target or ""):
        for name, regex in _CAPTURE.findall(side):
            captures[name] = regex or captures.get(name, r"[^.]+")
    pattern, end, seen = "", 0, set()
    for match in _CAPTURE.finditer(source):
        name = match[1]
        pattern += re.escape(source[end : match.start()])
        pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{captures[name]})"
        seen.add(name)
        end = match.end()
    pattern += re.escape(source[end:])
    replacement = None if target is None else _CAPTURE.sub(r"\\g<\1>", target)
    return re.compile(pattern), replacement


def _apply(rules: list[tuple[re.Pattern[str], str | None]], name: str) -> str | None:
    for pattern, replacement in rules:
        match = pattern.fullmatch(name)
        if match:
            return None if replacement is None else match.expand(replacement)
    return name


def substitute(rules: Iterable[tuple[str, str]], name: str) -> str:
    """Apply one-way (regex, replacement) rules for older or newer spellings, each wherever it matches."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
