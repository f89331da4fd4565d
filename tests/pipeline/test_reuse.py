"""What is kept of media and prompts: it changes no answer, it is really used, and it is never somebody else's."""

from __future__ import annotations

import shutil
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import onlooker
from onlooker import Onlooker
from onlooker.reuse import Cache
from tests.pipeline.conftest import CLIP, SHORT_CLIP, VIDEOS, picture

KINDS = ["opt", "t5", "old", "instructblip-llama", "instructblip-t5", "instructblip-opt", "video-llava"]
CONTINUED = ["opt", "old", "video-llava"]  # decoder-only, with visual tokens that do not depend on the question
QUESTIONS = ["What is in the picture?", "Is it raining on the table?", "How many cats are there?", "Why?"]
BRIEF = {"max_new_tokens": 6}


@pytest.fixture(autouse=True)
def several_media_and_old_files_are_fine():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="a prompt has several pictures or clips")
        yield


def forgetful(eyes: Onlooker) -> Onlooker:
    """The same model, asked from nothing every time."""
    return Onlooker(eyes.model, eyes.processor, cache=Cache(0))


def medium_of(eyes: Onlooker):
    return CLIP if eyes.family != "BLIP-2" else picture(3)


def same(some, others) -> bool:
    some, others = ([each] if not isinstance(each, list) else each for each in (some, others))
    assert [(each.text, each.num_tokens) for each in some] == [(each.text, each.num_tokens) for each in others]
    assert [each.logprob for each in some] == pytest.approx([each.logprob for each in others], abs=1e-4)
    return True


@contextmanager
def counted(eyes: Onlooker):
    """Frames that the vision part runs, and positions that the language model runs for prompts."""
    frames, positions = [], []
    tower = eyes.model.video_tower if eyes.family == "Video-LLaVA" else eyes.model.vision_model
    language = eyes.model.model.language_model if eyes.family == "Video-LLaVA" else eyes.model.language_model.model
    layers = language.decoder.layers if hasattr(language, "decoder") else language.layers

    def count(_, given):
        if given[0].shape[1] > 1:
            positions.append(given[0].shape[0] * given[0].shape[1])

    hooks = [
        tower.register_forward_pre_hook(lambda _, given: frames.append(len(given[0]))),
        layers[0].register_forward_pre_hook(count),
    ]
    if eyes.family == "Video-LLaVA":  # its tower is not called as a module
        hooks[0].remove()
        embeddings = tower.vision_model.embeddings
        hooks[0] = embeddings.register_forward_pre_hook(lambda _, given: frames.append(len(given[0])))
    try:
        yield frames, positions
    finally:
        for hook in hooks:
            hook.remove()


# -- no answer changes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_further_questions_are_answered_as_from_nothing(load, kind):
    eyes = load(kind)
    plain = forgetful(eyes)
    for medium in (picture(3), CLIP) if eyes.family != "BLIP-2" else (picture(3), picture(4)):
        for question in QUESTIONS:
            same(eyes.ask(medium, question, **BRIEF), plain.ask(medium, question, **BRIEF))
        same(eyes.ask(medium, QUESTIONS, **BRIEF), plain.ask(medium, QUESTIONS, **BRIEF))
        same(eyes.caption(medium, **BRIEF), plain.caption(medium, **BRIEF))
        for options in ({"num_beams": 3}, {"do_sample": True, "seed": 1}, {"repetition_penalty": 1.3}):
            same(eyes.ask(medium, "Why?", **BRIEF, **options), plain.ask(medium, "Why?", **BRIEF, **options))
        assert str(eyes.rank(medium, "Why?", ["yes", "no"])[0]) == str(plain.rank(medium, "Why?", ["yes", "no"])[0])
        choices = ["a cat", "two", "a cup of coffee"]
        same(eyes.ask(medium, "What?", choices=choices), plain.ask(medium, "What?", choices=choices))


@pytest.mark.parametrize("kind", KINDS)
def test_turns_of_a_conversation_are_answered_as_from_nothing(load, kind):
    eyes = load(kind)
    plain = forgetful(eyes)
    chat, expected = eyes.chat(medium_of(eyes)), plain.chat(medium_of(eyes))
    for options in ({}, {}, {"num_beams": 2}, {}, {"prompt_lookup_num_tokens": 3}, {"do_sample": True, "seed": 2}, {}):
        question = QUESTIONS[len(chat) % 4]
        same(chat.ask(question, **BRIEF, **options), expected.ask(question, **BRIEF, **options))
    same(chat.ask("And?", stream=True, **BRIEF).answer, expected.ask("And?", **BRIEF))
    same(chat.ask("So?", **BRIEF), expected.ask("So?", **BRIEF))


