"""Grow rows of tokens until they are finished: the loop, and the way into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onlooker.generate import beam, contrastive
from onlooker.generate.choose import Generators, Sampler
from onlooker.generate.config import GenerationConfig
from onlooker.generate.filters import Filter, build_filters
from onlooker.generate.output import GenerateOutput, Recorder
from onlooker.generate.plan import Plan, Streamer
from onlooker.generate.stop import Criterion, Decodes, Stops
from onlooker.generate.validate import check_supported

if TYPE_CHECKING:
    from onlooker.language.protocol import Decoding


@torch.no_grad()
def generate(
    begin: Callable[[int], Decoding],
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
) -> Tensor | GenerateOutput:
    """Run a prompt through a language model and write tokens after it.

    Args:
        begin: runs the prompt, given the most steps that will follow; called once, after every check.
        prompt_ids: [B, T] what the returned ids start with and the penalties see; T may be 0.
        prompt_mask: [B, T] 0 for pads, which penalties do not see.
        prompt_length: positions that max_length and min_length count; T when not given.
        logits_processor: callables (ids, scores) -> scores, after the penalties and before the sampling filters.
        stopping_criteria: callables (ids, scores so far or None) -> bool, or one for each row.
        streamer: takes the prompt, then each step's tokens.
        generator: for sampling; a list has one for each prompt, and a prompt alone then draws what it draws here.
        tokenizer: decodes for stop_strings.

    Returns:
        ids [B * num_return_sequences, T + new], or a GenerateOutput with return_dict_in_generate.

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
    waits = stops.asks_host or streamer is not None or recorder.active or prompt_ids.device.type == "cpu"
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
    if streamer is None:
        return _run(begin(max_new), prompts, rows, config, plan)
    try:
        streamer.put(prompt_ids.cpu())
        output = _run(begin(max_new), prompts, rows, config, plan)
    except BaseException as error:
        # Whoever reads the other end of the stream would wait for ever.
        getattr(streamer, "abort", lambda error: streamer.end())(error)
        raise
    streamer.end()
    return output


def _run(
    decoding: Decoding, prompts: Tensor, rows: Tensor, config: GenerationConfig, plan: Plan
) -> Tensor | GenerateOutput:
    if config.num_beams > 1:
        return beam.search(decoding, prompts, config, plan)
    if config.is_contrastive:
        assert config.penalty_alpha is not None and config.top_k is not None
        ids = contrastive.search(decoding, _with_room(prompts, plan), plan, config.penalty_alpha, config.top_k)
    else:
        if config.num_return_sequences > 1:
            decoding.select(rows)
        ids = _walk(decoding, _with_room(prompts, plan), plan)
    return plan.recorder.output(ids)


def _walk(decoding: Decoding, ids: Tensor, plan: Plan) -> Tensor:
    """Greedy search and sampling: ids [rows, T + max_new] are filled in place and cut to what was written."""
    width = ids.shape[1] - plan.max_new
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    steps = torch.zeros_like(done, dtype=torch.long) if plan.poll > 1 else None
    may_finish = plan.stops.by_row or plan.stops.asks_host
    logits, end = decoding.logits, width
    for step in range(plan.max_new):
        scores = plan.filtered(ids[:, :end], logits)
        tokens = scores.argmax(-1) if plan.sampler is None else plan.sampler.draw(scores)[:, 0]
        if step and may_finish and len(ids) > 1:
            tokens = torch.where(done, plan.fill, tokens)
        ids[:, end] = tokens
        end += 1
        if plan.streamer is not None:
            plan.streamer.put(tokens.cpu())
        if may_finish:
            if steps is not None:
                steps += ~done
            done = plan.finished(done, ids[:, :end], tokens)
            if (step + 1) % plan.poll == 0 and bool(done.all()):
                break
        if step + 1 < plan.max_new:
            logits = decoding.step(tokens)
    if steps is not None and may_finish:
        end = width + int(steps.max())
    return ids[:, :end]


def _with_room(prompts: Tensor, plan: Plan) -> Tensor:
    return torch.cat([prompts, prompts.new_full((len(prompts), plan.max_new), plan.fill)], dim=1)


def _check(config: GenerationConfig, ids: Tensor, mask: Tensor | None, streamer: Any) -> None:
    config.validate()
    check_supported(config)
    if mask is not None and mask.shape != ids.shape:
        raise ValueError(f"prompt_mask is {list(mask.shape)} but prompt_ids is {list(ids.shape)}; they go together")
    if streamer is not None and config.num_beams > 1:
        raise ValueError(f"a streamer cannot follow num_beams={config.num_beams}: beams change their past")


def _fill(config: GenerationConfig, stops: Stops, rows: int) -> int:
    if config.fill_id is None and stops.by_row and rows > 1:
        raise ValueError("rows may finish at different steps and nothing says what to fill them with; set pad_token_id")
    return config.fill_id or 0
