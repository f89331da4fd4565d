"""Every BLIP-2 class against transformers, forward and backward, on random tiny configurations."""

import random

import pytest
import torch
import transformers

import onlooker
from tests.compare import assert_close, assert_records_close
from tests.models.pairs import mask_of, pair, without_cross_distances
from tests.tiny import pixels, prompt, qformer_config, randomize, vision_config

SEEDS = range(10)
STATES = {"output_hidden_states": True, "output_attentions": True}


@pytest.mark.parametrize("seed", SEEDS)
def test_vision_tower(seed):
    values = vision_config(random.Random(seed))
    theirs_config = transformers.Blip2VisionConfig(**values, attn_implementation="eager")
    theirs = transformers.Blip2VisionModel(theirs_config).eval()
    randomize(theirs, seed)
    ours = onlooker.Blip2VisionModel(onlooker.Blip2VisionConfig(**values)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    options = {"pixel_values": pixels(2, seed), **STATES}
    names = ("last_hidden_state", "pooler_output", "attentions")
    got, wanted = ours(**options), theirs(**options)
    assert_records_close(got, wanted, names)
    # The last state is before the final norm, by contract; the reference of today lists fewer here.
    assert len(got.hidden_states) == values["num_hidden_layers"] + 1
    assert_close(ours.post_layernorm(got.hidden_states[-1]), wanted.last_hidden_state)
    for mine, other in zip(got.hidden_states, wanted.hidden_states[: values["num_hidden_layers"]]):
        assert_close(mine, other)


@pytest.mark.parametrize(("height", "width"), [(20, 20), (24, 24), (20, 40), (12, 20)])
def test_interpolated_positions(height, width):
    ours, theirs = (model.vision_model for model in pair("Blip2Model", 1))
    options = {"pixel_values": pixels(1, 0, height, width), "interpolate_pos_encoding": True}
    assert_close(ours(**options).last_hidden_state, theirs(**options).last_hidden_state)


def test_smaller_pictures_take_the_first_positions_as_the_reference_does():
    ours, theirs = (model.vision_model for model in pair("Blip2Model", 1))
    picture = pixels(1, 0, 10, 20)
    assert_close(ours(picture).last_hidden_state, theirs(picture).last_hidden_state)


@pytest.mark.parametrize("kind", ["absolute", "relative_key", "relative_key_query"])
@pytest.mark.parametrize("seed", range(3))
def test_qformer(kind, seed):
    values = qformer_config(random.Random(seed), position_embedding_type=kind, use_qformer_text_input=True)
    values["encoder_hidden_size"] = 12
    theirs = transformers.Blip2QFormerModel(transformers.Blip2QFormerConfig(**values)).eval()
    randomize(theirs, seed)
    without_cross_distances(theirs)
    ours = onlooker.Blip2QFormerModel(onlooker.Blip2QFormerConfig(**values)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    generator = torch.Generator().manual_seed(seed)
    source_mask, mask = torch.ones(2, 9), torch.ones(2, 7)
    source_mask[1, 5:], mask[0, 6:] = 0, 0
    options = {
        "query_embeds": torch.randn(2, 7, values["hidden_size"], generator=generator),
        "query_length": 4,
        "attention_mask": mask,
        "encoder_hidden_states": torch.randn(2, 9, 12, generator=generator),
        "encoder_attention_mask": source_mask,
        "head_mask": torch.rand(values["num_hidden_layers"], values["num_attention_heads"], generator=generator),
        **STATES,
    }
    got, wanted = ours(**options), theirs(**options)
    assert_records_close(got, wanted, ("last_hidden_state", "pooler_output", "hidden_states", "cross_attentions"))
    # The reference mixes cross-attentions into this field; ours lists self-attentions only.
    assert len(got.attentions) == values["num_hidden_layers"]
    assert got.attentions[0].shape == (2, values["num_attention_heads"], 7, 7)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["Blip2ForConditionalGeneration", "Blip2Model"])
def test_composites(name, seed):
    ours, theirs = pair(name, seed)
    ids = prompt(ours.config, 2, 5, seed)
    labels = ids.clone()
    labels[:, : ours.config.num_query_tokens + 1] = -100
    options = {"pixel_values": pixels(2, seed), "input_ids": ids, "labels": labels}
    got, wanted = ours(**options), theirs(**options)
    assert_records_close(got, wanted, ("loss", "logits"))
    assert_records_close(got.vision_outputs, wanted.vision_outputs, ("last_hidden_state", "pooler_output"))
    assert_records_close(got.qformer_outputs, wanted.qformer_outputs, ("last_hidden_state", "pooler_output"))
    assert_records_close(got.language_model_outputs, wanted.language_model_outputs, ("logits",))


@pytest.mark.parametrize("text", ["opt", "t5"])
@pytest.mark.parametrize("seed", range(3))
def test_gradients_of_every_parameter(text, seed):
    ours, theirs = pair("Blip2ForConditionalGeneration", seed, text=text)
    ids = prompt(ours.config, 2, 4, seed)
    for model in (ours, theirs):
        model(pixel_values=pixels(2, seed), input_ids=ids, labels=ids).loss.backward()
    wanted = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if wanted[name].grad is None:
            assert parameter.grad is None, name
        else:
            assert_close(parameter.grad, wanted[name].grad, tolerance=1e-4)


@pytest.mark.parametrize("text", ["opt", "t5"])
def test_fewer_labels_than_positions_score_the_last_ones(text):
    ours, theirs = pair("Blip2ForConditionalGeneration", 2, text=text)
    ids = prompt(ours.config, 2, 6)
    options = {"pixel_values": pixels(2), "input_ids": ids, "labels": ids[:, -4:].contiguous()}
    assert_records_close(ours(**options), theirs(**options), ("loss", "logits"))


@pytest.mark.parametrize("text", ["opt", "t5"])
def test_embeddings_in_place_of_ids(text):
    ours, theirs = pair("Blip2ForConditionalGeneration", 3, text=text)
    ids = prompt(ours.config, 2, 5)
    embeds = ours.get_input_embeddings()(ids)
    options = {"pixel_values": pixels(2), "decoder_input_ids": ids[:, -2:]}
    wanted = theirs(input_ids=ids, **options).logits
    assert_close(ours(inputs_embeds=embeds, **options).logits, wanted)


@pytest.mark.parametrize("text", ["opt", "t5"])
@pytest.mark.parametrize("seed", range(3))
def test_right_padded_batches(text, seed):
    ours, theirs = pair("Blip2ForConditionalGeneration", seed, text=text)
    ids = prompt(ours.config, 2, 6, seed)
    mask = mask_of(ids, 1, 3)
    options = {"pixel_values": pixels(2), "input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids[:, -2:]}
    keep = mask if text == "opt" else None
    assert_close(ours(**options).logits, theirs(**options).logits, keep=keep)


@pytest.mark.parametrize("placeholders", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_retrieval(seed, placeholders):
    options = {} if placeholders else {"image_token_index": None}
    ours, theirs = retrieval_pair("Blip2ForImageTextRetrieval", seed, **options)
    ids = torch.randint(4, 38, (3, 6), generator=torch.Generator().manual_seed(seed))
    mask = mask_of(ids, 1, 2)
    if placeholders:
        places = torch.full((3, ours.config.num_query_tokens), ours.config.image_token_index)
        ids, mask = torch.cat([places, ids], 1), torch.cat([torch.ones_like(places), mask], 1)
    for matching in (True, False):
        inputs = {"pixel_values": pixels(3, seed), "input_ids": ids, "attention_mask": mask}
        got = ours(**inputs, use_image_text_matching_head=matching)
        wanted = theirs(**inputs, use_image_text_matching_head=matching)
        assert got.loss is None
        assert_records_close(got, wanted, ("logits_per_image", "logits_per_text", "image_embeds"))
        if not matching:
            assert_close(got.text_embeds, wanted.text_embeds)
        assert_close(got.vision_model_output.last_hidden_state, wanted.vision_model_output.last_hidden_state)


@pytest.mark.parametrize("seed", range(4))
def test_projections_alone(seed):
    ours, theirs = retrieval_pair("Blip2TextModelWithProjection", seed)
    ids = torch.randint(4, 38, (2, 6), generator=torch.Generator().manual_seed(seed))
    mask = mask_of(ids, 0, 2)
    assert_close(ours(ids, mask).text_embeds, theirs(input_ids=ids, attention_mask=mask).text_embeds, keep=mask)
    ours, theirs = retrieval_pair("Blip2VisionModelWithProjection", seed)
    names = ("image_embeds", "last_hidden_state")
    assert_records_close(ours(pixels(2, seed)), theirs(pixel_values=pixels(2, seed)), names)


def retrieval_pair(name: str, seed: int, **options):
    text = {"use_qformer_text_input": True, "position_embedding_type": "absolute"}
    values = qformer_config(random.Random(seed), **text)
    return pair(name, seed, qformer_config=values, **options)


@pytest.mark.parametrize("text", ["opt", "t5"])
def test_feature_methods_of_blip2_model(text):
    ours, theirs = pair("Blip2Model", 5, text=text)
    ids = prompt(ours.config, 2, 5)
    texts = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if text == "t5":
        texts["decoder_input_ids"] = ids[:, -3:]
    picture = {"pixel_values": pixels(2)}
    with pytest.warns(UserWarning, match="Deprecation notice"):  # of the reference
        records = (
            (ours.get_text_features(**texts), theirs.get_text_features(**texts), ("logits",)),
            (ours.get_image_features(**picture), theirs.get_image_features(**picture), ("pooler_output",)),
            (ours.get_qformer_features(**picture), theirs.get_qformer_features(**picture), ("pooler_output",)),
        )
    for got, wanted, names in records:
        assert_records_close(got, wanted, names)
    newer = {"legacy_output": False}
    assert_close(ours.get_text_features(**texts, **newer), theirs.get_text_features(**texts, **newer))
    assert_close(ours.get_image_features(**picture, **newer), theirs.get_image_features(**picture, **newer))
    assert_close(ours.get_qformer_features(**picture, **newer), theirs.get_qformer_features(**picture, **newer))
