"""InstructBLIP for pictures and clips: equal to transformers where that is right, and right where it is not."""

import json
import random

import pytest
import torch
import transformers

import onlooker
from tests.compare import assert_close, assert_records_close
from tests.models.pairs import instructblip_pair, without_cross_distances
from tests.tiny import IMAGE_TOKEN, clips, pixels, qformer_config, randomize

TEXTS = ["opt", "t5", "llama"]


def inputs_of(model, frames: int, rows: int = 2, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    count = frames * model.config.num_query_tokens
    words = torch.randint(4, IMAGE_TOKEN, (rows, 5), generator=generator)
    instruction = torch.randint(4, IMAGE_TOKEN, (rows, 6), generator=generator)
    mask = torch.ones_like(instruction)
    mask[-1, 4:] = 0
    return {
        "qformer_input_ids": instruction,
        "qformer_attention_mask": mask,
        "input_ids": torch.cat([torch.full((rows, count), IMAGE_TOKEN), words], 1),
    }


@pytest.mark.parametrize("kind", ["absolute", "relative_key", "relative_key_query"])
def test_qformer(kind):
    values = qformer_config(random.Random(1), position_embedding_type=kind, encoder_hidden_size=12)
    del values["use_qformer_text_input"]
    theirs = transformers.InstructBlipVideoQFormerModel(transformers.InstructBlipVideoQFormerConfig(**values)).eval()
    randomize(theirs, 1)
    without_cross_distances(theirs)
    ours = onlooker.InstructBlipVideoQFormerModel(onlooker.InstructBlipVideoQFormerConfig(**values)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(2, 8)
    mask[1, 6:] = 0
    options = {
        "input_ids": torch.randint(4, 38, (2, 5), generator=generator),
        "attention_mask": mask,
        "query_embeds": torch.randn(2, 3, values["hidden_size"], generator=generator),
        "encoder_hidden_states": torch.randn(2, 9, 12, generator=generator),
    }
    names = ("last_hidden_state", "pooler_output")
    assert_records_close(ours(**options), theirs(**options), names)
    with pytest.raises(ValueError, match="there is nothing for the Q-Former to read"):
        ours(None)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["InstructBlip", "InstructBlipVideo"])
def test_forward_and_generate_equal_the_reference(name, seed, text):
    ours, theirs = instructblip_pair(name, seed, text)
    frames = 3 if "Video" in name else 1
    inputs = inputs_of(ours, frames, seed=seed)
    inputs["pixel_values"] = clips(2, frames, seed) if "Video" in name else pixels(2, seed)
    got, wanted = ours(**inputs, labels=inputs["input_ids"]), theirs(**inputs, labels=inputs["input_ids"])
    assert_records_close(got, wanted, ("loss", "logits"), tolerance=1e-4)
    assert_close(got.qformer_outputs.last_hidden_state, wanted.qformer_outputs.last_hidden_state)
    for options in ({}, {"num_beams": 3, "length_penalty": 0.5}):
        options |= {"max_new_tokens": 8, "pad_token_id": 1}
        assert torch.equal(ours.generate(**inputs, **options), theirs.generate(**inputs, **options))


@pytest.mark.parametrize("text", TEXTS)
def test_gradients_equal_the_reference(text):
    ours, theirs = instructblip_pair("InstructBlipVideo", 1, text)
    inputs = inputs_of(ours, 2) | {"pixel_values": clips(2, 2)}
    for model in (ours, theirs):
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
    wanted = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if wanted[name].grad is not None:
            assert_close(parameter.grad, wanted[name].grad, tolerance=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("text", TEXTS)
def test_any_number_of_frames_and_rows_of_unequal_length(text, frames):
    """Each row of a ragged batch equals the row alone; every frame reaches the answer."""
    model, _ = instructblip_pair("InstructBlipVideo", 2, text)
    position_room = 16 * model.config.num_query_tokens + 8
    if text == "opt":
        model.config.text_config.max_position_embeddings = position_room
        table = model.language_model.model.decoder.embed_positions
        table.weight = torch.nn.Parameter(torch.randn(position_room + 2, table.embedding_dim) * 0.3)
    count = model.config.num_query_tokens
    short, long = clips(1, 2, 5)[0], clips(1, frames, 6)[0]
    words = torch.tensor([[7, 9, 11]])
    rows = [torch.cat([torch.full((1, n * count), IMAGE_TOKEN), words], 1) for n in (2, frames)]
    longest = max(row.shape[1] for row in rows)
    ids = torch.cat([torch.nn.functional.pad(row, (longest - row.shape[1], 0), value=1) for row in rows])
    mask = torch.cat([torch.nn.functional.pad(torch.ones_like(row), (longest - row.shape[1], 0)) for row in rows])
    instruction = torch.tensor([[5, 6, 7], [8, 9, 10]])
    start = torch.tensor([[0, 4], [0, 4]])
    got = model([short, long], instruction, None, ids, mask, decoder_input_ids=start).logits[:, -1]
    for row, clip in enumerate((short, long)):
        alone = model(clip[None], instruction[row : row + 1], None, rows[row], decoder_input_ids=start[:1])
        assert_close(got[row], alone.logits[0, -1])
    tokens = model.generate([short, long], instruction, None, ids, mask, max_new_tokens=5)
    for row, clip in enumerate((short, long)):
        alone = model.generate(clip[None], instruction[row : row + 1], None, rows[row], max_new_tokens=5)
        new = tokens[row, 0 if text == "t5" else longest :]
        wanted = alone[0, 0 if text == "t5" else rows[row].shape[1] :]
        assert torch.equal(new[: len(wanted)], wanted)
    changed = long.clone()
    changed[-1] += 1.0
    other = model([short, changed], instruction, None, ids, mask, decoder_input_ids=start).logits[:, -1]
    assert (other[1] - got[1]).abs().max() > 1e-6, "the last frame does not reach the answer"
    assert_close(other[0], got[0])


@pytest.mark.parametrize("text", TEXTS)
def test_no_prompt_describes_clips_of_unequal_length(text):
    model, _ = instructblip_pair("InstructBlipVideo", 3, text)
    short, long = clips(1, 1, 5)[0], clips(1, 4, 6)[0]
    instruction = torch.tensor([[5, 6], [5, 6]])
    got = model.generate([short, long], instruction, max_new_tokens=4)
    for row, clip in enumerate((short, long)):
        alone = model.generate(clip[None], instruction[:1], max_new_tokens=4)
        new = got[row] if text == "t5" else got[row, 4 * model.config.num_query_tokens + 1 :]
        wanted = alone[0] if text == "t5" else alone[0, len(clip) * model.config.num_query_tokens + 1 :]
        assert torch.equal(new[: len(wanted)], wanted)


def test_left_padded_instructions_are_read_as_the_instruction_alone():
    model, _ = instructblip_pair("InstructBlipVideo", 1, "opt")
    inputs = inputs_of(model, 2, rows=1) | {"pixel_values": clips(1, 2)}
    words = torch.tensor([[7, 9, 11]])
    inputs |= {"qformer_input_ids": words, "qformer_attention_mask": None}
    wanted = model(**inputs).logits
    inputs |= {
        "qformer_input_ids": torch.tensor([[0, 0, 7, 9, 11]]),
        "qformer_attention_mask": torch.tensor([[0, 0, 1, 1, 1]]),
    }
    assert_close(model(**inputs).logits, wanted)


def test_image_checkpoints_load_in_the_video_classes_as_they_are(tmp_path):
    image, theirs = instructblip_pair("InstructBlip", 4, "llama", absolute=True)
    theirs.save_pretrained(tmp_path)
    video = onlooker.InstructBlipVideoForConditionalGeneration.from_pretrained(tmp_path)
    assert video.config.video_token_id == image.config.image_token_index
    inputs = inputs_of(image, 1)
    wanted = image(pixel_values=pixels(2), **inputs).logits
    assert_close(video(pixel_values=pixels(2)[:, None], **inputs).logits, wanted)
    assert isinstance(onlooker.InstructBlipVideoVisionModel.from_pretrained(tmp_path), onlooker.InstructBlipVisionModel)
    video.save_pretrained(tmp_path / "video")
    assert json.loads((tmp_path / "video" / "config.json").read_text())["model_type"] == "instructblipvideo"
    back = transformers.InstructBlipVideoForConditionalGeneration.from_pretrained(tmp_path / "video").eval()
    assert_close(back(pixel_values=pixels(2)[:, None], **inputs).logits, wanted)


@pytest.mark.parametrize("text", TEXTS)
def test_checkpoints_go_both_ways(text, tmp_path):
    ours, theirs = instructblip_pair("InstructBlipVideo", 2, text, absolute=True)
    inputs = inputs_of(ours, 2) | {"pixel_values": clips(2, 2)}
    inputs["decoder_input_ids"] = inputs["input_ids"][:, -3:]
    wanted = theirs(**inputs).logits
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = onlooker.AutoModelForImageTextToText.from_pretrained(tmp_path / "theirs")
    assert_close(loaded(**inputs).logits, wanted, tolerance=1e-4)
    loaded.save_pretrained(tmp_path / "ours")
    back = transformers.InstructBlipVideoForConditionalGeneration.from_pretrained(tmp_path / "ours").eval()
    assert_close(back(**inputs).logits, wanted, tolerance=1e-4)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "reference"])
