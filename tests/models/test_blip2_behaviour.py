"""What BLIP-2 promises beyond equal numbers: placeholders, padding, records, configurations, training."""

import json

import pytest
import torch

import onlooker
from tests.compare import assert_close
from tests.models.pairs import pair
from tests.tiny import IMAGE_TOKEN, blip2_config, pixels, prompt, randomize


def model_of(seed: int = 1, name: str = "Blip2ForConditionalGeneration", **options):
    model = getattr(onlooker, name)(onlooker.Blip2Config(**blip2_config(seed, **options))).eval()
    randomize(model, seed)
    return model


def text_inputs(model, rows: int = 2, length: int = 5):
    ids = prompt(model.config, rows, length)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": ids[:, -2:]}


# -- placeholders --------------------------------------------------------------------------------------------------


def test_placeholders_may_stand_anywhere():
    model = model_of(text="opt", num_query_tokens=3)
    ids = torch.tensor([[5, IMAGE_TOKEN, 6, IMAGE_TOKEN, IMAGE_TOKEN, 7]])
    features = model.get_image_features(pixels(1))
    embeds = model.get_input_embeddings()(ids)
    embeds[0, [1, 3, 4]] = features[0]
    assert_close(model(pixels(1), ids).logits, model.language_model(inputs_embeds=embeds).logits)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_row_with_another_number_of_placeholders_is_refused(count):
    model = model_of(num_query_tokens=3)
    ids = torch.full((2, 6), 5)
    ids[0, :3], ids[1, :count] = IMAGE_TOKEN, IMAGE_TOKEN
    with pytest.raises(ValueError, match=f"row 1 of the batch has {count} <image> tokens, .* 3 features"):
        model(pixels(2), ids, decoder_input_ids=ids[:, :1])


def test_totals_that_match_while_rows_do_not_are_refused():
    model = model_of(num_query_tokens=3)
    ids = torch.full((2, 6), 5)
    ids[0, :2], ids[1, :4] = IMAGE_TOKEN, IMAGE_TOKEN
    with pytest.raises(ValueError, match="row 0 of the batch has 2"):
        model(pixels(2), ids, decoder_input_ids=ids[:, :1])


@pytest.mark.parametrize("call", ["forward", "generate"])
def test_two_pictures_for_one_prompt_are_refused(call):
    model = model_of()
    with pytest.raises(
        ValueError, match="2 pictures for 1 prompts: this family takes one picture or clip for each prompt"
    ):
        getattr(model, call)(pixels(2), prompt(model.config, 1, 4))


@pytest.mark.parametrize("index", [IMAGE_TOKEN, None])
@pytest.mark.parametrize("text", ["opt", "t5"])
def test_a_prompt_without_placeholders_gets_the_picture_in_front_with_one_warning(text, index):
    model = model_of(text=text)
    inputs, count = text_inputs(model), model.config.num_query_tokens
    wanted = model(pixels(2), **inputs)
    model.config.image_token_index = index
    bare = {**inputs, "input_ids": inputs["input_ids"][:, count:], "attention_mask": None}
    with pytest.warns(UserWarning, match="its features are put in front of the text") as caught:
        got = model(pixels(2), **bare)
    assert len(caught) == 1
    assert_close(got.logits, wanted.logits)


@pytest.mark.parametrize("text", ["opt", "t5"])
def test_without_placeholders_the_returned_ids_are_those_of_the_placeholder_run_without_them(text):
    model = model_of(text=text)
    ids, count = prompt(model.config, 2, 5), model.config.num_query_tokens
    wanted = model.generate(pixels(2), ids, max_new_tokens=6)
    with pytest.warns(UserWarning, match="in front of the text"):
        got = model.generate(pixels(2), ids[:, count:], max_new_tokens=6)
    assert torch.equal(got, wanted[:, count:] if text == "opt" else wanted)


