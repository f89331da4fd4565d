"""Prompts go on from what was run of them before, as far as their items agree, and leave behind what was run."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onlooker.language.choose import begin
from onlooker.language.protocol import CachedDecoding, Decoding
from onlooker.models.generation import Prompt as ModelPrompt
from onlooker.nn.masks import compact
from onlooker.nn.prefix import KVPrefix
from onlooker.pipeline.encoded import Row
from onlooker.pipeline.prompts import PromptWriter
from onlooker.pipeline.reusing import Reuse
from onlooker.reuse import Entry
from onlooker.reuse.prefixes import Items, Sight, positions, until_sights


def can_continue(model: Any, writer: PromptWriter) -> bool:
    """Whether prompts of this model can go on from a part of them.

    An encoder reads its prompt as a whole, an InstructBLIP's visual tokens depend on the question, and language models
    of another library keep their keys to themselves.
    """
    family = writer.family
    return not (writer.is_encoder_decoder or family.reads_instruction) and hasattr(model._language_model(), "begin")


def items_of(writer: PromptWriter, row: Row, ids: Sequence[int]) -> Items:
    """A prompt's ids with a `Sight` in the place of each medium; empty when one is of those that leave nothing."""
    if not all(seen.digest for seen in row.media):
        return ()
    places = writer.family.placeholders
    waiting: dict[int | None, deque[Sight]] = {token: deque() for token in places.values()}
    for seen in row.media:
        waiting[places[seen.kind]].append(Sight(seen.digest, seen.num_tokens))
    items: list[int | Sight] = list(waiting.get(None, ()))  # an old file: no token keeps a place, they go in front
    place = 0
    while place < len(ids):
        sights = waiting.get(ids[place])
        items.append(sights.popleft() if sights else ids[place])
        place += positions(items[-1:])
    return items


