"""Prompts go on from what was run of them before, as far as their items agree, and leave behind what was run."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onlooker.language.choose import begin
from onlooker.language.decoding import CausalDecoding
from onlooker.nn.prefix import KVPrefix
from onlooker.nn.rotary import stretches_from
from onlooker.pipeline.encoded import Row
from onlooker.pipeline.prefix import Prefix
from onlooker.pipeline.prompts import PromptWriter
from onlooker.pipeline.reusing import Reuse
from onlooker.reuse import Entry
from onlooker.reuse.prefixes import Items, Sight, positions, until_sights


def can_continue(model: Any, writer: PromptWriter) -> bool:
    """Whether prompts of this model can go on from a part of them.

    An encoder reads its prompt as a whole, an InstructBLIP's visual tokens depend on the question, keys of layers on
    several devices lie apart, dynamic rotary positions depend on the length of the whole, and language models of
    another library keep theirs to themselves.
    """
    places = set((getattr(model, "hf_device_map", None) or {"": None}).values())
    if writer.is_encoder_decoder or writer.family.reads_instruction or len(places) > 1:
        return False
    if stretches_from(model.config.get_text_config()) < math.inf:
        return False
    return hasattr(model._language_model(), "begin")


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

    def __init__(self, model: Any, writer: PromptWriter, rows: Sequence[Row], prefix: Prefix, reuse: Reuse) -> None:
        self._model = model
        self._prefix = prefix
        self._reuse = reuse
        self._name = reuse.model(model)
        self._rows = rows
        assert prefix.ids is not None and prefix.ids_mask is not None  # as `Prefix` writes them
        ids = [each[mask.bool()].tolist() for each, mask in zip(prefix.ids, prefix.ids_mask)]
        self._items = [items_of(writer, *each) for each in zip(rows, ids)]
        self._decoding: CausalDecoding | None = None
        prefix.begin = self.begin

    @classmethod
    def of(
        cls, model: Any, writer: PromptWriter, rows: Sequence[Row], prefix: Prefix, reuse: Reuse | None
    ) -> Continuation | None:
        """Let prompts go on from what is known, where anything is kept and the model can."""
        if reuse is None or not reuse.cache.is_on or not can_continue(model, writer):
            return None
        return cls(model, writer, rows, prefix, reuse)

    def begin(self, max_new_tokens: int) -> CausalDecoding:
        """Run of every prompt what was not run before; the rows are in their order."""
        order: list[int] = []
        whole: CausalDecoding | None = None
        for known, rows in self._groups():
            start = 0 if known is None else known.length
            rest, mask = _side_by_side([self._prefix.end(row, start) for row in rows])
            part = self._begin(rest, mask, max_new_tokens, prefix=known)
            if known is None:
                self._keep_new(part, rows)
            if whole is None:
                whole = part
            else:
                whole.join(part)
            order += rows
        assert whole is not None  # there are rows
        if order != sorted(order):
            places = [order.index(row) for row in range(len(order))]
            whole.select(torch.tensor(places, device=self._prefix.mask.device))
        self._decoding = whole
        return whole

    def keep_turn(self, answer: Sequence[int]) -> None:
        """Keep all that was run of a conversation's prompt and its answer, in the place of the turn before.

        Args:
            answer: the tokens that were written.
        """
        thread, items, decoding = self._rows[0].thread, self._items[0], self._decoding
        if thread is None or not items or decoding is None or len(self._rows) > 1:
            return
        # The last token was not run, for nothing came after it. The first of several beams need not be the answer.
        written = [*items, *(answer[:-1] if len(decoding.logits) == 1 else ())]
        if not self._is_worth_it(decoding, positions(written)):
            return
        ran = decoding.snapshot()
        over = max(positions(written) - ran.length, 0)  # guesses that came true at the very end are not written down
        kept = tuple(written[: len(written) - over])
        self._reuse.prefixes.give_up(self._name, thread.items, kept)
        thread.items = kept
        self._keep(ran if ran.length == positions(kept) else decoding.snapshot(0, positions(kept)), kept)

    # -- what is known ---------------------------------------------------------------------------------------------

    def _groups(self) -> list[tuple[KVPrefix | None, list[int]]]:
        """Rows that go on from one beginning, with it; those that have none go together."""
        groups: dict[int, tuple[KVPrefix | None, int, list[int]]] = {}
        unknown = []
        for row, items in enumerate(self._items):
            found = self._reuse.prefixes.find(self._name, items, self._prefix.mask.device)
            if found is None:
                unknown.append(row)
                continue
            entry, agreed = found
            length = positions(items[:agreed])
            kept, least, rows = groups.get(id(entry), (KVPrefix.from_tensors(entry.tensors), length, []))
            groups[id(entry)] = (kept, min(least, length), [*rows, row])
        for _, length, rows in groups.values():
            self._reuse.cache.count_tokens(length * len(rows))
        known = [(kept and kept.cut(length), rows) for kept, length, rows in groups.values()]
        return [*known, *self._begun_alike(unknown)]

    def _begun_alike(self, rows: list[int]) -> list[tuple[KVPrefix | None, list[int]]]:
        """Rows that nothing is known of: what several begin with, up to the last of their media, is run once."""
        alike: dict[tuple[int | Sight, ...], list[int]] = {}
        for row in rows:
            alike.setdefault(tuple(self._items[row][: until_sights(self._items[row][:-1])]), []).append(row)
        groups: list[tuple[KVPrefix | None, list[int]]] = []
        alone = []
        for base, same in alike.items():
            if not base or len(same) == 1:
                alone += same
                continue
            begun = self._begin(self._prefix.end(same[0], 0)[None, : positions(base)], None, 0).snapshot()
            self._keep(begun, base, to_folder=True)
            self._reuse.cache.count_tokens(begun.length * (len(same) - 1))
            groups.append((begun, same))
        return [*groups, (None, alone)] if alone else groups

    # -- what is kept ----------------------------------------------------------------------------------------------

    def _keep_new(self, decoding: CausalDecoding, rows: list[int]) -> None:
        """Keep what these rows begin with, up to the last of their media."""
        for place, row in enumerate(rows):
            base = self._items[row][: until_sights(self._items[row])]
            if self._rows[row].thread is not None and self._reuse.cache.folder is None:
                continue  # all of it is kept at the end of the turn
            if base and not self._reuse.prefixes.knows(self._name, base):
                length = positions(base)
                if self._is_worth_it(decoding, length):
                    self._keep(decoding.snapshot(place, length), base, to_folder=True)

    def _is_worth_it(self, decoding: CausalDecoding, length: int) -> bool:
        """Whether a copy of so many positions could be kept at all."""
        cache = self._reuse.cache
        if cache.folder is not None or decoding.snapshot(0, 1).nbytes * length <= cache.memory.budget:
            return True
        cache.memory.refused += 1
        return False

    def _keep(self, prefix: KVPrefix, items: Items, *, to_folder: bool = False) -> None:
        self._reuse.prefixes.keep(self._name, items, Entry(prefix.tensors()), to_folder=to_folder)

    def _begin(self, embeds: Tensor, mask: Tensor | None, room: int, prefix: KVPrefix | None = None) -> CausalDecoding:
        """Language models written here keep what they run."""
        return begin(self._model._language_model(), embeds, mask, room, prefix=prefix)  # type: ignore[return-value]


def _side_by_side(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Rows [T_i, D] padded on the right [B, T, D], and their mask [B, T]; None when they are of one length."""
    lengths = [len(row) for row in rows]
    if len(set(lengths)) == 1:
        return torch.stack(list(rows)), None
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    ends = torch.tensor(lengths, device=padded.device)[:, None]
    return padded, (torch.arange(padded.shape[1], device=padded.device) < ends).long()