def test_a_conversation_with_media_added_later_is_answered_as_from_nothing(load):
    eyes = load("video-llava")
    chats = [each.chat(CLIP, system="Be brief.") for each in (eyes, forgetful(eyes))]
    for question, media in (
        ("What?", None),
        ("And this?", picture(1)),
        ("Both?", [picture(2), SHORT_CLIP]),
        ("So?", None),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            same(*(chat.ask(question, media=media, **BRIEF) for chat in chats))


def test_another_system_sentence_or_template_is_answered_as_from_nothing(load):
    eyes = load("video-llava")
    plain = forgetful(eyes)
    eyes.chat(CLIP).ask("What?", **BRIEF)
    for system in ("Be brief.", "Be kind.", None):
        same(
            eyes.chat(CLIP, system=system).ask("What?", **BRIEF), plain.chat(CLIP, system=system).ask("What?", **BRIEF)
        )
    for template in ("{}", "<video> {}", "USER: <video>\n{} ASSISTANT:", "Why <video>? {}"):
        same(eyes.ask(CLIP, "So?", template=template, **BRIEF), plain.ask(CLIP, "So?", template=template, **BRIEF))


def test_windows_are_answered_as_from_nothing_and_leave_nothing(watcher):
    answers = [each.ask(CLIP, "What is this?", windows=1, **BRIEF) for each in (watcher, forgetful(watcher))]
    same(*answers)
    same(*([window.answer for window in answer.windows] for answer in answers))
    assert watcher.cache.stats().entries == 0


@pytest.mark.parametrize("kind", ["opt", "video-llava"])
def test_rows_with_and_without_a_known_beginning_answer_as_they_do_alone(load, kind):
    eyes = load(kind)
    plain = forgetful(eyes)
    media = [picture(seed) for seed in (1, 2, 3, 4, 2, 1)]
    eyes.ask(media[1], "How many?", **BRIEF)
    eyes.chat(media[3]).ask("Why?", **BRIEF)
    questions = [*QUESTIONS, "Why?", "What?"]
    expected = [plain.ask(each, text, **BRIEF) for each, text in zip(media, questions)]
    same(eyes.ask(media, questions, **BRIEF), expected)
    eyes.cache.clear()
    same(eyes.ask(media, questions, num_beams=1, **BRIEF), expected)


@pytest.mark.parametrize("kind", ["opt", "video-llava", "instructblip-llama"])
def test_a_budget_too_small_for_anything_changes_no_answer(load, kind):
    eyes = load(kind)
    for budget in (1, 3000, 20_000, 60_000):
        small = Onlooker(eyes.model, eyes.processor, cache=Cache(budget))
        same(small.ask(medium_of(eyes), QUESTIONS, **BRIEF), forgetful(eyes).ask(medium_of(eyes), QUESTIONS, **BRIEF))
        chats = [each.chat(medium_of(eyes)) for each in (small, forgetful(eyes))]
        for question in QUESTIONS:
            same(*(chat.ask(question, **BRIEF) for chat in chats))
        assert small.cache.stats().bytes <= budget


def test_threads_that_ask_at_once_get_their_own_answers(load):
    eyes = load("video-llava")
    media = [CLIP, picture(1), picture(2)]
    expected = {(n, q): forgetful(eyes).ask(media[n], q, **BRIEF) for n in range(3) for q in QUESTIONS}
    tight = Onlooker(eyes.model, eyes.processor, cache=Cache(30_000))
    wrong: list[object] = []

    def work(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(expected))
        for key in (list(expected)[each] for each in order):
            answer = tight.ask(media[key[0]], key[1], **BRIEF)
            if answer.text != expected[key].text:
                wrong.append((key, answer))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = tight.cache.stats()
    assert not wrong and stats.bytes <= 30_000 and stats.evicted > 0


# -- it is used -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONTINUED)
def test_the_next_question_runs_only_its_own_words(load, kind):
    eyes = load(kind)
    medium = medium_of(eyes)
    eyes.ask(medium, "What is in the picture?", max_new_tokens=1)
    before = eyes.cache.stats().tokens_reused
    with counted(eyes) as (frames, positions):
        eyes.ask(medium, "How many cats are there?", max_new_tokens=1)
        eyes.rank(medium, "Is it raining?", ["yes", "no"])
        eyes.ask(medium, "Is it raining?", choices=["yes", "no"])
    known = eyes.encode(medium).num_tokens
    assert not frames and sum(positions) < 80 and (known < 10 or max(positions) < known)
    assert eyes.cache.stats().tokens_reused - before >= 3 * known


def test_an_instructblip_keeps_what_its_tower_saw(load):
    eyes = load("instructblip-llama")
    eyes.ask(CLIP, "What is in the picture?", **BRIEF)
    before = eyes.cache.stats()
    with counted(eyes) as (frames, _):
        eyes.ask(CLIP, "How many cats are there?", **BRIEF)
    after = eyes.cache.stats()
    assert not frames and after.misses == before.misses and after.tokens_reused == 0
    assert [after.hits[each] - before.hits.get(each, 0) for each in ("source", "features")] == [1, 1]


def test_ten_questions_about_one_clip_run_the_clip_once(load):
    eyes = load("video-llava")
    questions = [f"{text} {number}" for number in range(3) for text in QUESTIONS][:10]
    with counted(eyes) as (frames, positions):
        found = eyes.ask(CLIP, questions, max_new_tokens=1)
    clip = eyes.encode(CLIP).num_tokens
    words = [len(eyes._writer.text_ids(eyes._writer.question(text, ("video",)))) for text in questions]
    assert frames == [8] and sum(positions) < clip + 10 * max(words)
    same(found, forgetful(eyes).ask(CLIP, questions, max_new_tokens=1))


def test_a_turn_runs_only_what_is_new(load):
    eyes = load("video-llava")
    chat = eyes.chat(CLIP)
    chat.ask("What is in the picture?", **BRIEF)
    ran = []
    for question in ("Why?", "How many cats are there?", "Is it raining?"):
        before = len(eyes._writer.text_ids(eyes.chat_text(chat.messages)))
        with counted(eyes) as (frames, positions):
            chat.ask(question, max_new_tokens=8)
        ran.append(sum(positions))
        assert not frames and ran[-1] < before  # the conversation itself is not run again
    assert max(ran) < 50
    entries = eyes.cache.stats().entries
    chat.ask("And?", **BRIEF)
    assert eyes.cache.stats().entries == entries  # a turn takes the place of the one before


def test_pictures_arrays_and_files_are_known_by_their_content(load, tmp_path):
    eyes = load("video-llava")
    frames = onlooker.load_video(CLIP, num_frames=8)
    copy = Path(shutil.copy(CLIP, tmp_path / "other name.mp4"))
    eyes.encode(CLIP)
    with counted(eyes) as (ran, _):
        for each in (CLIP, copy, frames, frames.pixels.copy(), copy.read_bytes()):
            eyes.encode(each)
    assert not ran


def test_the_folder_serves_another_process(load, tmp_path):
    eyes = load("video-llava")
    first = Onlooker(eyes.model, eyes.processor, cache=Cache(folder=tmp_path))
    expected = first.ask(CLIP, QUESTIONS[0], **BRIEF)
    again = Onlooker(eyes.model, eyes.processor, cache=Cache(folder=tmp_path))
    with counted(eyes) as (frames, positions):
        same(again.ask(CLIP, QUESTIONS[0], **BRIEF), expected)
        same(again.ask(CLIP, QUESTIONS[1], **BRIEF), forgetful(eyes).ask(CLIP, QUESTIONS[1], **BRIEF))
    assert frames == [8] and again.cache.stats().folder_hits == 3  # the frames are those of the one from nothing
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-50])
    third = Onlooker(eyes.model, eyes.processor, cache=Cache(folder=tmp_path))
    same(third.ask(CLIP, QUESTIONS[0], **BRIEF), expected)
    assert third.cache.stats().folder_hits == 0


