"""Tokens behind a prompt at LLaMA-7B's widths, in three roundings, with the native kernel and without."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from onlooker.bench.contest import Contest
from onlooker.bench.peer import both, random_words
from onlooker.bench.settings import Settings
from onlooker.bench.writing import answering, bytes_of_a_step
from onlooker.models.language import LlamaForCausalLM

PROMPT, TOKENS = 64, 32


def contests(settings: Settings) -> Iterator[Contest]:
    config, kinds = settings.llama(), ("int8", "int4")
    quantizations = {kind: kind for kind in kinds if any(kind in row for row in settings.rows)}
    with both(LlamaForCausalLM, config, torch.bfloat16, quantizations) as peers:
        ids = random_words(PROMPT, config["vocab_size"])
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        theirs = answering(peers.theirs, batch, TOKENS, decode_only=True, exact=peers.exact)
        theirs.reads = TOKENS * bytes_of_a_step(peers.theirs)
        rows = {}
        for name, model in peers.ours.items():
            for ending, is_native in (("", False), ("-native", True)):
                row = f"decode-{name or 'bf16'}{ending}"
                if row in settings.rows:
                    side = answering(model, batch, TOKENS, decode_only=True, is_native=is_native)
                    side.reads = TOKENS * bytes_of_a_step(model)
                    rows[row] = side, theirs
        shape = f"{TOKENS} tokens behind {PROMPT}, without those, {settings.told('LLaMA')}"
        yield Contest(shape, rows, torch.bfloat16)
