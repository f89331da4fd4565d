"""Messages become the prompts that the families were trained on; templates run in a sandbox."""

from __future__ import annotations

import base64

import pytest

from onlooker.models.blip2.processor import Blip2Processor
from onlooker.pixels import BlipImageProcessor
from onlooker.text import Tokenizer
from onlooker.text.chat import (
    BLIP2,
    PLAIN,
    VICUNA,
    VICUNA_PAPER,
    choose_template,
    is_one_conversation,
    media_of,
    render,
)
from tests.text.trained import SAVED

MARKERS = {"image_token": "<image>", "video_token": "<video>"}
TURNS = [
    {"role": "user", "content": [{"type": "text", "text": " how many cats? "}, {"type": "video", "path": "a.mp4"}]},
    {"role": "assistant", "content": "two."},
    {
        "role": "user",
        "content": [{"type": "image", "url": "b"}, {"type": "image", "url": "c"}, {"type": "text", "text": "which?"}],
    },
]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (VICUNA, "USER: <video>\nhow many cats? ASSISTANT: two. USER: <image>\n<image>\nwhich? ASSISTANT:"),
        (BLIP2, "Question: how many cats? Answer: two. Question: which? Answer:"),
        (PLAIN, "how many cats? two. which?"),
    ],
)
def test_turns_are_written_as_each_family_was_trained(template, expected):
    assert render(template, TURNS, add_generation_prompt=True, **MARKERS) == expected
    system = [{"role": "system", "content": "Be brief."}, *TURNS]
    assert render(template, system, add_generation_prompt=True, **MARKERS) == f"Be brief. {expected}"


def test_the_original_video_llava_has_a_sentence_in_front_and_an_end_after_answers():
    sentence = (
        "A chat between a curious human and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the human's questions. "
    )
    turns = "USER: <video>\nhow many cats? ASSISTANT: two.</s>USER: <image><image>\nwhich? ASSISTANT:"
    assert render(VICUNA_PAPER, TURNS, add_generation_prompt=True, **MARKERS) == sentence + turns
    system = [{"role": "system", "content": "Be brief."}, *TURNS]
    assert render(VICUNA_PAPER, system, add_generation_prompt=True, **MARKERS) == f"Be brief. {turns}"


def test_an_answer_is_ended_once():
    for answer in ("two", "two.", "two..."):
        turns = [TURNS[0], {"role": "assistant", "content": answer}]
        assert render(BLIP2, turns) == "Question: how many cats? Answer: two."


@pytest.mark.parametrize("template", [VICUNA, VICUNA_PAPER, PLAIN])
def test_the_last_message_can_be_continued(template):
    turns = [*TURNS, {"role": "assistant", "content": "the gray"}]
    text = render(template, turns, continue_final_message=True, **MARKERS)
    assert text.endswith("the gray") and text.startswith(render(template, TURNS, **MARKERS).rstrip())
    with pytest.raises(ValueError, match="not both"):
        render(template, turns, continue_final_message=True, add_generation_prompt=True)
    with pytest.raises(ValueError, match="continue_final_message needs a last message with text"):
        render("constant", turns, continue_final_message=True)


def test_templates_of_other_makers_run():
    template = "{%- for m in messages %}\n{% generation %}{{ m.role }}{% endgeneration %}{% break %}{% endfor %}"
    template += "|{{ x | tojson }}"
    assert render(template, TURNS, x={"a": "é<"}) == 'user|{"a": "é<"}'


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ ''.__class__.__mro__ }}", "cannot write these messages"),
        ("{{ messages.append(1) }}", "cannot write these messages"),
        ("{% if %}", "cannot write these messages"),
        ("{{ nothing.at_all }}", "'nothing' is undefined"),
    ],
)
def test_what_a_template_refuses_or_must_not_do_is_an_error(template, message):
    with pytest.raises(ValueError, match=message):
        render(template, list(TURNS))


@pytest.mark.parametrize("template", [VICUNA, VICUNA_PAPER, BLIP2, PLAIN])
def test_unknown_roles_are_refused(template):
    with pytest.raises(ValueError, match="role is tool; it may be system, user or assistant"):
        render(template, [{"role": "tool", "content": "x"}], **MARKERS)


