"""A caption with five beams: how long the language model of a BLIP-2 takes to its first token."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from onlooker.bench.contest import Contest
from onlooker.bench.peer import both
from onlooker.bench.settings import Settings
from onlooker.bench.writing import answering
from onlooker.models.language import OPTForCausalLM

POSITIONS = 32 + 4  # visual tokens and "a photo of"


def contests(settings: Settings) -> Iterator[Contest]:
    config = settings.opt()
    with both(OPTForCausalLM, config, torch.bfloat16) as peers:
        embeds = torch.randn(1, POSITIONS, config["hidden_size"], generator=torch.Generator().manual_seed(0))
        batch = {
            "inputs_embeds": (embeds * 0.02).bfloat16(),
            "attention_mask": torch.ones(1, POSITIONS, dtype=torch.long),
        }
        ours = answering(peers.ours[""], batch, 1, num_beams=5)
        theirs = answering(peers.theirs, batch, 1, num_beams=5, exact=peers.exact)
        shape = f"{POSITIONS} positions, 5 beams, {settings.told('OPT')}"
        yield Contest(shape, {"beams-first-token": (ours, theirs)}, torch.bfloat16)
