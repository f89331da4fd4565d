"""Answers about clips: those of the models themselves, whatever the clip comes in, with the frames named."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import onlooker
from onlooker import Onlooker
from onlooker.errors import MediaError
from onlooker.media import VideoLimits
from onlooker.pipeline.times import clock, parse_seconds
from tests.pipeline.conftest import CLIP, SHORT_CLIP, VIDEOS, picture

QUESTION = "What is in the picture?"
BRIEF = {"max_new_tokens": 6}


def is_llava(eyes):
    return eyes.family == "Video-LLaVA"


def batch_of(eyes, media, question=QUESTION):
    """One prompt with one medium through the documented processor."""
    if not is_llava(eyes):
        options = {"resize_with": "pillow"} if isinstance(media, np.ndarray) else {}
        clip = [Image.fromarray(media)] if isinstance(media, np.ndarray) else media
        return eyes.processor(images=[clip], text=question, return_tensors="pt", **options)
    if isinstance(media, np.ndarray):
        return eyes.processor(text=f"USER: <image>\n{question} ASSISTANT:", images=Image.fromarray(media))
    return eyes.processor(text=f"USER: <video>\n{question} ASSISTANT:", videos=[media])


def generated(eyes, batch, **options):
    """New text straight from the model."""
    ids = eyes.model.generate(**batch, **options)
    start = 1 if eyes.model.config.get_text_config().is_encoder_decoder else batch["input_ids"].shape[1]
    return eyes.processor.decode(ids[0, start:], skip_special_tokens=True).strip()


def count(eyes):
    return 8 if is_llava(eyes) else 4


def test_an_answer_about_a_clip_is_what_the_model_generates(watcher):
    frames = onlooker.load_video(CLIP, num_frames=count(watcher))
    answer = watcher.ask(CLIP, QUESTION, **BRIEF)
    assert answer.text == generated(watcher, batch_of(watcher, frames), **BRIEF)
    assert answer.frames.indices == tuple(frames.indices) and answer.frames.seconds == tuple(frames.seconds)


def test_an_answer_about_a_picture_is_what_the_model_generates(watcher):
    answer = watcher.ask(picture(0), QUESTION, **BRIEF)
    assert answer.text == generated(watcher, batch_of(watcher, picture(0)), **BRIEF)
    assert answer.frames is None


@pytest.mark.parametrize("kind", ["instructblip-llama", "instructblip-t5", "instructblip-opt"])
def test_checkpoints_for_pictures_answer_as_their_own_class_does(load, folders, kind):
    processor = onlooker.InstructBlipProcessor.from_pretrained(folders[kind])
    model = onlooker.InstructBlipForConditionalGeneration.from_pretrained(folders[kind]).eval()
    batch = processor(images=Image.fromarray(picture(1)), text=QUESTION, return_tensors="pt")
    with torch.no_grad():
        patches = model.vision_model(batch["pixel_values"], return_dict=True).last_hidden_state
    assert torch.equal(load(kind).encode(picture(1)).features, patches)  # resized as pictures are, not as clips
    ids = model.generate(**batch, **BRIEF)
    new = ids[0, 1 if kind.endswith("t5") else batch["input_ids"].shape[1] :]
    assert load(kind).ask(picture(1), QUESTION, **BRIEF).text == processor.decode(new, skip_special_tokens=True).strip()


@pytest.mark.parametrize("media", [picture(0), CLIP], ids=["picture", "clip"])
def test_prompts_of_all_families_are_what_the_processor_writes(watcher, media):
    opened = watcher.load(media)
    batch = batch_of(watcher, opened)
    text = f"USER: <{'video' if media is CLIP else 'image'}>\n{QUESTION} ASSISTANT:" if is_llava(watcher) else QUESTION
    prompt = watcher.show_prompt(media, text)
    assert list(prompt.input_ids) == batch["input_ids"][0].tolist()
    assert prompt.pixel_shape == tuple(batch[prompt.pixel_name].shape)
    assert prompt.num_placeholders == sum(token == max(prompt.input_ids) for token in prompt.input_ids) or (
        prompt.num_placeholders > 3
    )
    assert f"x {prompt.num_placeholders} " in prompt.written and f"{prompt.kind}  " in str(prompt)
    assert (prompt.instruction is None) == is_llava(watcher)


def test_the_qformer_is_told_the_question_not_the_prompt(load):
    eyes = load("instructblip-t5")
    frames = eyes.load(CLIP)
    batch = batch_of(eyes, frames, "Answer this: Why?")
    told = eyes.processor.qformer_tokenizer(["Why?"], return_token_type_ids=False, return_tensors="pt")
    batch |= {"qformer_input_ids": told["input_ids"], "qformer_attention_mask": told["attention_mask"]}
    assert eyes.ask(frames, "Why?", template="Answer this: {}", **BRIEF).text == generated(eyes, batch, **BRIEF)


def test_rows_of_pictures_and_unlike_clips_answer_as_they_do_alone(watcher):
    media = [CLIP, picture(2), onlooker.load_video(SHORT_CLIP, num_frames=3), onlooker.load_video(CLIP, num_frames=5)]
    questions = ["Why?", QUESTION, "Is it raining on the table?", "How many?"]
    together = watcher.ask(media, questions, **BRIEF)
    alone = [watcher.ask(each, text, **BRIEF) for each, text in zip(media, questions)]
    assert [each.text for each in together] == [each.text for each in alone]
    assert [each.logprob for each in together] == pytest.approx([each.logprob for each in alone], abs=1e-3)
    assert [each.frames for each in together] == [each.frames for each in alone]


def test_a_clip_encoded_once_is_asked_often(watcher):
    runs = []
    tower = watcher.model.video_tower if is_llava(watcher) else watcher.model.vision_model
    first = tower.vision_model.embeddings if is_llava(watcher) else tower
    handle = first.register_forward_hook(lambda *_: runs.append(1))
    try:
        seen = watcher.encode(CLIP)
        first = [watcher.ask(seen, text, **BRIEF) for text in ("Why?", QUESTION)]
        watcher.rank(seen, "Is it raining?", ["yes", "no"])
        assert len(runs) == 1
    finally:
        handle.remove()
    fresh = [watcher.ask(CLIP, text, **BRIEF) for text in ("Why?", QUESTION)]
    assert [each.text for each in first] == [each.text for each in fresh]
    assert first[0].frames == fresh[0].frames is not None
    assert f"{count(watcher)} frames of 480x270" in repr(seen)
    with pytest.raises(ValueError, match="give num_frames and the like to encode"):
        watcher.ask(seen, "Why?", num_frames=2)


def test_a_rank_about_a_clip_is_the_log_likelihood(watcher):
    frames = watcher.load(CLIP)
    batch = batch_of(watcher, frames)
    tokenizer, config = watcher.processor.tokenizer, watcher.model.config
    ends = watcher.model.generation_config.eos_token_id
    ranked = {each.text: each.logprob for each in watcher.rank(frames, QUESTION, ["a cup", "two"])}
    for text, logprob in ranked.items():
        with torch.no_grad():
            if config.get_text_config().is_encoder_decoder:
                new = torch.tensor([tokenizer(text)["input_ids"]])
                start = torch.zeros(1, 1, dtype=torch.long)
                logits = watcher.model(**batch, decoder_input_ids=torch.cat([start, new[:, :-1]], 1)).logits
            else:
                prompt = f"USER: <video>\n{QUESTION} ASSISTANT:" if is_llava(watcher) else QUESTION
                given, whole = tokenizer(prompt)["input_ids"], tokenizer(f"{prompt} {text}")["input_ids"]
                assert whole[: len(given)] == given
                new = torch.tensor([[*whole[len(given) :], ends]])
                ids = torch.cat([batch["input_ids"], new], 1)
                rest = {name: each for name, each in batch.items() if name not in ("input_ids", "attention_mask")}
                logits = watcher.model(input_ids=ids, **rest).logits[:, -new.shape[1] - 1 : -1]
        expected = logits.log_softmax(-1).gather(2, new[..., None]).sum().item()
        assert logprob == pytest.approx(expected, abs=1e-3)  # float32, another order of sums


def test_choices_give_the_likeliest_of_them(watcher):
    ranked = watcher.rank(CLIP, QUESTION, ["a cup", "two"])
    answer = watcher.ask(CLIP, QUESTION, choices=["two", "a cup"])
    assert (answer.text, answer.finish_reason) == (ranked[0].text, "stop")
    assert answer.logprob == pytest.approx(ranked[0].logprob, abs=1e-3) and answer.frames is not None


def test_clips_of_every_kind_give_the_same_answer(load, tmp_path):
    given = load("video-llava")
    eyes = Onlooker(given.model, given.processor)
    frames = onlooker.load_video(SHORT_CLIP, sampling="all")
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, image in enumerate(frames.to_pil()):
        image.save(folder / f"{number}.png")
    data = Path(SHORT_CLIP).read_bytes()
    kinds = [
        *(SHORT_CLIP, data, io.BytesIO(data), f"data:video/mp4;base64,{base64.b64encode(data).decode()}", frames),
        *(frames.pixels, torch.from_numpy(frames.pixels).permute(0, 3, 1, 2), frames.to_pil(), folder),
    ]
    with pytest.warns(UserWarning, match="5 frames of a clip"):
        answers = {answer.text for answer in eyes.ask(kinds, "Why?", num_frames=5, **BRIEF)}
    assert len(answers) == 1
    assert eyes.ask(SHORT_CLIP, "Why?", num_frames=5, **BRIEF).text in answers


def test_what_a_file_is_its_content_says(load, tmp_path):
    eyes = load("video-llava")
    shutil.copy(CLIP, tmp_path / "clip.jpg")
    Image.fromarray(picture(3)).save(tmp_path / "picture.mp4", format="png")
    gif = str(VIDEOS / "people_detection.gif")
    still = tmp_path / "still.gif"
    Image.fromarray(picture(3)).save(still)
    kinds = [eyes.encode(each).kind for each in (tmp_path / "clip.jpg", tmp_path / "picture.mp4", gif, still)]
    assert kinds == ["video", "image", "video", "image"]
    assert load("opt").encode(gif).kind == "image"  # a family for pictures takes the first of them


def test_a_family_for_pictures_says_what_a_video_needs(load):
    for clip in (CLIP, np.zeros((3, 8, 8, 3), np.uint8), onlooker.load_video(SHORT_CLIP, num_frames=2)):
        with pytest.raises(MediaError, match="BLIP-2 takes images.*Video-LLaVA-7B-hf"):
            load("opt").caption(clip)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("audio_only_bear.ogg", "no video stream"),
        ("cover_art.mp3", "no video stream"),
        ("text.mp4", "damaged or not a video"),
        ("gone.mp4", "no such file"),
    ],
)
def test_what_cannot_be_read_says_why_and_leaves_the_others(load, name, message):
    eyes = load("video-llava")
    with pytest.raises((MediaError, OSError), match=message):
        eyes.caption(str(VIDEOS / name))
    found = eyes.caption([CLIP, str(VIDEOS / name), picture(4)], errors="return", **BRIEF)
    assert message in str(found[1]) and isinstance(found[1], Exception)
    assert [each.text for each in found[::2]] == [each.text for each in eyes.caption([CLIP, picture(4)], **BRIEF)]
    with pytest.raises(ValueError, match="'raise' or 'return'"):
        eyes.caption(CLIP, errors="ignore")


def test_other_frames_can_be_asked_for_and_another_number_warns_once(load):
    given = load("video-llava")
    eyes = Onlooker(given.model, given.processor)
    part = eyes.encode(CLIP, start="0:01", end="0:02.5")
    assert part.frames.seconds[0] >= 1.0 and part.frames.seconds[-1] < 2.5
    assert eyes.encode(CLIP, sampling="linspace").frames.indices[-1] == 89
    with pytest.warns(UserWarning, match="3 frames of a clip; Video-LLaVA was trained with 8"):
        assert len(eyes.encode(CLIP, num_frames=3).frames.indices) == 3
    assert len(eyes.encode(CLIP, num_frames=5).frames.indices) == 5  # warnings are errors here: no second one


def test_too_few_frames_are_repeated_with_a_warning(load):
    with pytest.warns(UserWarning, match="8 frames wanted, 5 found"):
        seen = load("video-llava").encode(SHORT_CLIP)
    assert seen.frames.indices == (0, 0, 1, 1, 2, 3, 3, 4)


def test_captions_ask_in_the_words_of_the_family(load):
    llava, blip = load("video-llava"), load("instructblip-t5")
    frames = llava.load(CLIP)
    asked = llava.ask(frames, "Describe the video.", **BRIEF)
    assert llava.caption(frames, **BRIEF).text == asked.text
    begun = llava.caption(frames, prompt="a photo of", **BRIEF)
    text = "USER: <video>\nDescribe the video. ASSISTANT: a photo of"
    assert begun.text == generated(llava, llava.processor(text=text, videos=[frames]), **BRIEF)
    assert blip.caption(CLIP, **BRIEF).text == blip.ask(CLIP, "A short video description.", **BRIEF).text


def test_a_prompt_of_ones_own_may_place_the_clip_itself(load):
    eyes = load("video-llava")
    frames = eyes.load(CLIP)
    inside = eyes.ask(frames, "Why?", template="A: <video> {}", **BRIEF)
    assert inside.text == generated(eyes, eyes.processor(text="A: <video> Why?", videos=[frames]), **BRIEF)
    front = eyes.ask(frames, "Why?", template="Q: {}", **BRIEF)
    assert front.text == generated(eyes, eyes.processor(text="<video>\nQ: Why?", videos=[frames]), **BRIEF)
    with pytest.raises(ValueError, match="2 <video> in the prompt, but 1 video"):
        eyes.ask(frames, "Why?", template="<video> <video> {}")


def test_the_papers_video_llava_is_asked_and_shown_frames_as_it_was_trained(load):
    published = load("video-llava")
    config = onlooker.VideoLlavaConfig.from_dict(published.model.config.to_dict() | {"video_time_frames": 8})
    torch.manual_seed(0)
    eyes = Onlooker(onlooker.VideoLlavaForConditionalGeneration(config).eval(), published.processor)
    frames = onlooker.load_video(CLIP, num_frames=8, sampling="linspace")
    text = eyes.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "video", "video": frames}, {"type": "text", "text": "Why?"}]}],
        chat_template="paper",
        add_generation_prompt=True,
    )
    assert text.startswith("A chat between")
    answer = eyes.ask(CLIP, "Why?", **BRIEF)
    assert answer.frames.indices == tuple(frames.indices)
    assert answer.text == generated(eyes, eyes.processor(text=text, videos=[frames]), **BRIEF)
    with pytest.warns(UserWarning, match="trained with 8"), pytest.raises(ValueError, match="num_frames=8"):
        eyes.ask(CLIP, "Why?", num_frames=4)


def test_a_model_for_pictures_says_how_to_load_it_instead(folders, load):
    model = onlooker.InstructBlipForConditionalGeneration.from_pretrained(folders["instructblip-t5"])
    with pytest.raises(ValueError, match="InstructBlipVideoForConditionalGeneration"):
        Onlooker(model, load("instructblip-t5").processor)


def test_a_prompt_longer_than_the_language_model_can_read_is_refused_or_told(load):
    with pytest.raises(ValueError, match="has 512; use fewer frames"):
        load("instructblip-opt").ask(CLIP, "Why?", template="{}" + " Why?" * 300)
    with pytest.warns(UserWarning, match="has 4096"):
        load("instructblip-llama").ask(picture(0), "Why?", max_new_tokens=1, template="{}" + " cup" * 4100)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0:10", 10), ("1:02:03.5", 3723.5), ("7", 7), (2.5, 2.5), ("0:02,25", 2.25), (None, None)]
)
def test_times_are_read_as_they_are_written(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["abc", "1:2:3:4", "-1", -1.0, float("nan"), ""])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="is not a time"):
        parse_seconds(text)


def test_clocks_round_and_carry():
    assert [clock(each) for each in (0, 59.999, 3600.5, float("nan"))] == ["0:00.00", "1:00.00", "1:00:00.50", "-"]
    assert clock(59.6, 0) == "1:00"


@pytest.mark.filterwarnings("ignore:70 frames of a clip")
def test_limits_are_raised_by_argument(watcher):
    with pytest.raises(MediaError, match="70 frames are over the limit of 64"):
        watcher.load(CLIP, num_frames=70)
    assert len(watcher.load(CLIP, num_frames=70, limits=VideoLimits(max_frames=70))) == 70
    wide = np.zeros((24, 6000, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    with pytest.raises(MediaError, match="250:1, over the limit of 200:1"):
        watcher.load(file.getvalue())
    assert watcher.load(file.getvalue(), limits=VideoLimits(max_side_ratio=None)).shape == wide.shape
    with pytest.raises(MediaError, match="over the limit of 0.25 MiB"):
        watcher.ask(bytes(2**19), "Why?", limits=VideoLimits(max_bytes=2**18))


def test_a_rank_takes_the_frames_that_are_asked_for(watcher):
    chosen = {"start": "0:01", "end": 2.0, "num_frames": count(watcher)}
    seen = watcher.encode(CLIP, **chosen)
    wanted = [each.logprob for each in watcher.rank(seen, QUESTION, ["a cup", "two"])]
    for media, pick in ((CLIP, lambda ranked: ranked), ([CLIP], lambda ranked: ranked[0])):
        got = pick(watcher.rank(media, QUESTION, ["a cup", "two"], **chosen))
        assert [each.logprob for each in got] == pytest.approx(wanted, abs=1e-4)
    whole = [each.logprob for each in watcher.rank(CLIP, QUESTION, ["a cup", "two"])]
    assert whole != pytest.approx(wanted, abs=1e-6)
