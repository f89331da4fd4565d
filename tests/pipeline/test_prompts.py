"""Prompts: the ids are the processor's, and what is shown is what is given; streams trim as answers do."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st
from PIL import Image

from onlooker.pipeline import PromptWriter
from onlooker.pipeline.streaming import Trimmer
from tests.pipeline.conftest import picture


@pytest.mark.parametrize("text", ["", "Question: What is in the picture? Answer:", "a photo of"])
def test_prompts_are_what_the_processor_writes(eyes, text):
    expected = eyes.processor(Image.fromarray(picture(0)), text=text)["input_ids"]
    prompt = eyes.show_prompt(picture(0), text)
    assert [list(prompt.input_ids)] == expected
    assert (prompt.num_placeholders, prompt.num_prepended) == (4, 0)
    assert prompt.pixel_shape == (1, 3, 28, 28) and prompt.image_size == (40, 30)
    assert f"{len(expected[0])} = 4 placeholders" in str(prompt)
    assert text in str(prompt)


def test_files_of_the_older_layout_show_what_the_model_puts_in_front(load):
    prompt = load("old").show_prompt(picture(0), "a photo of")
    assert (prompt.num_placeholders, prompt.num_prepended) == (0, 4)
    assert prompt.num_tokens == len(prompt.input_ids) + 4
    assert "4 for the image, put in front by the model" in str(prompt)


def test_a_prompt_is_shown_without_weights(folders, tmp_path):
    for file in folders["opt"].iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert "<image> x 4 </s>a photo of" in str(PromptWriter.from_pretrained(tmp_path).show(picture(0), "a photo of"))


@hypothesis.given(
    pieces=st.lists(st.text(alphabet="ab \nU:", max_size=4), max_size=8),
    stop=st.lists(st.sampled_from(["\n", "ab", "U:", "\n\nU", "bb", " a"]), max_size=2),
)
def test_a_trimmed_stream_joins_up_to_the_trimmed_text(pieces, stop):
    trimmer = Trimmer(stop)
    shown = "".join([trimmer.put(piece) for piece in pieces]) + trimmer.end()
    text = "".join(pieces)
    places = [place for place in (text.find(each) for each in stop) if place >= 0]
    assert shown == text[: min(places, default=len(text))].strip()
