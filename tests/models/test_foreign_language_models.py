"""Language models borrowed from transformers: the same BLIP-2 as in transformers itself."""

import importlib.util

import pytest
import torch
import transformers

import onlooker
from tests.compare import assert_close
from tests.tiny import blip2_config, pixels, prompt, randomize

TEXTS = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "qwen2": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "mt5": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "tie_word_embeddings": False},
}


def pair_of(text: str):
    tokens = {"vocab_size": 40, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 1, "decoder_start_token_id": 2}
    values = blip2_config(2, text_config={"model_type": text, **tokens, **TEXTS[text]})
    values["qformer_config"]["position_embedding_type"] = "absolute"
    theirs = transformers.Blip2ForConditionalGeneration(transformers.Blip2Config(**values)).eval()
    randomize(theirs, 2)
    ours = onlooker.Blip2ForConditionalGeneration(onlooker.Blip2Config(**values)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


@pytest.mark.parametrize("text", TEXTS)
def test_forward_and_loss(text):
    ours, theirs = pair_of(text)
    ids = prompt(ours.config, 2, 5)
    options = {"pixel_values": pixels(2), "input_ids": ids, "labels": ids}
    got, wanted = ours(**options), theirs(**options)
    assert_close(got.logits, wanted.logits)
    assert_close(got.loss, wanted.loss)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_generate(text, options):
    ours, theirs = pair_of(text)
    ids = prompt(ours.config, 2, 5)
    options = {"max_new_tokens": 8, **options}
    got = ours.generate(pixels(2), ids, **options)
    wanted = theirs.generate(pixel_values=pixels(2), input_ids=ids, **options)
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("text", ["gpt2", "qwen2"])
def test_padding_does_not_change_the_answer(text):
    ours, _ = pair_of(text)
    short, long = prompt(ours.config, 1, 3), prompt(ours.config, 1, 6)
    padded = torch.cat([short, torch.ones(1, 3, dtype=torch.long)], 1)
    mask = (padded != 1).long()
    batch = ours.generate(pixels(2), torch.cat([padded, long]), torch.cat([mask, torch.ones_like(mask)]))
    alone = ours.generate(pixels(2)[:1], short)
    got, wanted = batch[0, padded.shape[1] :], alone[0, short.shape[1] :]
    assert torch.equal(got[: len(wanted)], wanted)


@pytest.mark.parametrize("text", TEXTS)
def test_checkpoints_go_both_ways(text, tmp_path):
    ours, theirs = pair_of(text)
    ids = prompt(ours.config, 2, 4)
    options = {"pixel_values": pixels(2), "input_ids": ids, "labels": ids}
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = onlooker.Blip2ForConditionalGeneration.from_pretrained(tmp_path / "theirs")
    assert_close(loaded(**options).logits, theirs(**options).logits)
    loaded.save_pretrained(tmp_path / "ours")
    back = transformers.Blip2ForConditionalGeneration.from_pretrained(tmp_path / "ours")
    assert_close(back(**options).logits, theirs(**options).logits)


def test_without_transformers_the_error_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "transformers" else find(name))
    with pytest.raises(ValueError, match=r"model_type 'gpt2'.*pip install 'onlooker\[transformers\]'"):
        onlooker.Blip2Config(text_config={"model_type": "gpt2"})
