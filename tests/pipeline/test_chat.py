"""Conversations: every answer is the model's own to everything that was said and shown before."""

from __future__ import annotations

import warnings

import pytest

import onlooker
from tests.pipeline.conftest import CLIP, picture

BRIEF = {"max_new_tokens": 5}


@pytest.fixture(autouse=True)
def several_media_are_fine():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="a prompt has several pictures or clips")
        yield


def test_turns_with_pictures_and_clips_are_what_the_processor_and_the_model_make_of_them(load):
    eyes = load("video-llava")
    frames = onlooker.load_video(CLIP, num_frames=8)
    chat = eyes.chat(frames)
    said = [
        chat.ask("What is this?", **BRIEF).text,
        chat.ask("Why?", **BRIEF).text,
        chat.ask("And here?", media=[picture(0), frames], **BRIEF).text,
    ]
    text = (
        f"USER: <video>\nWhat is this? ASSISTANT: {said[0]} USER: Why? ASSISTANT: {said[1]} "
        f"USER: <image>\n<video>\nAnd here? ASSISTANT:"
    )
    assert eyes.chat_text([*chat.messages[:-2], chat.messages[-2]]) == text
    batch = eyes.processor(text=text, images=picture(0), videos=[frames, frames])
    ids = eyes.model.generate(**batch, **BRIEF)
    assert eyes.processor.decode(ids[0, batch["input_ids"].shape[1] :], skip_special_tokens=True).strip() == said[2]
    assert [question for question, _ in chat.history] == ["What is this?", "Why?", "And here?"]
    assert chat.history[2][1].frames.indices == tuple(frames.indices) and len(chat) == 3


def test_families_of_one_medium_keep_it_through_the_turns(load):
    eyes = load("instructblip-t5")
    chat = eyes.chat(CLIP)
    first = chat.ask("What is this?", **BRIEF)
    second = chat.ask("Why?", **BRIEF)
    assert first.text == eyes.ask(CLIP, "What is this?", **BRIEF).text
    batch = eyes.processor(
        images=[eyes.load(CLIP)], text=f"What is this? {first.text} Why?".replace("  ", " "), return_tensors="pt"
    )
    told = eyes.processor.qformer_tokenizer(["Why?"], return_token_type_ids=False, return_tensors="pt")
    batch |= {"qformer_input_ids": told["input_ids"], "qformer_attention_mask": told["attention_mask"]}
    ids = eyes.model.generate(**batch, **BRIEF)
    assert second.text == eyes.processor.decode(ids[0, 1:], skip_special_tokens=True).strip()
    with pytest.raises(ValueError, match="call reset"):
        chat.show(picture(0))
    chat.reset()
    assert chat.ask("What?", media=picture(0), **BRIEF).text == eyes.ask(picture(0), "What?", **BRIEF).text


def test_blip2_talks_in_questions_and_answers(load):
    chat = load("opt").chat(picture(0))
    first = chat.ask("What is this?", **BRIEF)
    expected = f"Question: What is this? Answer: {first.text.strip().rstrip('.')}. Question: Why? Answer:"
    second = chat.ask("Why?", **BRIEF)
    assert second.text == load("opt").caption(picture(0), prompt=expected, **BRIEF).text


def test_a_clip_is_encoded_once_for_a_conversation(load):
    eyes, runs = load("video-llava"), []
    handle = eyes.model.video_tower.vision_model.embeddings.register_forward_hook(lambda *_: runs.append(1))
    try:
        chat = eyes.chat(CLIP)
        for question in ("What?", "Why?", "When?"):
            chat.ask(question, **BRIEF)
    finally:
        handle.remove()
    assert len(runs) == 1


def test_a_streamed_answer_is_part_of_the_conversation_also_when_nobody_read_it_to_the_end(load):
    eyes = load("video-llava")
    plain, streamed = eyes.chat(CLIP), eyes.chat(CLIP)
    whole = plain.ask("What is this?", **BRIEF)
    stream = streamed.ask("What is this?", stream=True, **BRIEF)
    next(stream, None)
    next_ones = streamed.ask("Why?", **BRIEF), plain.ask("Why?", **BRIEF)
    assert next_ones[0].text == next_ones[1].text and streamed.history[0][1] is stream.answer
    assert (stream.answer.text, stream.answer.num_tokens) == (whole.text, whole.num_tokens)


def test_a_question_that_failed_leaves_the_conversation_as_it_was(load):
    chat = load("video-llava").chat(CLIP)
    chat.ask("What?", **BRIEF)
    with pytest.raises(ValueError, match="temperature"):
        chat.ask("Why?", do_sample=True, temperature=-1.0)
    with pytest.raises(ValueError, match="temperature"):
        list(chat.ask("Why?", do_sample=True, temperature=-1.0, stream=True))
    with pytest.raises(FileNotFoundError):
        chat.ask("Why?", media="gone.mp4")
    assert [question for question, _ in chat.history] == ["What?"]
    assert chat.ask("Why?", **BRIEF).text is not None


def test_a_conversation_may_begin_without_media_and_with_a_system_sentence(load):
    eyes = load("video-llava")
    chat = eyes.chat(system="Be brief.")
    answer = chat.ask("Why?", **BRIEF)
    assert chat.messages[0] == {"role": "system", "content": "Be brief."} and answer.frames is None
    assert "1 turns" in repr(chat)


def test_a_checkpoint_for_matching_does_not_talk(load):
    with pytest.raises(ValueError, match="Salesforce/blip2-opt-2.7b"):
        load("matching").chat(picture(0))
