"""Parts of the models: the Q-Former that reads, ViT-g, and the prompt of a LLaMA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from onlooker.bench.contest import Contest, Side
from onlooker.bench.peer import both, num_bytes, random_words
from onlooker.bench.settings import Settings
from onlooker.bench.writing import answering
from onlooker.models.blip2.parts import Blip2VisionModel
from onlooker.models.instructblip.parts import InstructBlipVideoQFormerModel
from onlooker.models.language import LlamaForCausalLM

FRAMES, QUERIES, INSTRUCTION, PROMPT = 4, 32, 16, 256
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def contests(settings: Settings) -> Iterator[Contest]:
    if any(row.startswith("qformer") for row in settings.rows):
        yield from _qformer(settings)
    for name, dtype in _DTYPES.items():
        if f"vit-g-{name}" in settings.rows:
            yield from _vit(settings, f"vit-g-{name}", dtype)
        if f"prefill-{name}" in settings.rows:
            yield from _prefill(settings, f"prefill-{name}", dtype)


def _qformer(settings: Settings) -> Iterator[Contest]:
    """All 12 layers: it is small.

    Twice: with weights as `from_pretrained` gives them, and frozen. torch multiplies slices of activations by a weight
    that takes no gradients as a batch, and in bfloat16 copies the weight for every row.
    """
    config = settings.qformer(layers=2 if settings.is_tiny else 12)
    dtype = torch.bfloat16
    with both(InstructBlipVideoQFormerModel, config, dtype, {"int8": {"qformer": "int8"}}) as peers:
        instruction = random_words(INSTRUCTION, 500).expand(FRAMES, -1)
        given = {
            "input_ids": instruction,
            "attention_mask": torch.ones(FRAMES, QUERIES + INSTRUCTION, dtype=torch.long),
            "query_embeds": _noise(FRAMES, QUERIES, peers.theirs.config.hidden_size, dtype=dtype),
            "encoder_hidden_states": _noise(FRAMES, settings.patches, config["encoder_hidden_size"], dtype=dtype),
        }
        theirs = _features(peers.theirs, given, QUERIES)
        sides = {name or "bf16": _features(model, given, QUERIES) for name, model in peers.ours.items()}
        widths = "toy widths" if settings.is_tiny else "published widths, 12 of 12 layers"
        shape = f"{FRAMES} frames of {settings.patches} patches, instruction of {INSTRUCTION} tokens, {widths}"
        for ending in ("", "-frozen"):
            if ending:
                peers.theirs.requires_grad_(False)
            rows = {f"qformer-{name}{ending}": (side, theirs) for name, side in sides.items()}
            wanted = {row: pair for row, pair in rows.items() if row in settings.rows}
            if wanted:
                yield Contest(shape + ending.replace("-", ", "), wanted, dtype)


def _vit(settings: Settings, row: str, dtype: torch.dtype) -> Iterator[Contest]:
    with both(Blip2VisionModel, settings.vit_g(), dtype) as peers:
        given = {"pixel_values": _noise(1, 3, settings.image_size, settings.image_size, dtype=dtype)}
        pair = _features(peers.ours[""], given), _features(peers.theirs, given)
        yield Contest(f"one picture of {settings.patches} patches, {settings.told('ViT-g')}", {row: pair}, dtype)


def _prefill(settings: Settings, row: str, dtype: torch.dtype) -> Iterator[Contest]:
    """The prompt and the first token, as an answer begins."""
    config = settings.llama()
    with both(LlamaForCausalLM, config, dtype) as peers:
        ids = random_words(32 if settings.is_tiny else PROMPT, config["vocab_size"])
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        exact = peers.exact if dtype is torch.bfloat16 else None  # float32 rounds too little to excuse other words
        pair = answering(peers.ours[""], batch, 1), answering(peers.theirs, batch, 1, exact=exact)
        yield Contest(f"{ids.shape[1]} positions and a token, {settings.told('LLaMA')}", {row: pair}, dtype)


def _features(model: Any, given: dict[str, Tensor], positions: int | None = None) -> Side:
    """Run a part; its last hidden state counts, of so many positions."""

    def work() -> Tensor:
        with torch.inference_mode():
            return model(**given).last_hidden_state[:, :positions]

    run: Callable[[], Tensor] = work
    return Side(run, weights=num_bytes(model))


def _noise(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)