@pytest.mark.filterwarnings("ignore:T5 was trained in bfloat16")
def test_half_precision(text, dtype, tmp_path):
    ours, _ = instructblip_pair("InstructBlipVideo", 2, text, absolute=True)
    ours.save_pretrained(tmp_path)
    loaded = onlooker.InstructBlipVideoForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype)
    parts = {name: parameter.dtype for name, parameter in loaded.named_parameters()}
    if dtype == "float16":
        assert parts["query_tokens"] == torch.float32
        assert parts["qformer.embeddings.layernorm.weight"] == torch.float16
        stays = {name for name, kind in parts.items() if kind == torch.float32}
        assert stays == {"query_tokens"} | {name for name in parts if name.endswith(".wo.weight")}
    inputs = inputs_of(ours, 2) | {"pixel_values": clips(2, 2)}
    inputs["decoder_input_ids"] = inputs["input_ids"][:, -2:]
    assert_close(loaded(**inputs).logits, ours(**inputs).logits, tolerance=0.2)
    assert loaded.generate(**{name: value for name, value in inputs.items() if "decoder" not in name}).shape[0] == 2


def test_what_does_not_fit_is_refused():
    model, _ = instructblip_pair("InstructBlipVideo", 1, "opt")
    inputs = inputs_of(model, 2)
    with pytest.raises(ValueError, match="A picture is a clip of one frame"):
        model(pixels(2), **inputs)
    with pytest.raises(ValueError, match="qformer_input_ids is missing"):
        model(clips(2, 2), **(inputs | {"qformer_input_ids": None}))
    with pytest.raises(ValueError, match="3 pictures or clips and 2 instructions"):
        model(clips(3, 2), **inputs)
    count = model.config.num_query_tokens
    with pytest.raises(ValueError, match=f"row 0 of the batch has {2 * count} <video> tokens, .* gives {3 * count}"):
        model(clips(2, 3), **inputs)
    image, _ = instructblip_pair("InstructBlip", 1, "opt")
    with pytest.raises(ValueError, match="InstructBlipVideoForConditionalGeneration"):
        image(clips(2, 2), **inputs)


def test_defaults_and_aliases():
    config = onlooker.InstructBlipVideoConfig()
    assert config.vision_config.model_type == "instructblipvideo_vision_model"
    assert config.text_config.model_type == "opt"
    assert config.video_token_id is None
    assert not config.is_encoder_decoder
    assert onlooker.InstructBlipVideoConfig(video_token_id=7).video_token_index == 7
    parts = onlooker.InstructBlipVideoVisionConfig(), onlooker.InstructBlipVideoQFormerConfig(), onlooker.T5Config()
    made = onlooker.InstructBlipVideoConfig.from_text_vision_configs(*parts)
    assert not made.use_decoder_only_language_model
    assert not made.is_encoder_decoder
