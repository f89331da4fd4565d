"""Our own language models with their caches, against the reference on the same weights."""

from __future__ import annotations

import functools
import random

import pytest
import torch
import transformers

from onlooker.generate.config import GenerationConfig
from onlooker.generate.loop import generate
from onlooker.language.config import OPTConfig, T5Config
from onlooker.models.language import OPTForCausalLM, T5ForConditionalGeneration
from tests.tiny import opt_config, t5_config

WAYS = {
    "greedy": {},
    "penalties": {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "min_new_tokens": 4},
    "beams": {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 0.5},
    "beams-early": {"num_beams": 3, "early_stopping": True, "repetition_penalty": 1.3},
    "beams-never": {"num_beams": 2, "early_stopping": "never", "length_penalty": 2.0},
    "sample": {"do_sample": True, "num_return_sequences": 2, "top_k": 8, "top_p": 0.9, "temperature": 1.5},
}


@functools.lru_cache(None)
def pair(family, seed):
    torch.manual_seed(seed)
    if family == "opt":
        values = opt_config(random.Random(seed))
        theirs = transformers.OPTForCausalLM(transformers.OPTConfig(**values)).eval()
        ours = OPTForCausalLM(OPTConfig(**values)).eval()
    else:
        values = t5_config(random.Random(seed)) | {"decoder_start_token_id": 0}
        values["num_decoder_layers"] = values["num_layers"]  # the reference's cache mixes the two numbers up
        theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(**values)).eval()
        ours = T5ForConditionalGeneration(T5Config(**values)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=False)
    return ours, theirs


def run(model, ids, mask, use_cache=True, **options):
    config = GenerationConfig.from_model_config(model.config).with_options(**options)
    embeds = model.get_input_embeddings()(ids)
    if isinstance(model, OPTForCausalLM):
        begin = lambda most: model.begin(embeds, mask, most, use_cache=use_cache)  # noqa: E731
        return generate(begin, ids, config, prompt_mask=mask)
    start = torch.zeros(len(ids), 1, dtype=torch.long)
    begin = lambda most: model.begin(embeds, mask, most, use_cache=use_cache, decoder_input_ids=start)  # noqa: E731
    return generate(begin, start, config)


def batch(seed, width=6):
    rng = random.Random(seed)
    lengths = [width, rng.randint(2, width), rng.randint(2, width)]
    mask = (torch.arange(width) >= width - torch.tensor(lengths)[:, None]).long()
    ids = torch.tensor([[rng.randint(4, 37) for _ in range(width)] for _ in lengths])
    return ids.masked_fill(mask == 0, 1), mask


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("family", ["opt", "t5"])
def test_ids_are_the_references(family, seed, way):
    ours, theirs = pair(family, seed)
    ids, mask = batch(seed)
    if way in ("penalties", "beams-early"):
        ids, mask = ids[:, -2:], torch.ones_like(ids[:, -2:])  # its penalties see pads
        ids = ids.masked_fill(ids == 1, 9)
    options = {
        "max_new_tokens": 9,
        "eos_token_id": [3, 11],
        "pad_token_id": 2,
        **WAYS[way],
    }  # its beams do not fill with 0
    torch.manual_seed(7)
    want = theirs.generate(input_ids=ids, attention_mask=mask, **options)
    torch.manual_seed(7)
    assert run(ours, ids, mask, **options).tolist() == want.tolist()


@pytest.mark.parametrize("way", [*WAYS, "contrastive"])
@pytest.mark.parametrize("family", ["opt", "t5"])
def test_without_a_cache_and_for_a_row_alone_the_tokens_are_the_same(family, way):
    ours, _ = pair(family, 1)
    ids, mask = batch(3)
    options = {"max_new_tokens": 8, "eos_token_id": [3, 11]}
    options |= WAYS.get(way, {"penalty_alpha": 0.6, "top_k": 4})

    def seeded(*arguments, **more):
        torch.manual_seed(3)
        return run(*arguments, **more, **options)

    cached = seeded(ours, ids, mask)
    assert cached.tolist() == seeded(ours, ids, mask, use_cache=False).tolist()
    if way == "sample":
        return  # one stream of random numbers for the batch: see test_rows.py for one each
    each = options.get("num_return_sequences", 1)
    width = ids.shape[1] if family == "opt" else 1
    for row in range(len(ids)):
        kept = mask[row].bool()
        alone = run(ours, ids[row : row + 1, kept], None, **options)
        new = alone[:, int(kept.sum()) if family == "opt" else 1 :]
        assert cached[row * each : (row + 1) * each, width : width + new.shape[1]].tolist() == new.tolist()


def test_half_precision_logits_are_filtered_and_summed_in_single():
    ours, _ = pair("opt", 0)
    ids, mask = batch(0)
    half = OPTForCausalLM(ours.config).eval().to(torch.bfloat16)
    half.load_state_dict(ours.state_dict())
    for options in WAYS.values():
        out = run(half, ids, mask, max_new_tokens=6, return_dict_in_generate=True, output_scores=True, **options)
        assert all(step.dtype == torch.float32 for step in out.scores)


@pytest.mark.parametrize("beams", [1, 3])
def test_embeddings_with_a_mask_and_without_ids_are_continued(beams):
    ours, theirs = pair("opt", 3)
    embeds = theirs.get_input_embeddings()(torch.randint(4, 38, (2, 7), generator=torch.Generator().manual_seed(0)))
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]])
    given = {"inputs_embeds": embeds.detach(), "attention_mask": mask, "max_new_tokens": 6, "num_beams": beams}
    assert ours.generate(**given).tolist() == theirs.generate(**given, do_sample=False).tolist()
