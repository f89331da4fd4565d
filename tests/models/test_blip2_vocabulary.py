"""Token embeddings, heads and start tokens of the BLIP-2 classes: where they are, and what resizing changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import onlooker
from tests.models.pairs import pair
from tests.tiny import VOCAB, blip2_config, pixels, prompt

HEADLESS = ["Blip2ForImageTextRetrieval", "Blip2TextModelWithProjection", "Blip2VisionModelWithProjection"]


@pytest.mark.parametrize("text", ["opt", "t5"])
def test_resizing_changes_embedding_head_and_text_config_and_keeps_their_tie(tmp_path: Path, text: str) -> None:
    model, _ = pair("Blip2ForConditionalGeneration", 3, text=text)
    ids = prompt(model.config, 2, 4)
    is_tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    wanted = model.generate(pixels(2), ids, max_new_tokens=4)
    embedding = model.resize_token_embeddings(VOCAB + 3, pad_to_multiple_of=16)
    assert embedding is model.get_input_embeddings()
    assert len(embedding.weight) == len(model.get_output_embeddings().weight) == model.config.text_config.vocab_size
    assert len(embedding.weight) == 48
    assert (model.get_output_embeddings().weight is embedding.weight) == is_tied
    model.save_pretrained(tmp_path)
    again = onlooker.Blip2ForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(again.generate(pixels(2), ids, max_new_tokens=4, suppress_tokens=list(range(VOCAB, 48))), wanted)


@pytest.mark.parametrize("name", HEADLESS[:2])
def test_resizing_a_class_that_reads_with_the_qformer_changes_its_config(tmp_path: Path, name: str) -> None:
    model, _ = pair(name, 3)
    model.resize_token_embeddings(VOCAB + 1)  # BERT's vocabulary and [DEC]
    model.save_pretrained(tmp_path)
    again = getattr(onlooker, name).from_pretrained(tmp_path)
    assert again.config.qformer_config.vocab_size == len(again.get_input_embeddings().weight) == VOCAB + 1


@pytest.mark.parametrize("name", HEADLESS)
def test_a_class_without_an_output_head_says_none_and_can_be_placed(tmp_path: Path, name: str) -> None:
    model, _ = pair(name, 3)
    assert model.get_output_embeddings() is None
    model.save_pretrained(tmp_path)
    again = getattr(onlooker, name).from_pretrained(tmp_path, device_map="auto")
    assert again.device == torch.device("cpu") or again.device.type == "cuda"


@pytest.mark.parametrize("text", ["opt", "t5"])
def test_the_start_token_of_no_prompt_may_be_given(text: str) -> None:
    values = blip2_config(3, text)
    model = onlooker.Blip2ForConditionalGeneration(onlooker.Blip2Config(**values)).eval()
    values["text_config"]["bos_token_id"] = 9
    other = onlooker.Blip2ForConditionalGeneration(onlooker.Blip2Config(**values)).eval()
    other.load_state_dict(model.state_dict())
    wanted = other.generate(pixels(1), max_new_tokens=4, output_scores=True, return_dict_in_generate=True)
    given = model.generate(
        pixels(1), max_new_tokens=4, output_scores=True, return_dict_in_generate=True, bos_token_id=9
    )
    assert torch.equal(torch.stack(given.scores), torch.stack(wanted.scores))
    model.generation_config.bos_token_id = 9
    assert torch.equal(model.generate(pixels(1), max_new_tokens=4), wanted.sequences)
