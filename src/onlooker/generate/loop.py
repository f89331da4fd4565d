"""Grow rows of tokens until they are finished: the loop, and the way into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from onlooker.generate import beam, contrastive
from onlooker.generate.choose import Generators
from onlooker.generate.config import GenerationConfig
from onlooker.generate.filters import Filter
from onlooker.generate.lookup import Lookup
from onlooker.generate.output import GenerateOutput
from onlooker.generate.plan import Move, Plan, Search, Streamer, make_plan
from onlooker.generate.stop import Criterion, Decodes

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
    lookup_ids: Tensor | None = None,
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
        lookup_ids: [1, L] where prompt_lookup_num_tokens looks, before the new tokens; prompt_ids when not given.

    Returns:
        ids [B * num_return_sequences, T + new], or a GenerateOutput with return_dict_in_generate.

    Raises:
        ValueError: options that are out of range, exclude each other, or leave no room after the prompt.
    """
    plan, prompts, rows = make_plan(
        prompt_ids,
        config,
        prompt_mask=prompt_mask,
        prompt_length=prompt_length,
        logits_processor=logits_processor,
        stopping_criteria=stopping_criteria,
        streamer=streamer,
        generator=generator,
        tokenizer=tokenizer,
    )
    look_in = prompt_ids if lookup_ids is None else lookup_ids

    def run() -> Tensor | GenerateOutput:
        decoding = begin(plan.max_new)
        if config.prompt_lookup_num_tokens:
            decoding = Lookup(decoding, look_in[0].tolist(), plan.max_new, config)
        return _run(decoding, prompts, rows, config, plan)

    if streamer is None:
        return run()
    try:
        streamer.put(prompt_ids.cpu())
        output = run()
    except BaseException as error:
        # Whoever reads the other end of the stream would wait for ever.
        getattr(streamer, "abort", lambda error: streamer.end())(error)
        raise
    streamer.end()
    return output


def _run(
    decoding: Decoding, prompts: Tensor, rows: Tensor, config: GenerationConfig, plan: Plan
) -> Tensor | GenerateOutput:
    if config.is_contrastive:
        assert config.penalty_alpha is not None and config.top_k is not None
        ids = contrastive.search(decoding, _with_room(prompts, plan), plan, config.penalty_alpha, config.top_k)
        return plan.recorder.output(ids)
    if len(rows) > len(decoding.logits):
        decoding.select(rows)
    search = start_search(decoding.logits, prompts, config, plan)
    try:
        move = next(search)
        while True:
            if move.rows is not None:
                decoding.select(move.rows)
            move = search.send(decoding.step(move.tokens))
    except StopIteration as end:
        return end.value


def start_search(logits: Tensor, prompts: Tensor, config: GenerationConfig, plan: Plan) -> Search:
    """The search that a configuration asks for, but contrastive search, which looks at hidden states too.

    Args:
        logits: [rows, V] behind the prompts.
        prompts: [rows, T].
    """
    return beam.search(logits, prompts, config, plan) if config.num_beams > 1 else walk(logits, prompts, plan)


def walk(logits: Tensor, prompts: Tensor, plan: Plan) -> Search:
    """Greedy search and sampling: a token a row and step."""
    ids, end = _with_room(prompts, plan), prompts.shape[1]
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    steps = torch.zeros_like(done, dtype=torch.long) if plan.poll > 1 else None
    may_finish = plan.stops.by_row or plan.stops.asks_host
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
            logits = yield Move(tokens)
    if steps is not None and may_finish:
        end = prompts.shape[1] + int(steps.max())
        plan.recorder.cut(end - prompts.shape[1])
    return plan.recorder.output(ids[:, :end])


def _with_room(prompts: Tensor, plan: Plan) -> Tensor:
    return torch.cat([prompts, prompts.new_full((len(prompts), plan.max_new), plan.fill)], dim=1)