# -- it is nobody else's ----------------------------------------------------------------------------------------------


def test_a_changed_file_never_hits(load, tmp_path):
    import os

    eyes = load("video-llava")
    file = tmp_path / "clip.mp4"
    shutil.copy(CLIP, file)
    before = eyes.ask(file, "What?", **BRIEF)
    times = file.stat()
    data = file.read_bytes()
    other = (VIDEOS / "car_single_gop.mp4").read_bytes()
    file.write_bytes(other + b"\0" * (len(data) - len(other)) if len(other) < len(data) else other)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = eyes.ask(file, "What?", **BRIEF)
    same(after, forgetful(eyes).ask(file, "What?", **BRIEF))
    assert after.frames != before.frames


def test_other_frames_limits_and_settings_of_the_processor_are_looked_at_anew(load):
    eyes = load("video-llava")
    plain = forgetful(eyes)
    eyes.ask(CLIP, "What?", **BRIEF)
    for options in ({"start": 1}, {"sampling": "linspace"}, {"end": "0:02"}):
        answer = eyes.ask(CLIP, "What?", **BRIEF, **options)
        same(answer, plain.ask(CLIP, "What?", **BRIEF, **options))
        assert answer.frames == plain.ask(CLIP, "What?", **BRIEF, **options).frames
    with pytest.raises(onlooker.errors.MediaError, match="over the limit"):
        eyes.ask(CLIP, "What?", limits=onlooker.VideoLimits(max_seconds=1.0))
    old = eyes.processor.video_processor.image_mean
    try:
        eyes.processor.video_processor.image_mean = [0.1, 0.2, 0.3]
        same(eyes.ask(CLIP, "What?", **BRIEF), plain.ask(CLIP, "What?", **BRIEF))
    finally:
        eyes.processor.video_processor.image_mean = old


