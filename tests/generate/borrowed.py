"""Random tiny reference models, seen through the interface that generation works on."""

from __future__ import annotations

import functools

import torch
import transformers
from torch import Tensor

from onlooker.generate.config import GenerationConfig
from onlooker.generate.loop import generate

VOCAB = 40
PAD, EOS = 1, 2
FAMILIES = ("opt", "gpt2", "llama", "t5")


@functools.lru_cache(None)
def reference(family: str, seed: int = 0) -> torch.nn.Module:
    """A tiny model with weights wide enough that its likely tokens are likely."""
    torch.manual_seed(seed)
    common = {"vocab_size": VOCAB, "pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": EOS}
    if family == "opt":
        config = transformers.OPTConfig(
            hidden_size=16, ffn_dim=24, num_hidden_layers=1, num_attention_heads=2, word_embed_proj_dim=16,
            max_position_embeddings=64, init_std=0.6, **common,
        )  # fmt: skip
        model = transformers.OPTForCausalLM(config)
    elif family == "gpt2":
        config = transformers.GPT2Config(
            n_embd=16, n_layer=1, n_head=2, n_positions=64, initializer_range=0.5, **common
        )
        model = transformers.GPT2LMHeadModel(config)
    elif family == "llama":
        config = transformers.LlamaConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=64, initializer_range=0.5, **common,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config)
    else:
        config = transformers.T5Config(
            d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, dropout_rate=0.0,
            initializer_factor=1.5, decoder_start_token_id=PAD, **common,
        )  # fmt: skip
        model = transformers.T5ForConditionalGeneration(config)
        model.shared.weight.data.mul_(3)
    return model.eval()


class Recomputed:
    """Rows of a reference model, run anew from the start for every token."""

    def __init__(self, model: torch.nn.Module, ids: Tensor, mask: Tensor | None, source: Tensor | None = None) -> None:
        self.model, self.ids, self.source = model, ids, source
        self.mask = torch.ones_like(ids) if mask is None or source is not None else mask
        self.source_mask = mask if source is not None else None
        self.lengths = self.mask.sum(1)
        self.steps = 0
        self._run()
        # right-padded rows, as the interface wants them
        order = (1 - self.mask).argsort(dim=1, stable=True)
        self.hidden = self.hidden_all.gather(1, order[..., None].expand_as(self.hidden_all))

    def _run(self) -> None:
        if self.source is not None:
            inputs = {"input_ids": self.source, "attention_mask": self.source_mask, "decoder_input_ids": self.ids}
        else:
            places = (self.mask.cumsum(1) - 1).clamp(min=0)
            inputs = {"input_ids": self.ids, "attention_mask": self.mask, "position_ids": places}
        out = self.model(**inputs, output_hidden_states=True, use_cache=False)
        self.hidden_all = (out.decoder_hidden_states if self.source is not None else out.hidden_states)[-1]
        last = (self.mask * torch.arange(self.mask.shape[1])).argmax(1)
        self.logits = out.logits[torch.arange(len(last)), last]

    def step(self, token_ids: Tensor) -> Tensor:
        self.steps += 1
        self.ids = torch.cat([self.ids, token_ids[:, None]], dim=1)
        self.mask = torch.cat([self.mask, torch.ones_like(token_ids)[:, None]], dim=1)
        self._run()
        self.hidden = self.hidden_all[:, -1:]
        return self.logits

    def select(self, rows: Tensor) -> None:
        for name in ("ids", "mask", "lengths", "hidden", "logits", "source", "source_mask"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, value[rows])


def prompts(family: str, rng, batch: int) -> tuple[Tensor, Tensor]:
    """Ids [B, T] with left pads, and their mask."""
    lengths = [rng.randint(2, 6) for _ in range(batch)]
    width = max(lengths)
    ids = torch.full((batch, width), PAD)
    for row, length in enumerate(lengths):
        ids[row, width - length :] = torch.tensor([rng.randint(3, VOCAB - 1) for _ in range(length)])
    return ids, (torch.arange(width) >= width - torch.tensor(lengths)[:, None]).long()


def ours(family: str, ids: Tensor, mask: Tensor | None = None, *, seed: int = 0, call: dict | None = None, **options):
    """Generate with our loop on the reference's weights."""
    model = reference(family, seed)
    config = GenerationConfig.from_model_config(model.config.to_dict()).with_options(**options)
    if family == "t5":
        start = torch.full((len(ids), 1), PAD)
        return generate(lambda most: Recomputed(model, start, mask, ids), start, config, **(call or {}))
    return generate(lambda most: Recomputed(model, ids, mask), ids, config, prompt_mask=mask, **(call or {}))


def theirs(family: str, ids: Tensor, mask: Tensor | None = None, *, seed: int = 0, call: dict | None = None, **options):
    """Generate with the reference."""
    model = reference(family, seed)
    mask = torch.ones_like(ids) if mask is None else mask
    return model.generate(input_ids=ids, attention_mask=mask, **options, **(call or {}))
