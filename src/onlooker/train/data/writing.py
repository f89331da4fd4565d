"""Writes the turns of a record as the prompt that a family is asked with, and says where the answers stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onlooker.train.data.record import Record

_MARK = "\ue000"  # for private use: in no text


@dataclass(frozen=True)
class Row:
    """One row of text for a model."""

    example: int  # the record of the batch whose media it is about
    text: str  # for a decoder-only model with the answers, for an encoder without the last
    spans: tuple[tuple[int, int], ...]  # where the answers to learn stand in the text
    target: str  # the last answer
    instruction: str  # what InstructBLIP's Q-Former reads


def write_rows(
    processor: Any, record: Record, example: int, *, packed: bool, encoder_decoder: bool, caption_prompt: str = ""
) -> list[Row]:
    """The rows of a record: one with all its turns, or one for each turn with those before it as history.

    Args:
        packed: all turns in one row, each answer learnt.
        encoder_decoder: the text ends before the last answer, which is the target.
        caption_prompt: the question to a record that is a caption.

    Raises:
        ValueError: a chat template of which an earlier turn is no beginning of the whole.
    """
    prompts, full = _written(processor, record, caption_prompt)
    answers = [turn.answer for turn in record.turns]
    spans = [_find(full, len(prompt), answer) for prompt, answer in zip(prompts, answers)]
    if packed:
        questions = " ".join(turn.question or caption_prompt for turn in record.turns)
        return [Row(example, full[: spans[-1][1]], tuple(spans), answers[-1], questions)]
    rows = []
    for prompt, span, answer in zip(prompts, spans, answers):
        text, learnt = (prompt, ()) if encoder_decoder else (full[: span[1]], (span,))
        rows.append(Row(example, text, learnt, answer, prompt))
    return rows


def _written(processor: Any, record: Record, caption_prompt: str) -> tuple[list[str], str]:
    """The text before each answer, and the whole."""
    takes_markers = hasattr(processor, "video_processor") and not hasattr(processor, "qformer_tokenizer")
    if record.caption is not None and not takes_markers:  # a BLIP model writes captions after nothing, or a beginning
        return [caption_prompt], f"{caption_prompt} {record.caption}".strip()
    messages = _messages(record, caption_prompt)
    full: str = processor.apply_chat_template(messages)
    last: str = processor.apply_chat_template(messages[:-1], add_generation_prompt=True)
    starts = _starts(full, processor.apply_chat_template(_with_marks(messages)))
    gap = full[len(last) : starts[-1]]
    if not full.startswith(last) or gap.strip():
        raise ValueError(
            f"the chat template writes a question as {last[-60:]!r} when it stands last, and otherwise when an answer "
            "follows; such a template cannot be trained on"
        )
    return [full[: start - len(gap)] for start in starts], full


def _with_marks(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with a mark in place of each answer."""
    return [{**message, "content": _MARK} if message["role"] == "assistant" else message for message in messages]


def _starts(full: str, marked: str) -> list[int]:
    """Where each answer starts: behind what stands before its mark.  It is one rendering, however many turns there are.

    Raises:
        ValueError: the template writes something else around other answers.
    """
    pieces = marked.split(_MARK)
    starts, place = [], 0
    for piece in pieces[:-1]:
        found = full.find(piece, place)
        if found < 0:
            raise ValueError(
                f"the chat template does not write {piece[-60:]!r} around every answer; it cannot be trained on"
            )
        place = found + len(piece)
        starts.append(place)
    return starts


def _messages(record: Record, caption_prompt: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": record.system}] if record.system else []
    for number, turn in enumerate(record.turns):
        parts: list[dict[str, Any]] = [{"type": medium.kind} for medium in record.media] if number == 0 else []
        question = turn.question or caption_prompt
        parts.append({"type": "text", "text": question})
        messages += [{"role": "user", "content": parts}, {"role": "assistant", "content": turn.answer}]
    return messages


def _find(full: str, start: int, answer: str) -> tuple[int, int]:
    """Where an answer stands behind its prompt, blanks in front included; a template may add a full stop to it."""
    begin = start + len(full[start:]) - len(full[start:].lstrip())
    kept = answer.strip()
    while kept and not full.startswith(kept, begin):
        kept = kept[:-1].rstrip()  # BLIP-2's template takes full stops away before it writes its own
    if not kept:
        raise ValueError(f"the chat template does not write the answer {answer[:40]!r} as it is")
    return start, begin + len(kept)


def shifted(spans: Sequence[tuple[int, int]], by: int) -> list[tuple[int, int]]:
    """Spans in a text that has become longer in front of them."""
    return [(begin + by, end + by) for begin, end in spans]