def test_models_that_share_a_cache_do_not_share_results(folders, load, tmp_path):
    from examples.random_checkpoint import write_checkpoint

    cache = Cache(2**28)
    other = write_checkpoint(tmp_path, "video-llava", image_size=28, num_query_tokens=4, seed=1)
    pair = [Onlooker.from_pretrained(each, dtype="fp32", cache=cache) for each in (folders["video-llava"], other)]
    for eyes in (*pair, *pair):
        same(eyes.ask(CLIP, "What is this?", **BRIEF), forgetful(eyes).ask(CLIP, "What is this?", **BRIEF))
    assert cache.stats().hits["source"] == 3  # pixels are the same for both


def test_weights_that_were_written_to_are_not_answered_for(folders):
    eyes = Onlooker.from_pretrained(folders["video-llava"], dtype="fp32")
    eyes.ask(CLIP, "What is this?", **BRIEF)
    with torch.no_grad():
        eyes.model.multi_modal_projector.linear_2.bias[3] += 5.0
    same(eyes.ask(CLIP, "What is this?", **BRIEF), forgetful(eyes).ask(CLIP, "What is this?", **BRIEF))


def test_warnings_about_a_file_are_given_each_time(load):
    eyes = load("instructblip-t5")
    for _ in range(2):
        with pytest.warns(UserWarning, match="frames wanted"):
            eyes.ask(SHORT_CLIP, "What?", num_frames=4, start=0.1, end=0.15, max_new_tokens=1)


def test_a_cache_is_one_pipelines_own_unless_it_is_given(load):
    eyes = load("opt")
    others = Onlooker(eyes.model, eyes.processor), Onlooker(eyes.model, eyes.processor, cache=eyes.cache)
    eyes.encode(picture(0))
    assert others[0].cache.stats().entries == 0 and others[1].cache.stats().entries == 1
    assert 2**28 <= others[0].cache.stats().memory_bytes <= 2 * 2**30


@pytest.mark.parametrize("kind", [kind for kind in CONTINUED if kind != "old"])  # there nothing is embedded of a medium
def test_of_a_prompt_that_goes_on_only_the_end_is_embedded(load, kind):
    eyes = Onlooker(load(kind).model, load(kind).processor)
    medium, counts = medium_of(eyes), []
    count = lambda _, given: counts.append(given[0].numel())  # noqa: E731
    hook = eyes.model.get_input_embeddings().register_forward_pre_hook(count)
    try:
        for _ in range(2):
            eyes.ask(medium, QUESTIONS[1], max_new_tokens=1)
    finally:
        hook.remove()
    first, second = counts
    assert 0 < second <= first - eyes.encode(medium).num_tokens
