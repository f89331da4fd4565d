"""Video-LLaVA: equal to transformers where that is right, and right where it is not."""

import random

import pytest
import torch
import transformers

import onlooker
from tests.compare import assert_close, assert_records_close
from tests.models.pairs import video_llava_pair
from tests.tiny import IMAGE_TOKEN, VIDEO_TOKEN, clip_config, clips, pixels, randomize, video_llava_config

SEEDS = range(12)
PATCHES = 4


def image_tokens(model) -> list[int]:
    return [IMAGE_TOKEN] * (PATCHES + (model.config.vision_feature_select_strategy == "full"))


def video_tokens(frames: int) -> list[int]:
    return [VIDEO_TOKEN] * (frames * (PATCHES + 1))


def mixed_inputs(model, seed: int = 0) -> dict:
    """Two rows, each with a picture and a clip, in another order."""
    image, video = image_tokens(model), video_tokens(3)
    ids = torch.tensor([[2, 5, *image, 7, 8, *video, 9], [2, *video, 6, 6, 11, *image, 12]])
    return {"input_ids": ids, "pixel_values_images": pixels(2, seed), "pixel_values_videos": clips(2, 3, seed)}


@pytest.mark.parametrize("seed", range(4))
def test_vision_tower(seed):
    values = clip_config(random.Random(seed))
    theirs = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**values, attn_implementation="eager")).eval()
    randomize(theirs, seed)
    ours = onlooker.CLIPVisionModel(onlooker.CLIPVisionConfig(**values)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    options = {"pixel_values": pixels(2, seed), "output_hidden_states": True, "output_attentions": True}
    names = ("last_hidden_state", "pooler_output", "hidden_states", "attentions")
    assert_records_close(ours(**options), theirs(**options), names)
    with pytest.raises(ValueError, match="24 x 20 pixels; this tower takes 20 x 20"):
        ours(pixels(1, 0, 24, 20))


@pytest.mark.parametrize("seed", SEEDS)
def test_pictures_and_clips_in_one_batch_equal_the_reference(seed):
    ours, theirs = video_llava_pair("VideoLlavaForConditionalGeneration", seed)
    inputs = mixed_inputs(ours, seed)
    options = {"labels": inputs["input_ids"], "output_hidden_states": True, "output_attentions": True}
    got, wanted = ours(**inputs, **options), theirs(**inputs, **options)
    names = ("loss", "logits", "hidden_states", "attentions", "image_hidden_states", "video_hidden_states")
    assert_records_close(got, wanted, names)
    for options in ({}, {"num_beams": 3, "num_return_sequences": 2}, {"repetition_penalty": 1.3}):
        options |= {"max_new_tokens": 8}
        assert torch.equal(ours.generate(**inputs, **options), theirs.generate(**inputs, **options))


@pytest.mark.parametrize("seed", range(3))
def test_the_model_without_a_head_equals_the_reference(seed):
    ours, theirs = video_llava_pair("VideoLlavaModel", seed)
    inputs = mixed_inputs(ours, seed)
    names = ("last_hidden_state", "image_hidden_states", "video_hidden_states")
    assert_records_close(ours(**inputs), theirs(**inputs), names)
    got, frames = ours.get_video_features(inputs["pixel_values_videos"])
    wanted, count = theirs.get_video_features(inputs["pixel_values_videos"])
    assert frames == count == 3
    assert_close(got, wanted)
    for strategy in ("default", "full"):
        options = {"vision_feature_layer": [-1, 0], "vision_feature_select_strategy": strategy}
        if ours.multi_modal_projector.linear_1.in_features == 2 * ours.config.vision_config.hidden_size:
            got = ours.get_image_features(pixels(2), **options)
            assert_close(got, theirs.get_image_features(pixels(2), **options))


@pytest.mark.parametrize("seed", range(3))
def test_gradients_equal_the_reference(seed):
    ours, theirs = video_llava_pair("VideoLlavaForConditionalGeneration", seed)
    inputs = mixed_inputs(ours, seed)
    for model in (ours, theirs):
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
    wanted = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if wanted[name].grad is not None:
            assert_close(parameter.grad, wanted[name].grad, tolerance=1e-4)


def test_layers_that_nobody_reads_are_not_run():
    model, _ = video_llava_pair("VideoLlavaModel", 0, vision_feature_layer=-2)
    ran = []
    for number, layer in enumerate(model.image_tower.vision_model.encoder.layers):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    model.get_image_features(pixels(1))
    count = model.config.vision_config.num_hidden_layers
    assert ran == list(range(count - 1))


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 16])
def test_any_number_of_frames_and_clips_of_unequal_length(frames):
    """Each row of a ragged batch equals the row alone; every frame reaches the answer."""
    model, _ = video_llava_pair("VideoLlavaForConditionalGeneration", 1)
    short, long = clips(1, 2, 5)[0], clips(1, frames, 6)[0]
    rows = [[2, 5, *video_tokens(2), 7], [2, *video_tokens(frames), 9, 11]]
    longest = max(map(len, rows))
    ids = torch.tensor([[1] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    got = model(ids, pixel_values_videos=[short, long], attention_mask=mask)
    tokens = model.generate(ids, pixel_values_videos=[short, long], attention_mask=mask, max_new_tokens=5)
    for row, clip in enumerate((short, long)):
        alone = torch.tensor([rows[row]])
        assert_close(got.logits[row, -1], model(alone, pixel_values_videos=clip[None]).logits[0, -1])
        wanted = model.generate(alone, pixel_values_videos=clip[None], max_new_tokens=5)[0, len(rows[row]) :]
        assert torch.equal(tokens[row, longest:][: len(wanted)], wanted)
    changed = long.clone()
    changed[-1] += 1.0
    other = model(ids, pixel_values_videos=[short, changed], attention_mask=mask).logits[:, -1]
    assert (other[1] - got.logits[1, -1]).abs().max() > 1e-6, "the last frame does not reach the answer"


@pytest.mark.parametrize("place", ["left", "right", "between"])
def test_padding_does_not_change_the_answer(place):
    model, _ = video_llava_pair("VideoLlavaForConditionalGeneration", 2)
    row = [2, 5, *image_tokens(model), 7, *video_tokens(2), 9, 11]
    at = {"left": 0, "right": len(row), "between": 2 + len(image_tokens(model))}[place]
    ids = torch.tensor([row[:at] + [1] * 4 + row[at:]])
    mask = torch.tensor([[1] * at + [0] * 4 + [1] * (len(row) - at)])
    media = {"pixel_values_images": pixels(1), "pixel_values_videos": clips(1, 2)}
    alone = torch.tensor([row])
    wanted = model(alone, **media, labels=alone)
    got = model(ids, **media, attention_mask=mask, labels=ids)
    assert_close(got.logits[mask.bool()], wanted.logits[0])
    assert_close(got.loss, wanted.loss)
    for options in ({}, {"num_beams": 3}):
        got = model.generate(ids, **media, attention_mask=mask, max_new_tokens=6, **options)
        wanted = model.generate(alone, **media, max_new_tokens=6, **options)
        assert torch.equal(got[0, ids.shape[1] :], wanted[0, len(row) :])


def test_several_media_in_one_prompt_go_in_order():
    model, _ = video_llava_pair("VideoLlavaForConditionalGeneration", 3)
    image = image_tokens(model)
    ids = torch.tensor([[2, *image, 5, *image, 6]])
    got = model(ids, pixel_values_images=pixels(2)).logits
    swapped = model(ids, pixel_values_images=pixels(2).flip(0)).logits
    assert (got - swapped).abs().max() > 1e-4
    embeds = model.get_input_embeddings()(ids)
    features = model.get_image_features(pixels(2))
    embeds[0, ids[0] == IMAGE_TOKEN] = features.flatten(0, 1)
    assert_close(model(inputs_embeds=embeds).logits, got)


def test_what_does_not_fit_is_refused():
    model, _ = video_llava_pair("VideoLlavaForConditionalGeneration", 3)
    image = image_tokens(model)
    whole = torch.tensor([[2, *image, 5], [2, *image, 6]])
    with pytest.raises(
        ValueError, match=f"have {2 * len(image)} <image> tokens, and the 3 pictures .* give {3 * len(image)}"
    ):
        model(whole, pixel_values_images=pixels(3))
    split = torch.tensor([[2, *image[:-1], 5, 6, 7], [2, IMAGE_TOKEN, *image, 6]])
    with pytest.raises(ValueError, match="a picture would be split between rows"):
        model(split, pixel_values_images=pixels(2))
    with pytest.raises(ValueError, match="exactly one of input_ids or inputs_embeds"):
        model(pixel_values_images=pixels(1))
    with pytest.raises(ValueError, match="'middle'; it may be 'default' or 'full'"):
        model.get_image_features(pixels(1), vision_feature_select_strategy="middle")
    with pytest.raises(ValueError, match="vision_feature_layer 9 does not exist"):
        model.get_image_features(pixels(1), vision_feature_layer=9)
    with pytest.raises(ValueError, match=r"a clip has shape \(3, 20, 20\)"):
        model.get_video_features(pixels(2))
    with pytest.raises(ValueError, match="'llama' here, not 'opt'"):
        onlooker.VideoLlavaConfig(text_config={"model_type": "opt"})
    with pytest.raises(ValueError, match="it may be 'default' or 'full'"):
        onlooker.VideoLlavaConfig(vision_feature_select_strategy="some")


def test_a_prompt_without_placeholders_gets_its_picture_in_front():
    model, _ = video_llava_pair("VideoLlavaForConditionalGeneration", 3)
    words = torch.tensor([[5, 6, 7]])
    image = torch.tensor([[*image_tokens(model), 5, 6, 7]])
    with pytest.warns(UserWarning, match="put in front of the text"):
        got = model(words, pixel_values_images=pixels(1))
    assert_close(got.logits, model(image, pixel_values_images=pixels(1)).logits)


def test_pictures_and_clips_in_front_are_told_once():
    model, _ = video_llava_pair("VideoLlavaForConditionalGeneration", 3)
    words, media = [5, 6, 7], {"pixel_values_images": pixels(1), "pixel_values_videos": clips(1, 2)}
    with pytest.warns(UserWarning, match="Write <image> and <video> where it belongs") as told:
        got = model(torch.tensor([words]), **media)
    assert len(told) == 1
    written = torch.tensor([[*video_tokens(2), *image_tokens(model), *words]])
    assert_close(got.logits, model(written, **media).logits)


def test_places_for_one_kind_only_do_not_take_the_other():
    model, _ = video_llava_pair("VideoLlavaForConditionalGeneration", 3)
    picture, clip = torch.tensor([[*image_tokens(model), 5, 6]]), torch.tensor([[*video_tokens(2), 5, 6]])
    media = {"pixel_values_images": pixels(1), "pixel_values_videos": clips(1, 2)}
    count = len(image_tokens(model))
    with pytest.raises(ValueError, match=f"have 0 <image> tokens, and the 1 pictures or clips give {count} features"):
        model(clip, **media)
    with pytest.raises(ValueError, match="have 0 <video> tokens, and the 1 pictures or clips give 10 features"):
        model.generate(picture, **media, max_new_tokens=2)


def test_places_without_pixels_are_refused():
    model, _ = video_llava_pair("VideoLlavaForConditionalGeneration", 3)
    clip = torch.tensor([[*video_tokens(2), 5, 6]])
    with pytest.raises(ValueError, match="have 10 <video> tokens, and the 0 pictures or clips give 0 features"):
        model(clip)


def test_logits_to_keep_and_cached_steps():
    model, _ = video_llava_pair("VideoLlavaForConditionalGeneration", 4)
    inputs = mixed_inputs(model)
    whole = model(**inputs)
    assert_close(model(**inputs, logits_to_keep=2).logits, whole.logits[:, -2:])
    first = model(**(inputs | {"input_ids": inputs["input_ids"]}), use_cache=True)
    next_ids = torch.tensor([[7], [9]])
    step = model(next_ids, past_key_values=first.past_key_values)
    longer = inputs | {"input_ids": torch.cat([inputs["input_ids"], next_ids], 1)}
    assert_close(step.logits[:, -1], model(**longer).logits[:, -1])


def test_text_alone_needs_no_pixels():
    ours, theirs = video_llava_pair("VideoLlavaForConditionalGeneration", 5)
    ids = torch.tensor([[2, 5, 6]])
    assert_close(ours(ids).logits, theirs(ids).logits)


@pytest.mark.parametrize("name", ["VideoLlavaForConditionalGeneration", "VideoLlavaModel"])
def test_checkpoints_go_both_ways(name, tmp_path):
    ours, theirs = video_llava_pair(name, 6)
    inputs = mixed_inputs(ours)
    wanted = theirs(**inputs)[0]
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = getattr(onlooker, name).from_pretrained(tmp_path / "theirs")
    assert_close(loaded(**inputs)[0], wanted)
    loaded.save_pretrained(tmp_path / "ours")
    back = getattr(transformers, name).from_pretrained(tmp_path / "ours").eval()
    assert_close(back(**inputs)[0], wanted)


def test_every_part_was_trained_in_bfloat16(tmp_path):
    ours, _ = video_llava_pair("VideoLlavaForConditionalGeneration", 0)
    ours.save_pretrained(tmp_path)
    loaded = onlooker.VideoLlavaForConditionalGeneration.from_pretrained(tmp_path, dtype="reference")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    inputs = mixed_inputs(loaded)
    assert torch.isfinite(loaded(**inputs).logits).all()
    half = onlooker.VideoLlavaForConditionalGeneration.from_pretrained(tmp_path, torch_dtype=torch.float16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float16}


def test_the_paper_model_attends_over_time():
    values = video_llava_config(1, video_time_frames=4, vision_feature_layer=-2)
    model = onlooker.VideoLlavaModel(onlooker.VideoLlavaConfig(**values)).eval()
    randomize(model, 1)
    clip = clips(1, 4)
    swapped = clip[:, [1, 0, 2, 3]]
    got, other = model.get_video_features(clip)[0], model.get_video_features(swapped)[0]
    assert (got[2] - other[2]).abs().max() > 1e-4, "a frame must see the order of the others"
    with pytest.raises(ValueError, match="clip 0 has 3 frames; this checkpoint attends over time between exactly 4"):
        model.get_video_features(clips(1, 3))


def test_defaults():
    config = onlooker.VideoLlavaConfig()
    assert (config.vision_config.hidden_size, config.vision_config.num_hidden_layers) == (1024, 24)
    assert (config.image_token_id, config.video_token_id) == (32000, 32001)
    assert config.text_config.hidden_size == 4096
    assert config.vision_feature_layer == -2
    positional = onlooker.VideoLlavaConfig(onlooker.CLIPVisionConfig(), onlooker.LlamaConfig(vocab_size=99))
    assert positional.text_config.vocab_size == 99
    assert positional.vision_config.patch_size == 32