# -- padding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["left", "right", "between"])
@pytest.mark.parametrize("text", ["opt", "t5"])
def test_padding_changes_neither_forward_nor_loss_nor_generate(text, place):
    model = model_of(2, text=text)
    count = model.config.num_query_tokens
    alone = prompt(model.config, 1, 4)
    pads = torch.full((1, 3), 1)
    at = {"left": 0, "right": alone.shape[1], "between": count}[place]
    padded = torch.cat([alone[:, :at], pads, alone[:, at:]], 1)
    mask = torch.cat([torch.ones_like(alone[:, :at]), torch.zeros_like(pads), torch.ones_like(alone[:, at:])], 1)
    other = prompt(model.config, 1, 7, seed=3)
    pictures = pixels(2)
    labels = torch.cat([other, padded]) if text == "opt" else other[:, :3].expand(2, -1)
    batch = {
        "pixel_values": pictures,
        "input_ids": torch.cat([other, padded]),
        "attention_mask": torch.cat([torch.ones_like(mask), mask]),
        "decoder_input_ids": None if text == "opt" else labels,
    }
    single = {"pixel_values": pictures[1:], "input_ids": alone, "decoder_input_ids": batch["decoder_input_ids"]}
    if text == "t5":
        single["decoder_input_ids"] = labels[1:]
    got, wanted = model(**batch).logits[1], model(**single).logits[0]
    assert_close(got[mask[0].bool()] if text == "opt" else got, wanted)
    row = {name: None if value is None else value[1:] for name, value in batch.items()}
    assert_close(
        model(**row, labels=labels[1:]).loss, model(**single, labels=alone if text == "opt" else labels[1:]).loss
    )
    for options in ({}, {"num_beams": 3}, {"repetition_penalty": 1.5}):
        options |= {"max_new_tokens": 8}
        got = model.generate(pictures, batch["input_ids"], batch["attention_mask"], **options)[1:]
        wanted = model.generate(pictures[1:], alone, **options)
        start = (padded.shape[1], alone.shape[1]) if text == "opt" else (0, 0)
        got, wanted = got[0, start[0] :], wanted[0, start[1] :]
        assert torch.equal(got[: len(wanted)], wanted)
        assert (got[len(wanted) :] == model.config.text_config.pad_token_id).all()


def test_left_padded_texts_match_as_the_text_alone():
    model = model_of(3, "Blip2ForImageTextRetrieval", image_token_index=None)
    model.config.qformer_config.use_qformer_text_input = True
    values = blip2_config(3, image_token_index=None)
    values["qformer_config"] |= {"use_qformer_text_input": True}
    model = onlooker.Blip2ForImageTextRetrieval(onlooker.Blip2Config(**values)).eval()
    randomize(model, 3)
    words = torch.tensor([[7, 9, 11]])
    padded, mask = torch.tensor([[0, 0, 7, 9, 11]]), torch.tensor([[0, 0, 1, 1, 1]])
    for matching in (True, False):
        got = model(pixels(1), padded, mask, use_image_text_matching_head=matching)
        wanted = model(pixels(1), words, use_image_text_matching_head=matching)
        assert_close(got.logits_per_image, wanted.logits_per_image)


def test_the_matching_head_wants_one_text_for_each_picture():
    model = model_of(3, "Blip2ForImageTextRetrieval", image_token_index=None)
    with pytest.raises(ValueError, match="2 pictures and 3 texts"):
        model(pixels(2), torch.full((3, 4), 5), use_image_text_matching_head=True)


@pytest.mark.parametrize("rows", [[3, 0], [2, 2]])
def test_retrieval_refuses_texts_of_which_some_have_placeholders_in_front(rows):
    model = model_of(3, "Blip2ForImageTextRetrieval", num_query_tokens=3)
    texts = torch.tensor([[IMAGE_TOKEN] * count + [5] * (6 - count) for count in rows])
    with pytest.raises(ValueError, match=f"begin with {rows[0]}, {rows[1]} <image> tokens; wanted 3"):
        model(pixels(2), texts)


# -- generation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["opt", "t5"])
@pytest.mark.parametrize("seed", range(3))
def test_generate_gives_the_tokens_of_the_reference(text, seed):
    ours, theirs = pair("Blip2ForConditionalGeneration", seed, text=text)
    ids = prompt(ours.config, 2, 5, seed)
    for options in (
        {},
        {"max_new_tokens": 12},
        {"max_length": 22},
        {"num_beams": 4, "max_new_tokens": 9, "num_return_sequences": 2, "length_penalty": 0.7},
        {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "min_new_tokens": 4},
    ):
        options["pad_token_id"] = 1  # the reference fills finished beams with eos where pad is 0
        got = ours.generate(pixels(2, seed), ids, **options)
        wanted = theirs.generate(pixel_values=pixels(2, seed), input_ids=ids, **options)
        assert torch.equal(got, wanted), options


@pytest.mark.parametrize("text", ["opt", "t5"])
def test_no_prompt_captions_as_the_reference_does(text):
    ours, theirs = pair("Blip2ForConditionalGeneration", 4, text=text)
    got = ours.generate(pixels(2), max_new_tokens=6)
    assert torch.equal(got, theirs.generate(pixel_values=pixels(2), max_new_tokens=6))


