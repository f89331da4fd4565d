"""Prompt lookup gives the tokens of a plain run, in fewer forward passes."""

from __future__ import annotations

import random

import pytest
import torch

from onlooker.generate.lookup import Guesses
from onlooker.language.config import LlamaConfig, OPTConfig, T5Config
from onlooker.models.language import LlamaForCausalLM, OPTForCausalLM, T5ForConditionalGeneration
from tests.tiny import llama_config, opt_config, randomize, t5_config

CLASSES = {
    "opt": (OPTForCausalLM, OPTConfig, opt_config),
    "llama": (LlamaForCausalLM, LlamaConfig, llama_config),
    "t5": (T5ForConditionalGeneration, T5Config, t5_config),
}
WAYS = {
    "greedy": {},
    "penalties": {"repetition_penalty": 1.2, "no_repeat_ngram_size": 6, "min_new_tokens": 5},
    "sample": {"do_sample": True, "top_k": 3, "temperature": 0.7},
}
LOOP = torch.tensor([[5, 6, 7, 8, 5, 6, 7, 8, 5, 6]])


def model_of(family, seed=1):
    model_class, config_class, values = CLASSES[family]
    model = model_class(config_class(**values(random.Random(seed)))).eval()
    randomize(model, seed)
    return model


def passes(model, stack):
    """Counts forward passes of the decoder."""
    counted = []
    stack.register_forward_hook(lambda *_: counted.append(1))
    return counted


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", CLASSES)
def test_the_tokens_are_those_of_a_plain_run(family, way, seed):
    model = model_of(family)
    ids = LOOP if seed == 0 else torch.randint(4, 38, (1, 7), generator=torch.Generator().manual_seed(seed))
    options = {"max_new_tokens": 24, "return_dict_in_generate": True, "output_scores": True, **WAYS[way]}

    def run(**more):
        return model.generate(ids, generator=torch.Generator().manual_seed(seed), **options, **more)

    plain, ahead = run(), run(prompt_lookup_num_tokens=5, max_matching_ngram_size=1 + seed)
    assert ahead.sequences.tolist() == plain.sequences.tolist()
    for one, other in zip(ahead.scores, plain.scores):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_text_that_goes_round_takes_few_forward_passes():
    model = model_of("opt", 2)
    layers = passes(model, model.model.decoder)
    options = {"max_new_tokens": 40, "eos_token_id": None, "pad_token_id": 1}
    plain = model.generate(LOOP, **options)
    assert len(layers) == 40
    layers.clear()
    assert model.generate(LOOP, **options, prompt_lookup_num_tokens=8).tolist() == plain.tolist()
    assert len(layers) < 25, "greedy text of so small a model repeats itself"


def test_guesses_are_what_followed_last_and_may_repeat_themselves():
    assert Guesses([4, 5, 6, 9, 5, 6], 2, 40).next(3) == [9, 5, 6]
    assert Guesses([5, 1, 5, 2, 5], 2, 40).next(2) == [2, 5], "the later of two places"
    assert Guesses([7, 7], 2, 40).next(4) == [7, 7, 7, 7]
    assert Guesses([4, 5, 8, 5], 1, 40).next(3) == [8, 5, 8]
    assert Guesses([4, 5, 6], 2, 40).next(3) == []
    assert Guesses([5, 6, 99, 5], 1, 40).next(3) == [6], "a placeholder of a picture is no word"


def test_t5_looks_in_its_prompt_too():
    model = model_of("t5", 2)
    answer = model.generate(LOOP, max_new_tokens=12, eos_token_id=None)[0, 1:].tolist()
    ids = torch.tensor([[0, *answer]])  # as if the prompt held the answer
    stack = passes(model, model.decoder)
    plain = model.generate(ids, max_new_tokens=12, eos_token_id=None)
    alone = len(stack)
    stack.clear()
    assert (
        model.generate(ids, max_new_tokens=12, eos_token_id=None, prompt_lookup_num_tokens=4).tolist() == plain.tolist()
    )
    assert len(stack) < alone


def test_where_lookup_cannot_be_it_is_refused():
    model = model_of("opt")
    with pytest.raises(ValueError, match="2 prompts with 1 answers each: leave it out"):
        model.generate(LOOP.repeat(2, 1), prompt_lookup_num_tokens=3)
    with pytest.raises(ValueError, match="1 prompts with 2 answers each"):
        model.generate(LOOP, prompt_lookup_num_tokens=3, do_sample=True, num_return_sequences=2)
    with pytest.raises(ValueError, match="num_beams=2 for another way"):
        model.generate(LOOP, prompt_lookup_num_tokens=3, num_beams=2)
    with pytest.raises(ValueError, match="needs a cache"):
        model.generate(LOOP, prompt_lookup_num_tokens=3, use_cache=False)
    with pytest.raises(ValueError, match="prompt_lookup_num_tokens is 0"):
        model.generate(LOOP, prompt_lookup_num_tokens=0)
