"""`show_batch`: what a model learns in a batch, in colours."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

_IGNORED = -100
STYLES = {"learnt": "bold green", "end": "bold magenta", "prompt": "dim", "visual": "cyan", "pad": "bright_black"}


def show_batch(batch: Mapping[str, Any], tokenizer: Any, *, visual_ids: Sequence[int] = (), rows: int = 4) -> Group:
    """The rows of a batch for a rich console: answers that are learnt green, ends magenta, prompts dim.

    Args:
        batch: what a `Collator` gave.
        visual_ids: placeholder tokens, drawn together as "<image> x 32".
        rows: how many at most.
    """
    from rich.console import Group
    from rich.text import Text

    lines: list[Text] = [_legend()]
    ids, mask, labels = (batch[name].tolist() for name in ("input_ids", "attention_mask", "labels"))
    is_aligned = batch["labels"].shape == batch["input_ids"].shape and _are_one(ids, labels, tokenizer.eos_token_id)
    for number in range(min(rows, len(ids))):
        line = Text().append(f"{number}: ", style="bold")
        given = labels[number] if is_aligned else [_IGNORED] * len(ids[number])
        line.append_text(_row(ids[number], mask[number], given, tokenizer, set(visual_ids)))
        if not is_aligned:
            real = [label for label in labels[number] if label != _IGNORED]
            line.append("  ->  ", style="bold")
            line.append_text(_row(real, [1] * len(real), real, tokenizer, set()))
        lines.append(line)
    learnt = sum(label != _IGNORED for row in labels for label in row)
    lines.append(Text(f"{len(ids)} rows, {learnt} tokens learnt of {sum(map(sum, mask))}", style="italic"))
    return Group(*lines)


def _are_one(ids: list[list[int]], labels: list[list[int]], end: int) -> bool:
    """Whether labels stand under the ids they belong to, as decoder-only models have them."""
    pairs = (
        (i, label) for row, given in zip(ids, labels) for i, label in zip(row, given) if label not in (_IGNORED, end)
    )
    return all(i == label for i, label in pairs)


def _legend() -> Text:
    from rich.text import Text

    return Text(" ").join(Text(name, style=style) for name, style in STYLES.items())


def _row(ids: list[int], mask: list[int], labels: list[int], tokenizer: Any, visual: set[int]) -> Text:
    from rich.text import Text

    end = tokenizer.eos_token_id
    kinds = [
        "pad"
        if not kept
        else "visual"
        if i in visual
        else "prompt"
        if label == _IGNORED
        else "end"
        if label == end
        else "learnt"
        for i, kept, label in zip(ids, mask, labels)
    ]
    line = Text()
    for kind, group in itertools.groupby(zip(kinds, ids, labels), key=lambda each: each[0]):
        members = list(group)
        if kind in ("pad", "visual"):
            name = tokenizer.convert_ids_to_tokens(members[0][1]) if kind == "visual" else "pad"
            piece = f"{name} x {len(members)}"
        elif kind == "end":
            hidden = [i for _, i, label in members if i != label]
            piece = tokenizer.convert_ids_to_tokens(end) + (f"[{tokenizer.decode(hidden).strip()}]" if hidden else "")
        else:
            piece = tokenizer.decode([i for _, i, _ in members]).strip()
        line.append(piece, style=STYLES[kind])
        line.append(" ")
    return line