def test_no_prompt_without_a_bos_token_is_refused():
    model = model_of(text="t5")
    model.config.text_config.bos_token_id = None
    with pytest.raises(ValueError, match="no bos_token_id"):
        model.generate(pixels(1))


def test_embeddings_only_return_new_tokens_only():
    model = model_of(text="opt")
    ids = prompt(model.config, 2, 4)
    wanted = model.generate(pixels(2), ids, max_new_tokens=5)[:, ids.shape[1] :]
    got = model.generate(pixels(2), inputs_embeds=model.get_input_embeddings()(ids), max_new_tokens=5)
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("text", ["opt", "t5"])
def test_no_cache_gives_the_same_tokens(text):
    model = model_of(5, text=text)
    ids = prompt(model.config, 2, 4)
    for options in ({}, {"num_beams": 3}):
        got = model.generate(pixels(2), ids, max_new_tokens=7, use_cache=False, **options)
        assert torch.equal(got, model.generate(pixels(2), ids, max_new_tokens=7, **options))


@pytest.mark.parametrize("text", ["opt", "t5"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 1), (1, 8)])
def test_a_mask_of_another_shape_is_refused(text, shape):
    model = model_of(text=text)
    ids = prompt(model.config, 2, 4)
    decoder = {"decoder_input_ids": torch.zeros(2, 1, dtype=torch.long)} if text == "t5" else {}
    with pytest.raises(ValueError, match="wanted"):
        model.generate(pixels(2), ids, torch.ones(shape, dtype=torch.long), max_new_tokens=2)
    with pytest.raises(ValueError, match="wanted"):
        model(pixels(2), ids, torch.ones(shape, dtype=torch.long), **decoder)


def test_ids_and_embeddings_of_different_length_are_refused():
    model = model_of(text="opt")
    ids = prompt(model.config, 2, 4)
    with pytest.raises(ValueError, match="different length"):
        model.generate(pixels(2), ids, inputs_embeds=model.get_input_embeddings()(ids[:, :-1]))


def test_edits_of_generation_config_are_honoured():
    model = model_of(text="opt")
    ids = prompt(model.config, 1, 4)
    model.generation_config.max_new_tokens = 3
    model.generation_config.eos_token_id = None
    assert model.generate(pixels(1), ids).shape[1] == ids.shape[1] + 3


def test_generation_settings_come_from_the_text_configuration():
    values = blip2_config(1, "opt")
    values["text_config"] |= {"num_beams": 3, "eos_token_id": 7}
    model = onlooker.Blip2ForConditionalGeneration(onlooker.Blip2Config(**values))
    assert model.generation_config.num_beams == 3
    assert model.generation_config.eos_token_id == 7


def test_a_prompt_as_long_as_max_length_is_refused():
    model = model_of(text="opt")
    ids = prompt(model.config, 1, 4)
    with pytest.raises(ValueError, match="max_length"):
        model.generate(pixels(1), ids, max_length=ids.shape[1])


# -- records -------------------------------------------------------------------------------------------------------


