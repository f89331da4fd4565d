"""Captions and answers: what the model generates, and only the new part of it."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from onlooker import Answer, Onlooker
from tests.pipeline.conftest import picture

PROMPT = "Question: What is in the picture? Answer:"


def inputs(eyes, image, text=PROMPT):
    return eyes.processor(Image.fromarray(image), text=text, return_tensors="pt")


def continuation(eyes, batch, **options):
    """New ids, straight from the model."""
    ids = eyes.model.generate(**batch, **options)
    return ids[:, 1 if eyes.model.config.is_encoder_decoder else batch["input_ids"].shape[1] :]


def own_logprob(eyes, batch, new):
    """The log-probability of new ids [1, T], from a plain forward without a cache."""
    with torch.no_grad():
        if eyes.model.config.is_encoder_decoder:
            start = torch.zeros(1, 1, dtype=torch.long)
            logits = eyes.model(**batch, decoder_input_ids=torch.cat([start, new[:, :-1]], 1)).logits
        else:
            ids = torch.cat([batch["input_ids"], new], 1)
            logits = eyes.model(batch["pixel_values"], ids).logits[:, -new.shape[1] - 1 : -1]
    return logits.log_softmax(-1).gather(2, new[..., None]).sum().item()


def test_an_answer_is_what_the_model_generates_without_the_prompt(eyes):
    new = continuation(eyes, inputs(eyes, picture(0)), max_new_tokens=9)
    answer = eyes.ask(picture(0), "What is in the picture?", max_new_tokens=9)
    assert isinstance(answer, Answer) and answer.frames is None
    assert answer.text == str(answer) == eyes.processor.decode(new[0], skip_special_tokens=True).strip()
    assert answer.num_tokens == new.shape[1]


def test_a_caption_without_a_prompt_is_generate_without_a_prompt(eyes):
    pixel_values = eyes.processor(Image.fromarray(picture(1)), return_tensors="pt").pixel_values
    ids = eyes.model.generate(pixel_values, max_new_tokens=8)
    new = ids[0, 1:] if eyes.model.config.is_encoder_decoder else ids[0, 5:]
    assert (
        eyes.caption(picture(1), max_new_tokens=8).text == eyes.processor.decode(new, skip_special_tokens=True).strip()
    )


@pytest.mark.parametrize("num_beams", [1, 3])
def test_logprob_is_the_models_own_for_the_tokens_of_the_answer(eyes, num_beams):
    options = {"max_new_tokens": 6, "num_beams": num_beams, "repetition_penalty": 1.3}
    batch = inputs(eyes, picture(2))
    answer = eyes.caption(picture(2), prompt=PROMPT, **options)
    new = continuation(eyes, batch, **options)[:, : answer.num_tokens]
    assert answer.logprob == pytest.approx(own_logprob(eyes, batch, new), abs=1e-3)  # float32, another order of sums


def test_an_answer_says_why_it_ended(eyes):
    first = continuation(eyes, inputs(eyes, picture(3)), max_new_tokens=3)[0].tolist()
    assert eyes.caption(picture(3), prompt=PROMPT, max_new_tokens=3).finish_reason == "length"
    ended = eyes.caption(picture(3), prompt=PROMPT, max_new_tokens=30, eos_token_id=first[0])
    assert (ended.finish_reason, ended.num_tokens, ended.text) == ("stop", 1, "")
    assert eyes.caption(picture(3), prompt=PROMPT, max_new_tokens=30, max_time=0.0).finish_reason == "time"


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(load):
    eyes = load("opt")
    whole = eyes.caption(picture(4), prompt=PROMPT, max_new_tokens=12).text
    stop = whole[4:6]
    cut = eyes.caption([picture(4), picture(5)], prompt=PROMPT, max_new_tokens=12, stop=stop)[0]
    assert cut.text == whole[: whole.index(stop)].strip()
    assert cut.finish_reason == "stop" and cut.num_tokens < 12
    streamed = eyes.caption(picture(4), prompt=PROMPT, max_new_tokens=12, stop=stop, stream=True)
    assert "".join(streamed) == cut.text


def test_rows_of_a_batch_answer_as_they_do_alone(eyes):
    questions = ["Is it raining?", "What is in the picture on the wooden table?", "Why"]
    images = [picture(6), picture(7, 50, 20), picture(8, 28, 28)]
    together = eyes.ask(images, questions, max_new_tokens=7)
    alone = [eyes.ask(image, text, max_new_tokens=7) for image, text in zip(images, questions)]
    assert [each.text for each in together] == [each.text for each in alone]
    assert [each.logprob for each in together] == pytest.approx([each.logprob for each in alone], abs=1e-3)


def test_a_row_that_ends_early_counts_its_own_tokens_only(load):
    eyes = load("opt")
    images = [picture(6), picture(7)]
    free = [continuation(eyes, inputs(eyes, image), max_new_tokens=8)[0].tolist() for image in images]
    end = next(token for token in free[0] if token not in free[1])  # ends the first row, and not the second
    together = eyes.caption(images, prompt=PROMPT, max_new_tokens=8, eos_token_id=end)
    assert [each.finish_reason for each in together] == ["stop", "length"]
    assert together[0].num_tokens == free[0].index(end) + 1
    new = torch.tensor([free[0][: together[0].num_tokens]])
    assert together[0].logprob == pytest.approx(own_logprob(eyes, inputs(eyes, images[0]), new), abs=1e-3)


def test_lists_in_lists_out(eyes):
    one = eyes.caption(picture(0), max_new_tokens=3)
    assert eyes.caption([picture(0)], max_new_tokens=3)[0].text == one.text
    assert len(eyes.ask(picture(0), ["a", "b", "c"], max_new_tokens=2)) == 3
    assert len(eyes.ask([picture(0), picture(1)], "a", max_new_tokens=2)) == 2
    assert eyes.caption([]) == []
    with pytest.raises(ValueError, match="2 images and 3 texts"):
        eyes.ask([picture(0), picture(1)], ["a", "b", "c"])


def test_more_images_than_a_batch_holds_keep_their_order(load):
    eyes = load("opt")
    small = Onlooker(eyes.model, eyes.processor, batch_size=2)
    images = [picture(seed) for seed in range(5)]
    expected = [each.text for each in eyes.caption(images, max_new_tokens=4)]
    assert [each.text for each in small.caption(images, max_new_tokens=4)] == expected


def test_an_encoded_image_is_not_run_again(eyes):
    runs = []
    handle = eyes.model.vision_model.register_forward_hook(lambda *_: runs.append(1))
    try:
        seen = eyes.encode(picture(9))
        first = eyes.ask(seen, "What is in the picture?", max_new_tokens=5)
        eyes.rank(seen, "Is it raining?", ["yes", "no"])
        eyes.ask(seen, ["a", "b"] * 9, max_new_tokens=1)
        assert len(runs) == 1
        eyes.ask(picture(10), ["a", "b"] * 9, max_new_tokens=1)  # one image, encoded once for all its questions
        assert len(runs) == 2
    finally:
        handle.remove()
    assert first.text == eyes.ask(picture(9), "What is in the picture?", max_new_tokens=5).text
    assert "40x30" in repr(seen)


def test_an_image_encoded_by_another_model_is_refused(load):
    seen = load("t5").encode(picture(0))
    with pytest.raises(ValueError, match="another model"):
        load("opt").caption(seen)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (1, 7), (40, 3)])
def test_images_of_every_kind_and_size_give_the_same_answer(load, tmp_path, size):
    eyes, pixels = load("opt"), picture(10, *size)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    kinds = [pixels, path, str(path), path.read_bytes(), Image.open(path), io.BytesIO(path.read_bytes())]
    answers = {eyes.caption(kind, max_new_tokens=6).text for kind in kinds}
    assert len(answers) == 1


def test_transparency_is_seen_on_white(load):
    eyes = load("opt")
    clear = np.zeros((30, 40, 4), dtype=np.uint8)
    white = np.full((30, 40, 3), 255, dtype=np.uint8)
    seen, wanted = eyes.encode(Image.fromarray(clear)), eyes.encode(white)
    assert torch.equal(seen.features, wanted.features)


def test_a_seed_repeats_a_sample_whatever_stands_beside_it(eyes):
    options = {"do_sample": True, "temperature": 1.5, "seed": 7, "max_new_tokens": 8}
    alone = eyes.caption(picture(11), **options)
    assert eyes.caption(picture(11), **options).text == alone.text
    assert eyes.caption([picture(12), picture(11)], **options)[1].text == alone.text
    assert eyes.caption(picture(11), **{**options, "seed": 8}).text != alone.text


def test_a_stream_joins_up_to_the_answer(eyes):
    options = {"max_new_tokens": 15, "do_sample": True, "seed": 1}  # what greedy search finds here is too dull
    whole = eyes.ask(picture(13), "Why?", **options)
    stream = eyes.ask(picture(13), "Why?", **options, stream=True)
    pieces = list(stream)
    assert "".join(pieces) == whole.text and len(pieces) > 1
    assert stream.answer == whole


def test_the_end_token_is_no_text_in_a_stream_either(load):
    eyes = load("opt")
    words = continuation(eyes, inputs(eyes, picture(4)), max_new_tokens=12)[0].tolist()
    end = next(token for token in words[1:] if token != words[0] and eyes.processor.decode([token]).strip())
    options = {"prompt": PROMPT, "max_new_tokens": 12, "eos_token_id": end}
    whole = eyes.caption(picture(4), **options)
    assert whole.finish_reason == "stop" and whole.text
    assert "".join(eyes.caption(picture(4), **options, stream=True)) == whole.text


def test_a_closed_stream_stops_the_model(load):
    with load("opt").caption(picture(14), max_new_tokens=400, eos_token_id=[], stream=True) as stream:
        next(stream)
    assert stream.answer.finish_reason == "cancelled"
    assert stream.answer.num_tokens < 400


def test_an_error_in_a_stream_reaches_its_reader(load):
    with pytest.raises(ValueError, match="temperature"):
        list(load("opt").caption(picture(0), stream=True, do_sample=True, temperature=-1.0))


def test_what_cannot_be_streamed_is_refused(load):
    for options in ({"num_beams": 2}, {"prompt": ["a", "b"]}):
        with pytest.raises(ValueError, match="stream=True"):
            load("opt").caption(picture(0), stream=True, **options)


def test_files_of_the_older_layout_answer_as_their_model_does(load):
    eyes = load("old")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the processor and the model each say once what they do with old files
        new = continuation(eyes, inputs(eyes, picture(15)), max_new_tokens=6)
    answer = eyes.caption([picture(15), picture(16)], prompt=[PROMPT, "a"], max_new_tokens=6)[0]
    assert answer.text == eyes.processor.decode(new[0], skip_special_tokens=True).strip()


def test_a_template_without_a_place_for_the_question_is_refused(load):
    with pytest.raises(ValueError, match="has no {}"):
        load("opt").ask(picture(0), "Why?", template="Question:")


def test_a_checkpoint_for_matching_says_which_kind_writes(load):
    for call in (lambda eyes: eyes.caption(picture(0)), lambda eyes: eyes.rank(picture(0), "a", ["b"])):
        with pytest.raises(ValueError, match="Salesforce/blip2-opt-2.7b"):
            call(load("matching"))


def test_the_choice_of_dtype_and_device_is_told(load):
    assert "float32" in load("opt").description and "on cpu" in load("opt").description


def test_an_unknown_device_is_refused_in_words(folders):
    with pytest.raises(ValueError, match="give cpu, cuda"):
        Onlooker.from_pretrained(folders["opt"], device="gpu")
