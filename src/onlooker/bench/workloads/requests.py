"""Eight requests of mixed length at once: the engine, against one padded batch and against one by one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from onlooker.bench.contest import Contest, Side
from onlooker.bench.peer import both, num_bytes, random_words
from onlooker.bench.settings import Settings
from onlooker.bench.writing import Dictation, answering, one_by_one
from onlooker.engine import Engine
from onlooker.models.generation import Prompt
from onlooker.models.language import LlamaForCausalLM

_PAD = 0


def contests(settings: Settings) -> Iterator[Contest]:
    config = settings.llama()
    with both(LlamaForCausalLM, config, torch.bfloat16) as peers:
        requests = Requests(peers.ours[""], peers.theirs, config["vocab_size"], longest=16 if settings.is_tiny else 96)
        engine = requests.side(requests.engine, peers.ours[""])
        padded = requests.side(requests.padded, peers.theirs)
        alone = requests.alone(peers.exact)
        # What a request gets alone is right: in a padded batch of theirs it may get other tokens by rounding.
        alone.result = padded.result = cache(alone.work)
        engine.scores, padded.scores, padded.exact = requests.scores, alone.scores, alone.exact
        shape = (
            f"prompts of {_range(ids.shape[1] for ids in requests.ids)} tokens, answers of {_range(requests.new)}, "
            f"together {sum(requests.new)}; without prompts and first tokens, {settings.told('LLaMA')}"
        )
        rows = {"requests-padded": (engine, padded), "requests-one-by-one": (engine, alone)}
        yield Contest(shape, {row: pair for row, pair in rows.items() if row in settings.rows}, torch.bfloat16)


def _range(values: Any) -> str:
    found = list(values)
    return f"{min(found)} to {max(found)}"


class Requests:
    """Eight prompts with the number of tokens that each wants, and three ways to answer them.

    Args:
        longest: tokens of an answer; all lengths from a quarter of it are as likely.
    """

    def __init__(self, ours: Any, theirs: Any, vocabulary: int, longest: int) -> None:
        rng = random.Random(0)
        self._ours, self._theirs = ours, theirs
        self.ids = [random_words(rng.randint(8, 160), vocabulary, seed) for seed in range(8)]
        self.new = [rng.randint(longest // 4, longest) for _ in self.ids]

    def side(self, work: Callable[[list[int]], list[list[int]]], model: Any) -> Side:
        """Decode alone: what the first tokens take is taken off."""
        return Side(partial(work, self.new), before=partial(work, [1] * len(self.new)), weights=num_bytes(model))

    def engine(self, new: list[int], told: Dictation | None = None, listener: int = 0) -> list[list[int]]:
        """
        Args:
            told: to one of the requests.
        """
        engine, embed = Engine(self._ours, max_rows=8), self._ours.get_input_embeddings()
        with torch.no_grad():
            prompts = [Prompt(embed(ids), torch.ones_like(ids), ids) for ids in self.ids]
        heard = [[told] if told is not None and row == listener else None for row in range(len(new))]
        requests = [
            engine.submit(prompt, max_new_tokens=count, logits_processor=each)
            for prompt, count, each in zip(prompts, new, heard)
        ]
        engine.run()
        return [request.tokens for request in requests]

    def scores(self, row: int, ids: list[int]) -> Tensor:
        """[len(ids), V] of one request in the engine, among the others."""
        told = Dictation(ids)
        self.engine(self.new, told, row)
        return told.scores

    def padded(self, new: list[int]) -> list[list[int]]:
        longest = max(ids.shape[1] for ids in self.ids)
        pads = [longest - ids.shape[1] for ids in self.ids]
        batch = torch.cat([torch.nn.functional.pad(ids, (pad, 0), value=_PAD) for ids, pad in zip(self.ids, pads)])
        mask = (torch.arange(longest) >= torch.tensor(pads)[:, None]).long()
        out = self._theirs.generate(batch, attention_mask=mask, max_new_tokens=max(new), do_sample=False)
        return [row[longest : longest + count].tolist() for row, count in zip(out, new)]

    def alone(self, exact: Callable[[], Any]) -> Side:
        """One by one.

        Args:
            exact: makes their model in float32.
        """
        batches = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in self.ids]
        return one_by_one(
            [
                answering(self._theirs, batch, count - 1, decode_only=True, exact=exact)
                for batch, count in zip(batches, self.new)
            ]
        )