def test_options_reach_all_three_parts_and_records_become_tuples():
    model = model_of(text="opt")
    inputs = text_inputs(model)
    out = model(pixels(2), **inputs, output_attentions=True, output_hidden_states=True)
    for part in (out.vision_outputs, out.qformer_outputs, out.language_model_outputs):
        assert part.attentions is not None
        assert part.hidden_states is not None
    assert out[0] is out.logits  # no loss, so it is not counted
    assert list(out.keys())[0] == "logits"
    assert out["vision_outputs"] is out.vision_outputs
    as_tuple = model(pixels(2), **inputs, return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert isinstance(as_tuple[1], tuple)  # vision outputs
    assert_close(as_tuple[0], out.logits)
    model.config.output_hidden_states = True
    assert model(pixels(2), **inputs).vision_outputs.hidden_states is not None


def test_image_features_unpack_as_the_documented_tuple():
    model = model_of()
    record = model.get_image_features(pixels(2), return_dict=True)
    tokens, vision, qformer = record
    assert tokens is record.pooler_output
    assert vision.last_hidden_state.shape[0] == qformer.last_hidden_state.shape[0] == 2
    assert_close(model.get_image_features(pixels(2)), tokens)


def test_text_features_give_a_tuple_and_a_loss():
    model = model_of(name="Blip2Model", text="opt")
    ids = prompt(model.config, 2, 4)
    record = model.get_text_features(ids, labels=ids, token_type_ids=ids)
    assert record.loss is not None
    as_tuple = model.get_text_features(ids, labels=ids, return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert_close(as_tuple[1], record.logits)


# -- refusals ------------------------------------------------------------------------------------------------------


def test_missing_pictures_and_wrong_shapes_are_refused():
    model = model_of()
    with pytest.raises(ValueError, match="pixel_values is missing"):
        model(None, prompt(model.config, 1, 3))
    with pytest.raises(ValueError, match=r"wanted \[N, 3, height, width\]"):
        model(pixels(2)[0], prompt(model.config, 1, 3))
    with pytest.raises(ValueError, match="interpolate_pos_encoding=True"):
        model(pixels(1, 0, 40, 40), prompt(model.config, 1, 3))


def test_queries_without_a_picture_and_text_without_text_layers_are_refused():
    values = blip2_config(1)["qformer_config"] | {"use_qformer_text_input": False}
    qformer = onlooker.Blip2QFormerModel(onlooker.Blip2QFormerConfig(**values))
    x = torch.zeros(1, 3, values["hidden_size"])
    with pytest.raises(ValueError, match="encoder_hidden_states is missing"):
        qformer(x)
    with pytest.raises(ValueError, match="without text layers"):
        qformer(x, query_length=0)


def test_narrow_opt_embeddings_are_refused():
    values = blip2_config(1, "opt")
    values["text_config"]["word_embed_proj_dim"] = values["text_config"]["hidden_size"] + 1
    with pytest.raises(ValueError, match="the two must be equal"):
        onlooker.Blip2ForConditionalGeneration(onlooker.Blip2Config(**values))


# -- configurations ------------------------------------------------------------------------------------------------


def test_defaults_are_the_documented_ones():
    config = onlooker.Blip2Config()
    assert config.vision_config.hidden_size == 1408
    assert config.qformer_config.encoder_hidden_size == 1408
    assert config.text_config.model_type == "opt"
    assert config.num_query_tokens == 32
    assert config.image_token_index is None
    assert config.use_decoder_only_language_model
    assert not config.is_encoder_decoder
    t5 = onlooker.Blip2Config(text_config={"model_type": "t5"})
    assert t5.is_encoder_decoder
    assert not t5.use_decoder_only_language_model


def test_the_width_of_the_vision_tower_always_reaches_the_qformer():
    config = onlooker.Blip2Config(vision_config={"hidden_size": 32}, qformer_config={"encoder_hidden_size": 99})
    assert config.qformer_config.encoder_hidden_size == 32


@pytest.mark.parametrize("name", ["from_vision_qformer_text_configs", "from_text_vision_configs"])
def test_composites_of_three_configurations(name):
    parts = onlooker.Blip2VisionConfig(hidden_size=32), onlooker.Blip2QFormerConfig(), onlooker.T5Config(d_model=8)
    config = getattr(onlooker.Blip2Config, name)(*parts, num_query_tokens=7)
    assert config.vision_config == parts[0]
    assert config.text_config.d_model == 8
    assert config.num_query_tokens == 7
    assert parts[1].encoder_hidden_size == 1408  # what was handed in is not changed


def test_unknown_keys_and_aliases_survive_a_file(tmp_path):
    config = onlooker.Blip2Config(image_token_id=9, colour="red", torch_dtype=torch.float16)
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["image_token_index"] == 9
    assert written["colour"] == "red"
    assert written["torch_dtype"] == "float16"
    again = onlooker.Blip2Config.from_pretrained(tmp_path, num_query_tokens=3)
    assert (again.image_token_id, again.colour, again.dtype, again.num_query_tokens) == (9, "red", torch.float16, 3)
    assert onlooker.Blip2VisionConfig.from_pretrained(tmp_path) == config.vision_config
    assert onlooker.AutoConfig.from_pretrained(tmp_path).model_type == "blip-2"


# -- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("text", ["opt", "t5"])
def test_it_learns_one_answer(text, checkpointing):
    torch.manual_seed(0)
    model = model_of(6, text=text)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    ids = prompt(model.config, 2, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        loss = model(pixels(2), ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_gradient_checkpointing_gives_the_same_gradients():
    model = model_of(6, text="opt")
    ids = prompt(model.config, 2, 4)
    gradients = []
    for enable in (model.gradient_checkpointing_disable, model.gradient_checkpointing_enable):
        enable()
        model.train()
        torch.manual_seed(1)
        model.zero_grad()
        model(pixels(2), ids, labels=ids).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients):
        assert_close(one, other)