class Continuation:
    """One batch of prompts and what is known of them.

    Args:
        prefix: the same prompts, ready for the model.
    """

    def __init__(
        self, model: Any, writer: PromptWriter, rows: Sequence[Row], prefix: ModelPrompt, reuse: Reuse
    ) -> None:
        self._model = model
        self._prefix = prefix
        self._reuse = reuse
        self._name = reuse.model(model)
        self._rows = rows
        assert prefix.ids is not None and prefix.ids_mask is not None  # as `make_prefix` writes it
        ids = [each[mask.bool()].tolist() for each, mask in zip(prefix.ids, prefix.ids_mask)]
        self._items = [items_of(writer, *each) for each in zip(rows, ids)]
        self._decoding: CachedDecoding | None = None
        prefix.begin = self.begin

    @classmethod
    def of(
        cls, model: Any, writer: PromptWriter, rows: Sequence[Row], prefix: ModelPrompt, reuse: Reuse | None
    ) -> Continuation | None:
        """Let prompts go on from what is known, where anything is kept and the model can."""
        if reuse is None or not reuse.cache.is_on or not can_continue(model, writer):
            return None
        return cls(model, writer, rows, prefix, reuse)

    def begin(self, max_new_tokens: int) -> CachedDecoding:
        """Run of every prompt what was not run before; the rows are in their order."""
        embeds, lengths = compact(self._prefix.embeds, self._prefix.mask)
        order: list[int] = []
        whole: CachedDecoding | None = None
        for known, rows in self._groups(embeds):
            index = torch.tensor(rows, device=embeds.device)
            start = 0 if known is None else known.length
            rest, mask = _rest(embeds[index], lengths[index], start)
            part = _cached(begin(self._model._language_model(), rest, mask, max_new_tokens, prefix=known))
            if known is None:
                self._keep_new(part, rows)
            else:
                self._reuse.cache.count_tokens(start * len(rows))
            if whole is None:
                whole = part
            else:
                whole.join(part)
            order += rows
        assert whole is not None  # there are rows
        if order != sorted(order):
            whole.select(torch.tensor([order.index(row) for row in range(len(order))], device=embeds.device))
        self._decoding = whole
        return whole

    def _groups(self, embeds: Tensor) -> list[tuple[KVPrefix | None, list[int]]]:
        """Rows that go on from one beginning, with it; those that have none go together."""
        found = [self._find(items) for items in self._items]
        if self._run_shared(embeds, [row for row, known in enumerate(found) if known is None]):
            found = [known or self._find(items) for known, items in zip(found, self._items)]
        groups: dict[int, tuple[KVPrefix | None, int, list[int]]] = {}
        for row, known in enumerate(found):
            if known is None:
                groups.setdefault(0, (None, 0, []))[2].append(row)
                continue
            entry, agreed = known
            length = positions(self._items[row][:agreed])
            kept, least, rows = groups.get(id(entry), (KVPrefix.from_tensors(entry.tensors), length, []))
            groups[id(entry)] = (kept, min(least, length), [*rows, row])
        return [(kept and kept.cut(length), rows) for kept, length, rows in groups.values()]

    def _find(self, items: Items) -> tuple[Entry, int] | None:
        return self._reuse.prefixes.find(self._name, items, self._prefix.embeds.device)

    def _run_shared(self, embeds: Tensor, rows: list[int]) -> bool:
        """Run once what several of these rows begin with, up to the last of their media; whether there was any."""
        bases = {row: tuple(self._items[row][: until_sights(self._items[row][:-1])]) for row in rows}
        counts = Counter(base for base in bases.values() if base)
        shared = [base for base, count in counts.items() if count > 1]
        for base in shared:
            row = next(row for row in rows if bases[row] == base)
            part = embeds[row : row + 1, : positions(base)]
            self._keep(_cached(begin(self._model._language_model(), part, None, 0)), 0, base, to_folder=True)
        return bool(shared)

    def _keep_new(self, decoding: CachedDecoding, rows: list[int]) -> None:
        """Keep what these rows begin with, up to the last of their media."""
        for place, row in enumerate(rows):
            items = self._items[row]
            base = items[: until_sights(items)]
            wants = self._rows[row].thread is None or self._reuse.cache.folder is not None  # a thread keeps all of it
            if base and wants and not self._reuse.prefixes.knows(self._name, base):
                self._keep(decoding, place, base, to_folder=True)

    def keep_turn(self, answer: Sequence[int]) -> None:
        """Keep all that was run of a conversation's prompt and its answer, in the place of the turn before.

        Args:
            answer: the tokens that were written.
        """
        thread, items = self._rows[0].thread, self._items[0]
        if thread is None or not items or self._decoding is None or len(self._rows) > 1:
            return
        # The last token was not run, for nothing came after it. The first of several beams need not be the answer.
        whole = (*items, *(answer[:-1] if len(self._decoding.logits) == 1 else ()))
        self._keep(self._decoding, 0, whole)
        self._reuse.prefixes.give_up(self._name, thread.items, whole)
        thread.items = whole

    def _keep(self, decoding: CachedDecoding, row: int, items: Items, *, to_folder: bool = False) -> None:
        cache, length = self._reuse.cache, positions(items)
        size = decoding.snapshot(row, 1).nbytes * length
        if size > cache.memory.budget and cache.folder is None:
            cache.memory.refused += 1  # not worth a copy
            return
        tensors = decoding.snapshot(row, length).tensors()
        self._reuse.prefixes.keep(self._name, items, Entry(tensors), to_folder=to_folder)


def _cached(decoding: Decoding) -> CachedDecoding:
    """Language models written here keep what they run."""
    return decoding  # type: ignore[return-value]


def _rest(embeds: Tensor, lengths: Tensor, start: int) -> tuple[Tensor, Tensor | None]:
    """What follows the first `start` positions of right-padded rows [B, T, D], and its mask [B, T]."""
    shortest, longest = (int(length) for length in (lengths.min(), lengths.max()))
    rest = embeds[:, start:longest]
    if shortest == longest:
        return rest, None
    return rest, (torch.arange(start, longest, device=lengths.device) < lengths[:, None]).long()
