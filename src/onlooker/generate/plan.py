"""One call of generate, made ready: what every way of decoding needs to know."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from onlooker.generate.choose import Generators, Sampler
from onlooker.generate.config import GenerationConfig
from onlooker.generate.filters import Filter, Filters, build_filters
from onlooker.generate.output import GenerateOutput, Recorder
from onlooker.generate.stop import Criterion, Decodes, Stops
from onlooker.generate.validate import check_supported


class Streamer(Protocol):
    """Anything that takes ids as they come: first the prompt [B, T], then one token a row [B]."""

    def put(self, value: Tensor, /) -> Any: ...

    def end(self) -> Any: ...


class Move(NamedTuple):
    """What a search wants next: these tokens [rows] written, after rows were selected where they are given."""

    tokens: Tensor
    rows: Tensor | None = None


#: A search: it is started with the first scores, asks for moves, is sent the scores [rows, V] after each, and returns
#: what generate does. So the same code serves one batch of its own and rows among those of others.
Search = Generator[Move, Tensor, "Tensor | GenerateOutput"]


@dataclass
class Plan:
    """`fill` is what finished rows are filled with; `poll` how many steps apart the host asks whether all are."""

    max_new: int
    fill: int
    filters: Filters
    stops: Stops
    recorder: Recorder
    sampler: Sampler | None
    streamer: Streamer | None
    poll: int

    def filtered(self, ids: Tensor, logits: Tensor) -> Tensor:
        """The scores of this step after all filters, recorded where asked."""
        self.recorder.keep_logits(logits)
        if self.filters.active:
            logits = self.filters(ids, logits.float() if logits.dtype.itemsize < 4 else logits.clone())
        elif self.recorder.keeps_scores:
            logits = logits.float().clone()
        self.recorder.keep_scores(logits)
        return logits

    def finished(self, done: Tensor, ids: Tensor, tokens: Tensor) -> Tensor:
        """`done` [rows] with the rows that these tokens, the last of ids, finish."""
        ended = self.stops.ended(tokens)
        if ended is not None:
            done = done | ended
        return done | self.stops.told(ids, self.recorder.scores) if self.stops.asks_host else done


def make_plan(
    prompt_ids: Tensor,
    config: GenerationConfig,
    *,
    prompt_mask: Tensor | None = None,
    prompt_length: int | None = None,
    logits_processor: Filter | Iterable[Filter] | None = None,
    stopping_criteria: Criterion | Iterable[Criterion] | None = None,
    streamer: Streamer | None = None,
    generator: Generators = None,
    tokenizer: Decodes | None = None,
) -> tuple[Plan, Tensor, Tensor]:
    """Check a call of generate (see there) and make it ready.

    Returns:
        The plan, the prompts [rows, T] (repeated for beams, or for several answers), and which prompt each row has.

    Raises:
        ValueError: options that are out of range, exclude each other, or leave no room after the prompt.
    """
    batch, width = prompt_ids.shape
    _check(config, prompt_ids, prompt_mask, streamer)
    prompt_length = width if prompt_length is None else prompt_length
    max_new, _ = config.new_tokens(prompt_length)
    copies = config.num_beams if config.num_beams > 1 else config.num_return_sequences
    rows = torch.arange(batch, device=prompt_ids.device).repeat_interleave(copies)
    prompts = prompt_ids[rows]
    mask = None if prompt_mask is None else prompt_mask.to(prompt_ids.device)[rows]
    stops = Stops(config, stopping_criteria, tokenizer, width)
    recorder = Recorder(config)
    waits = stops.asks_host or streamer is not None or prompt_ids.device.type == "cpu"
    plan = Plan(
        max_new=max_new,
        fill=_fill(config, stops, len(rows)),
        filters=build_filters(config, logits_processor, prompts, mask, prompt_length),
        stops=stops,
        recorder=recorder,
        sampler=Sampler(generator, batch, batch * copies) if config.do_sample else None,
        streamer=streamer,
        poll=1 if waits else 8,
    )
    return plan, prompts, rows


def _check(config: GenerationConfig, ids: Tensor, mask: Tensor | None, streamer: Any) -> None:
    config.validate()
    check_supported(config)
    if mask is not None and mask.shape != ids.shape:
        raise ValueError(f"prompt_mask is {list(mask.shape)} but prompt_ids is {list(ids.shape)}; they go together")
    if streamer is not None and config.num_beams > 1:
        raise ValueError(f"a streamer cannot follow num_beams={config.num_beams}: beams change their past")
    if config.prompt_lookup_num_tokens and len(ids) * config.num_return_sequences > 1:
        raise ValueError(
            f"prompt_lookup_num_tokens is for one row, and there are {len(ids)} prompts with "
            f"{config.num_return_sequences} answers each: leave it out, or give the prompts one by one"
        )


def _fill(config: GenerationConfig, stops: Stops, rows: int) -> int:
    if config.fill_id is None and stops.by_row and rows > 1:
        raise ValueError("rows may finish at different steps and nothing says what to fill them with; set pad_token_id")
    return config.fill_id or 0
