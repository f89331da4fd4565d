"""Batches hold what is asked and what is learnt: answers and their ends, and nothing else."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import tokenizers
import torch
from rich.console import Console
from tokenizers import AddedToken, models, pre_tokenizers, processors

import onlooker
from onlooker.models.blip2.processor import Blip2Processor
from onlooker.models.instructblip.processor import InstructBlipProcessor, InstructBlipVideoProcessor
from onlooker.models.video_llava.processor import VideoLlavaProcessor
from onlooker.pixels import BlipImageProcessor, InstructBlipVideoImageProcessor, VideoLlavaImageProcessor
from onlooker.text import Tokenizer
from onlooker.train.data import Collator, Medium, Record, Turn, show_batch
from onlooker.train.world import WorldRows, vocabulary

QUERIES = 3
SIZE = {"height": 28, "width": 28}
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
WORDS = ["Question", "Answer", "USER", "ASSISTANT", "!", *vocabulary()]
PICTURE = Medium("image", np.zeros((28, 28, 3), np.uint8))
CLIP = Medium("video", np.zeros((2, 28, 28, 3), np.uint8))
TALK = (Turn("what color is the star?", "red"), Turn("how many stars are there?", "two things."))


def tokenizer(ends=False, **settings):
    """One word is one token; a start token in front, or an end token behind."""
    backend = tokenizers.Tokenizer(models.WordLevel({w: n for n, w in enumerate(SPECIAL + WORDS)}, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    pattern = "$A </s>" if ends else "<s> $A"
    backend.post_processor = processors.TemplateProcessing(single=pattern, special_tokens=[("<s>", 1), ("</s>", 2)])
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL))
    return Tokenizer(backend, None, [AddedToken(name, special=True) for name in SPECIAL], **names, **settings)


def blip2(ends=False):
    return Blip2Processor(BlipImageProcessor(size=SIZE), tokenizer(ends), QUERIES)


def instruct(ends=False):
    return InstructBlipVideoProcessor(
        InstructBlipVideoImageProcessor(size=SIZE), tokenizer(ends), tokenizer(True), QUERIES
    )


def video_llava(template=None):
    words = tokenizer(padding_side="left")
    words.add_tokens(["<image>", "<video>"], special_tokens=True)
    pixels = VideoLlavaImageProcessor(size={"shortest_edge": 28}, crop_size=SIZE)
    return VideoLlavaProcessor(pixels, tokenizer=words, chat_template=template)


def talk(medium, turns=TALK, name="talk"):
    return Record(name, (medium,), turns)


def learnt(batch, processor):
    """For each row what the labels teach, with a bar where the label is not the id that stands there."""
    rows = []
    for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist()):
        names = [(i, label) for i, label in zip(ids, labels) if label != -100]
        to_word = processor.tokenizer.convert_ids_to_tokens
        rows.append(" ".join(to_word(label) + ("" if i == label else f"|{to_word(i)}") for i, label in names))
    return rows


def read(batch, processor):
    rows = zip(batch["input_ids"], batch["attention_mask"])
    return [" ".join(processor.tokenizer.convert_ids_to_tokens(ids[kept.bool()].tolist())) for ids, kept in rows]


def test_blip2_learns_every_answer_and_its_end():
    processor = blip2()
    batch = Collator(processor, encoder_decoder=False)([talk(PICTURE), talk(PICTURE, (Turn("", "a red star"),))])
    assert learnt(batch, processor) == ["red </s>|. two things . </s>", "a red star </s>"]
    start = "<image> <image> <image> <s> "
    assert read(batch, processor) == [
        start + "Question : what color is the star ? Answer : red . "
        "Question : how many stars are there ? Answer : two things . </s>",
        start + "a red star </s>",
    ]
    assert batch["pixel_values"].shape == (2, 3, 28, 28) and batch["pixel_values"].dtype == torch.float32
    pads = batch["attention_mask"] == 0
    assert pads[1].any() and (batch["labels"][pads] == -100).all() and (batch["input_ids"][pads] == 0).all()
    assert (batch["labels"][batch["input_ids"] == processor.image_token_id] == -100).all()


def test_ends_are_written_once_and_full_stops_as_the_template_has_them():
    processor = blip2(ends=True)  # a tokenizer that writes an end behind every text
    batch = Collator(processor, encoder_decoder=False)([talk(PICTURE, (Turn("what color?", "red..."),))])
    assert learnt(batch, processor) == ["red . </s>"]
    assert read(batch, processor)[0].endswith("Answer : red . </s>")


def test_a_row_begins_as_the_model_will_be_asked():
    for processor, medium in ((blip2(), PICTURE), (instruct(), CLIP), (video_llava(), CLIP)):
        batch = Collator(processor, encoder_decoder=False, packed=False)([talk(medium, TALK[:1])])
        parts = [{"type": medium.kind, medium.kind: medium.source}, {"type": "text", "text": TALK[0].question}]
        asked = processor.apply_chat_template(
            [{"role": "user", "content": parts}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        length = asked["input_ids"].shape[1]
        assert batch["input_ids"][0, :length].tolist() == asked["input_ids"][0].tolist()
        assert (batch["labels"][0, :length] == -100).all() and batch["labels"][0, length] != -100
        for name in asked:
            if "pixel" in name or "qformer" in name:
                assert torch.equal(batch[name], asked[name]), name


def test_t5_gets_a_row_for_each_answer():
    processor = blip2(ends=True)
    batch = Collator(processor, encoder_decoder=True)([talk(PICTURE), talk(PICTURE, (Turn("", "a red star"),))])
    words = processor.tokenizer.convert_ids_to_tokens
    targets = [" ".join(words(row[row != -100].tolist())) for row in batch["labels"]]
    assert targets == ["red </s>", "two things . </s>", "a red star </s>"]
    first, second, third = read(batch, processor)
    assert first == "<image> <image> <image> Question : what color is the star ? Answer : </s>"
    assert second.endswith("Answer : red . Question : how many stars are there ? Answer : </s>")
    assert third == "<image> <image> <image> </s>"
    assert batch["pixel_values"].shape[0] == 3 and batch["labels"].shape == (3, 4)
    bare = Collator(blip2(ends=False), encoder_decoder=True)([talk(PICTURE)])  # a tokenizer that writes no ends
    assert all(row[row != -100][-1] == 2 for row in bare["labels"])
    with pytest.raises(ValueError, match="encoder-decoder"):
        Collator(processor, encoder_decoder=True, packed=True)


def test_instructblip_reads_the_instruction_twice():
    processor = instruct()
    longer = Medium("video", np.zeros((4, 28, 28, 3), np.uint8))
    batch = Collator(processor, encoder_decoder=False)([talk(CLIP), talk(longer, TALK[:1]), talk(PICTURE, TALK[:1])])
    assert [clip.shape[0] for clip in batch["pixel_values"]] == [2, 2, 4, 1]
    counts = (batch["input_ids"] == processor.video_token_id).sum(1).tolist()
    assert counts == [2 * QUERIES, 2 * QUERIES, 4 * QUERIES, QUERIES]
    read_twice = [
        " ".join(processor.qformer_tokenizer.convert_ids_to_tokens(row[mask.bool()].tolist()))
        for row, mask in zip(batch["qformer_input_ids"], batch["qformer_attention_mask"])
    ]
    assert read_twice[0] == read_twice[2] == "what color is the star ? </s>"
    assert read_twice[1] == "what color is the star ? red how many stars are there ? </s>"
    assert learnt(batch, processor)[:2] == ["red </s>", "two things . </s>"]
    packed = Collator(processor, encoder_decoder=False, packed=True)([talk(CLIP)])
    assert learnt(packed, processor) == ["red </s>|how two things . </s>"]
    assert "red" not in processor.qformer_tokenizer.decode(packed["qformer_input_ids"][0])


def test_video_llava_mixes_pictures_and_clips():
    for template, seen in ((None, "red </s>|USER two things . </s>"), ("paper", "red </s> two things . </s>")):
        processor = video_llava(VideoLlavaProcessor.default_chat_template[template or "default"])
        records = [talk(CLIP), talk(PICTURE), talk(CLIP, (Turn("", "a red star"),)), Record("t", (), TALK[:1])]
        batch = Collator(processor, encoder_decoder=False, caption_prompt="look at it!")(records)
        assert batch["pixel_values_images"].shape == (1, 3, 28, 28)
        assert batch["pixel_values_videos"].shape == (2, 2, 3, 28, 28)
        assert learnt(batch, processor) == [seen, seen, "a red star </s>", "red </s>"]
        images, videos = (
            (batch["input_ids"] == token).sum(1).tolist()
            for token in (processor.image_token_id, processor.video_token_id)
        )
        assert images == [0, 4, 0, 0] and videos == [10, 0, 10, 0]
        assert batch["attention_mask"][:, 0].all()  # padded on the right, whatever the tokenizer prefers
        assert "look at it !" in read(batch, processor)[2]


def test_media_can_be_shared_by_the_rows_of_a_record():
    collate = Collator(blip2(True), encoder_decoder=True, share_media=True)
    equal = Medium("image", PICTURE.source.copy())
    batch = collate([talk(PICTURE, name="a"), talk(equal)])
    assert batch["pixel_values"].shape[0] == 2 and batch["media_rows"].tolist() == [0, 0, 1, 1]


def test_records_about_the_very_same_array_share_it():
    bright = Medium("image", np.full((28, 28, 3), 255, np.uint8))
    records = [talk(PICTURE, name="a"), talk(bright, TALK[:1]), talk(PICTURE, TALK[1:])]
    batch = Collator(blip2(True), encoder_decoder=True, share_media=True)(records)
    assert batch["media_rows"].tolist() == [0, 0, 1, 0] and batch["pixel_values"].shape[0] == 2
    assert batch["pixel_values"][1].mean() > batch["pixel_values"][0].mean()
    repeated = Collator(blip2(True), encoder_decoder=True)(records)["pixel_values"]
    assert torch.equal(repeated, batch["pixel_values"][batch["media_rows"]])


def test_what_a_family_cannot_take_is_said():
    with pytest.raises(ValueError, match="is a clip; this family takes pictures"):
        Collator(blip2(), encoder_decoder=False)([talk(CLIP)])
    with pytest.raises(ValueError, match="has 2 media"):
        Collator(blip2(), encoder_decoder=False)([Record("x", (PICTURE, PICTURE), TALK)])
    with pytest.raises(ValueError, match="no records"):
        Collator(blip2(), encoder_decoder=False)([])
    with pytest.warns(UserWarning, match="cuts off every answer"), pytest.raises(ValueError, match="raise max_length"):
        Collator(blip2(), encoder_decoder=False, max_length=6)([talk(PICTURE)])
    with pytest.raises(ValueError, match="cannot be trained on"):
        processor = blip2()
        processor.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
        Collator(processor, encoder_decoder=False)([talk(PICTURE)])


def test_max_length_cuts_behind():
    processor = blip2()
    whole = Collator(processor, encoder_decoder=False)([talk(PICTURE)])
    cut = Collator(processor, encoder_decoder=False, max_length=20)([talk(PICTURE)])
    for name in ("input_ids", "labels", "attention_mask"):
        assert cut[name].shape == (1, 20) and torch.equal(cut[name], whole[name][:, :20])


def test_the_image_twin_of_instructblip_takes_pictures():
    processor = InstructBlipProcessor(BlipImageProcessor(size=SIZE), tokenizer(), tokenizer(True), QUERIES)
    batch = Collator(processor, encoder_decoder=False)([talk(PICTURE, TALK[:1])])
    assert batch["pixel_values"].shape == (1, 3, 28, 28) and learnt(batch, processor) == ["red </s>"]


def test_answers_of_subword_tokenizers_are_learnt_whole(tmp_path):
    from tests.text.trained import SAVED

    for kind in ("opt", "llama"):
        words = Tokenizer.from_pretrained(SAVED[kind](tmp_path / kind))
        processor = Blip2Processor(BlipImageProcessor(size=SIZE), words, QUERIES)
        turns = (Turn("how many cats are there?", "two cats"), Turn("what do you see?", "a baby reading."))
        batch = Collator(processor, encoder_decoder=False)([talk(PICTURE, turns)])
        row = batch["labels"][0]
        ends = (row == words.eos_token_id).nonzero().flatten().tolist()
        assert len(ends) == 2
        pieces = row[: ends[0]], row[ends[0] + 1 : ends[1]]
        assert [words.decode(p[p != -100].tolist()).strip() for p in pieces] == ["two cats", "a baby reading."]


def test_the_world_makes_batches_and_losses():
    rows = WorldRows("train", 6, size=28, num_frames=2, turns=4)
    processor = instruct()
    batch = Collator(processor, encoder_decoder=False, packed=True)([rows[number] for number in range(6)])
    assert batch["pixel_values"].shape == (6, 2, 3, 28, 28)
    unknown = processor.tokenizer.unk_token_id
    assert not (batch["input_ids"] == unknown).any()
    for number, words in enumerate(learnt(batch, processor)):
        assert words.count("</s>") == len(rows[number].turns)


def shown(batch, processor, **options):
    out = io.StringIO()
    Console(file=out, width=200, force_terminal=True, color_system="truecolor").print(
        show_batch(batch, processor.tokenizer, **options)
    )
    return out.getvalue()


def test_show_batch_colours_what_is_learnt():
    processor = blip2()
    batch = Collator(processor, encoder_decoder=False)([talk(PICTURE), talk(PICTURE, TALK[:1])])
    text = shown(batch, processor, visual_ids=[processor.image_token_id])
    assert "\x1b[1;32mred" in text and "<image> x 3" in text and "pad x 14" in text
    assert "\x1b[2m<s>" in text and "\x1b[1;35m</s>" in text
    assert "2 rows, 8 tokens learnt of" in text and "</s>[.]" in text
    assert "what color is the star" in text.split("\x1b[1;32mred")[0]
    t5 = blip2(ends=True)
    text = shown(Collator(t5, encoder_decoder=True)([talk(PICTURE)]), t5)
    assert "->" in text and "two things" in text
    assert shown(batch, processor, rows=1).count("red") == 1


def test_order_of_records_does_not_change_a_row():
    processor, records = video_llava(), [talk(CLIP), talk(PICTURE), talk(CLIP, TALK[:1])]
    collate = Collator(processor, encoder_decoder=False)
    batch = collate(records)
    order = [0, 1, 2]
    random.Random(1).shuffle(order)
    other = collate([records[number] for number in order])
    for row, number in enumerate(order):
        assert torch.equal(other["labels"][row], batch["labels"][number])
        assert torch.equal(other["input_ids"][row], batch["input_ids"][number])


def small_model(family, processor):
    size = len(processor.tokenizer)
    vision = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14, "initializer_range": 0.1}
    text = {"vocab_size": size, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    qformer = {**vision, "vocab_size": len(WORDS) + 9, "encoder_hidden_size": 8, "max_position_embeddings": 64}
    opt = text | {"model_type": "opt", "ffn_dim": 16, "word_embed_proj_dim": 8, "max_position_embeddings": 256}
    if family == "video_llava":
        llama = text | {"model_type": "llama", "intermediate_size": 16, "max_position_embeddings": 256}
        tokens = {"image_token_index": processor.image_token_id, "video_token_index": processor.video_token_id}
        tower = vision | {"model_type": "clip_vision_model", "num_hidden_layers": 2}
        return onlooker.VideoLlavaForConditionalGeneration(
            onlooker.VideoLlavaConfig(vision_config=tower, text_config=llama, **tokens)
        )
    composite = {"vision_config": vision, "qformer_config": qformer, "num_query_tokens": QUERIES}
    if family == "blip2":
        t5 = {
            "model_type": "t5",
            "vocab_size": size,
            "d_model": 8,
            "d_kv": 4,
            "d_ff": 16,
            "num_layers": 1,
            "num_heads": 2,
        }
        t5 |= {"decoder_start_token_id": 0}
        config = onlooker.Blip2Config(**composite, text_config=t5, image_token_index=processor.image_token_id)
        return onlooker.Blip2ForConditionalGeneration(config)
    config = onlooker.InstructBlipVideoConfig(**composite, text_config=opt, video_token_index=processor.video_token_id)
    return onlooker.InstructBlipVideoForConditionalGeneration(config)


@pytest.mark.parametrize("family", ["blip2", "instruct", "video_llava"])
def test_models_take_the_batch_and_score_the_answers_alone(family):
    torch.manual_seed(0)
    processor = {"blip2": lambda: blip2(True), "instruct": instruct, "video_llava": video_llava}[family]()
    model = small_model(family, processor).eval()
    medium = PICTURE if family == "blip2" else CLIP
    batch = Collator(processor, encoder_decoder=family == "blip2")([talk(medium), talk(medium, TALK[:1])])
    output = model(**batch)
    labels, logits = batch["labels"], output.logits
    if family != "blip2":  # scored by the position before, which pads never come between
        labels, logits = labels[:, 1:], logits[:, :-1]
    chances = logits.log_softmax(-1)
    rows, places = (labels != -100).nonzero(as_tuple=True)
    expected = -chances[rows, places, labels[rows, places]].mean()
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
