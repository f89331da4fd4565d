"""New words about media: generation, read back into answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onlooker.pipeline.continuing import Continuation
from onlooker.pipeline.encoded import Row
from onlooker.pipeline.prefix import Prefix, check_room
from onlooker.pipeline.prompts import PromptWriter
from onlooker.pipeline.records import Answer, UsedFrames
from onlooker.pipeline.reusing import Reuse


@torch.no_grad()
def write(
    model: Any,
    writer: PromptWriter,
    rows: Sequence[Row],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    seed: int | None = None,
    reuse: Reuse | None = None,
    **options: Any,
) -> list[Answer]:
    """Go on from every prompt about its media; one batch.

    Args:
        stop: texts that end an answer; they are not part of it.
        seed: of sampling, the same for each row, so that a row does not depend on the others of its batch.
        reuse: where prompts go on from, and what they leave.
        options: any field of GenerationConfig, and `streamer`, `stopping_criteria`, `logits_processor`.

    Raises:
        ValueError: options that do not fit.
    """
    if options.get("num_return_sequences", 1) != 1:
        raise ValueError("one answer comes back for each prompt: ask again with another seed for more")
    prefix = Prefix(model, writer, rows)
    check_room(model, prefix, max_new_tokens)
    options |= {"max_new_tokens": max_new_tokens, "return_dict_in_generate": True, "output_logits": True}
    if stop:
        options |= {"stop_strings": list(stop), "tokenizer": writer.tokenizer}
    if seed is not None:
        device = prefix.mask.device
        options["generator"] = [torch.Generator(device).manual_seed(seed) for _ in rows]
    ends = end_tokens(model, options)
    continuation = Continuation.of(model, writer, rows, prefix, reuse)
    output = model.write(prefix, None, options)
    start = 1 if writer.is_encoder_decoder or prefix.ids is None else prefix.ids.shape[1]
    new = output.sequences[:, start:]
    if continuation is not None:
        continuation.keep_turn(new[0].tolist())
    logprobs = _logprobs(output, new)
    cut = "cancelled" if options.get("max_time") is None else "time"
    reason = "length" if new.shape[1] >= max_new_tokens else cut
    return [
        _answer(writer, ids, logs, ends, stop, reason, frames_of(row))
        for row, ids, logs in zip(rows, new.tolist(), logprobs.tolist())
    ]


def frames_of(row: Row) -> UsedFrames | None:
    """The frames of the last clip of a row."""
    return next((seen.frames for seen in reversed(row.media) if seen.frames is not None), None)


def end_tokens(model: Any, options: dict[str, Any]) -> set[int]:
    """The tokens that end an answer."""
    ends = options.get("eos_token_id", model.generation_config.eos_token_id)
    return set(ends) if isinstance(ends, (list, tuple)) else {ends} - {None}


def _logprobs(output: Any, new: Tensor) -> Tensor:
    """Log-probability of every new token [B, T] under the model itself; step by step, vocabularies are large."""
    steps = []
    rows = torch.arange(len(new), device=new.device)
    for position, logits in enumerate(output.logits[: new.shape[1]]):
        source = rows if output.beam_indices is None else output.beam_indices[:, position].clamp(min=0)
        scores = logits[source.to(logits.device)].float().log_softmax(-1)
        steps.append(scores.gather(1, new[:, position, None].to(scores.device))[:, 0])
    return torch.stack(steps, dim=1)


def _answer(
    writer: PromptWriter,
    ids: list[int],
    logprobs: list[float],
    ends: set[int],
    stop: Sequence[str],
    reason: str,
    frames: UsedFrames | None,
) -> Answer:
    """Cut a row where its answer ends, and say why it ends there: `reason` when nothing in the row says so."""
    for position, token in enumerate(ids):
        if token in ends:
            ids, reason = ids[: position + 1], "stop"
            break
    kept = ids[:-1] if reason == "stop" else ids
    text = writer.tokenizer.decode(kept, skip_special_tokens=True)
    found = [place for place in (text.find(each) for each in stop) if place >= 0]
    if found:
        count = _tokens_until(writer, kept, stop)
        ids, text, reason = ids[:count], text[: min(found)], "stop"
    return Answer(text.strip(), reason, len(ids), sum(logprobs[: len(ids)]), frames)


def _tokens_until(writer: PromptWriter, ids: list[int], stop: Sequence[str]) -> int:
    """How many tokens it took until a stop text was whole; what stands behind it is filling."""
    for count in range(1, len(ids)):
        text = writer.tokenizer.decode(ids[:count], skip_special_tokens=True)
        if any(each in text for each in stop):
            return count
    return len(ids)