def test_one_conversation_is_told_from_several():
    assert is_one_conversation(TURNS) and not is_one_conversation([TURNS, TURNS[:1]])


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("hello", "messages are wanted: a list such as .* not str"),
        ([], "messages are wanted"),
        ([[]], "messages are wanted"),
        ([TURNS, TURNS[0]], "messages are wanted"),
        ([{"role": "user"}], "message 0 has role; wanted role, and content"),
        ([{"content": "a"}], "message 0 has content; wanted role"),
        ([{"role": "user", "content": [{"type": "audio", "path": "a"}]}], "message 0 has a part of type 'audio'"),
        ([{"role": "user", "content": ["a"]}], "message 0 has a part of type 'str'"),
        ([TURNS[0], {"role": "user", "content": [{"type": "text"}]}], "message 1 has a part of type 'text'"),
    ],
)
def test_messages_of_another_form_are_refused(messages, message):
    with pytest.raises(ValueError, match=message):
        is_one_conversation(messages)


def test_media_are_found_in_order_however_they_are_named():
    assert media_of(TURNS) == (["b", "c"], ["a.mp4"])
    thing = object()
    content = [{"type": "image", "image": thing}, {"type": "image", "base64": base64.b64encode(b"xy").decode()}]
    content += [{"type": "image", "base64": "data:image/png;base64," + base64.b64encode(b"z").decode()}]
    assert media_of([{"role": "user", "content": content}]) == ([thing, b"xy", b"z"], [])
    with pytest.raises(ValueError, match='a message has {"type": "image"} without image, url, path, base64'):
        media_of([{"role": "user", "content": [{"type": "image"}]}])
    with pytest.raises(ValueError, match="base64 that is none"):
        media_of([{"role": "user", "content": [{"type": "image", "base64": "***"}]}])


def test_the_folders_template_wins_over_the_familys():
    family = {"default": "a", "paper": "b"}
    assert choose_template(None, None, family) == "a" and choose_template(None, "paper", family) == "b"
    assert choose_template("c", None, family) == "c" and choose_template("c", "paper", family) == "b"
    assert choose_template({"default": "d", "rag": "e"}, None, family) == "d"
    assert choose_template({"rag": "e"}, "rag", family) == "e" and choose_template(None, "{{ x }}", "a") == "{{ x }}"
    with pytest.raises(ValueError, match="there are the chat templates rag; give one of the names"):
        choose_template({"rag": "e"}, None, family)


def test_blip2_takes_a_question_with_its_picture(tmp_path):
    SAVED["opt"](tmp_path)
    processor = Blip2Processor(BlipImageProcessor(size=8), Tokenizer.from_pretrained(tmp_path), num_query_tokens=3)
    path = "tests/data/media/elephant.jpg"
    content = [{"type": "image", "path": path}, {"type": "text", "text": "how many?"}]
    messages = [{"role": "user", "content": content}]
    batch = processor.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    expected = processor(path, "Question: how many? Answer:", return_tensors="pt")
    assert {name: value.tolist() for name, value in batch.items()} == {
        name: value.tolist() for name, value in expected.items()
    }


def test_renamed_token_keeps_its_id(tmp_path):
    SAVED["llama"](tmp_path)
    tokenizer = Tokenizer.from_pretrained(tmp_path, extra_special_tokens={"image_token": "<image>"})
    number, length = tokenizer.image_token_id, len(tokenizer)
    tokenizer.rename_token("<image>", "<video>")
    assert tokenizer.convert_tokens_to_ids("<video>") == number and len(tokenizer) == length
    assert tokenizer.encode("a<video>")[-1] == number and not hasattr(tokenizer, "image_token")
    tokenizer.save_pretrained(tmp_path / "again")
    assert Tokenizer.from_pretrained(tmp_path / "again").encode("a<video>") == tokenizer.encode("a<video>")
    for old, new in (("<image>", "x"), ("<video>", "</s>"), ("a", "b")):
        with pytest.raises(ValueError, match="is not an added token, or"):
            tokenizer.rename_token(old, new)
