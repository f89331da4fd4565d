"""Ranking and matching: numbers that agree with the model asked directly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from onlooker import load_video
from onlooker.errors import CheckpointError
from onlooker.language import continuations
from tests.pipeline.conftest import CLIP, picture
from tests.pipeline.test_answers import PROMPT, inputs, own_logprob

CANDIDATES = ["cup", "a cat on a chair", "coffee on a wooden table", "two"]


def candidate_ids(eyes, candidate):
    tokenizer = eyes.processor.tokenizer
    if eyes.model.config.is_encoder_decoder:
        return torch.tensor([tokenizer(candidate)["input_ids"]])  # its end token comes with it
    before, whole = (tokenizer(text)["input_ids"] for text in (PROMPT, f"{PROMPT} {candidate}"))
    assert whole[: len(before)] == before
    return torch.tensor([[*whole[len(before) :], eyes.model.generation_config.eos_token_id]])


def test_a_rank_is_the_log_likelihood_of_the_whole_candidate(eyes):
    ranked = eyes.rank(picture(0), "What is in the picture?", CANDIDATES)
    batch = inputs(eyes, picture(0))
    for each in ranked:
        ids = candidate_ids(eyes, each.text)
        assert each.num_tokens == ids.shape[1]
        assert each.logprob == pytest.approx(own_logprob(eyes, batch, ids), abs=1e-3)  # float32, other order of sums


def test_ranks_come_sorted_and_their_probabilities_sum_to_one(eyes):
    ranked = eyes.rank(picture(1), "Why?", CANDIDATES)
    assert [each.logprob for each in ranked] == sorted((each.logprob for each in ranked), reverse=True)
    assert sum(each.probability for each in ranked) == pytest.approx(1)
    assert {str(each) for each in ranked} == set(CANDIDATES)


def test_the_prefix_of_all_candidates_runs_once(eyes):
    shapes = []
    first_layer = next(
        module for name, module in eyes.model.language_model.named_modules() if name.endswith(("layers.0", "block.0"))
    )
    handle = first_layer.register_forward_pre_hook(
        lambda module, arguments, options: shapes.append(arguments[0].shape[:2]), with_kwargs=True
    )
    try:
        eyes.rank(picture(2), "What is in the picture?", CANDIDATES)
    finally:
        handle.remove()
    passes = 1 if eyes.model.config.is_encoder_decoder else 2  # the encoder reads the prompt only
    assert len(shapes) == passes and all(rows == 1 for rows, _ in shapes), "the prompt, then all side by side"


def test_many_candidates_are_ranked_as_few(eyes, monkeypatch):
    expected = {each.text: each.logprob for each in eyes.rank(picture(3), "Why?", CANDIDATES)}
    monkeypatch.setattr(continuations, "TOKENS_AT_ONCE", 3)
    for each in eyes.rank(picture(3), "Why?", CANDIDATES):
        assert each.logprob == pytest.approx(expected[each.text], abs=1e-3)


def test_lists_of_images_give_lists_of_ranks(eyes):
    results = eyes.rank([picture(4), picture(5)], "Why?", CANDIDATES[:2])
    assert [len(ranked) for ranked in results] == [2, 2]
    assert results[1][0].logprob == pytest.approx(eyes.rank(picture(5), "Why?", CANDIDATES[:2])[0].logprob, abs=1e-3)


@pytest.mark.parametrize(
    ("candidates", "message"), [([], "at least one"), (["a", "b", "a"], "'a' is there more"), ("yes", "must be a list")]
)
def test_candidates_that_make_no_choice_are_refused(load, candidates, message):
    with pytest.raises(ValueError, match=message):
        load("opt").rank(picture(0), "Why?", candidates)


TEXTS = ["a cup of coffee", "two", "a cat sitting on a chair, it's sunny and warm"]


def reference(eyes, image, text):
    """Matching probability and similarity from one plain forward for each."""
    batch = eyes.processor(Image.fromarray(image), text=text, return_tensors="pt")
    with torch.no_grad():
        matched = eyes.model(**batch, use_image_text_matching_head=True).logits_per_image
        compared = eyes.model(**batch).logits_per_image
    return matched.softmax(1)[0, 1].item(), compared[0, 0].item()


@pytest.mark.filterwarnings("ignore:This processor has no num_query_tokens")  # matching checkpoints have none
def test_matches_are_the_models_own_scores_in_any_company(load):
    eyes = load("matching")
    found = eyes.match([picture(0), picture(1)], TEXTS)
    for image, matches in zip((picture(0), picture(1)), found):
        for text, each in zip(TEXTS, matches):
            assert each.text == text
            # float32; padded beside longer texts
            assert (each.probability, each.similarity) == pytest.approx(reference(eyes, image, text), abs=1e-5)


def test_shares_are_a_softmax_over_the_texts_and_absent_for_one(load):
    eyes = load("matching")
    matches = eyes.match(picture(2), TEXTS)
    similarities = torch.tensor([each.similarity for each in matches])
    assert [each.share for each in matches] == pytest.approx(similarities.softmax(0).tolist())
    assert eyes.match(picture(2), TEXTS[0]).share is None
    assert eyes.match(picture(2), TEXTS[:1])[0].share is None


def test_an_encoded_image_is_matched_without_running_again(load):
    eyes = load("matching")
    seen = eyes.encode(picture(3))
    handle = eyes.model.vision_model.register_forward_hook(lambda *_: pytest.fail("the vision tower ran again"))
    try:
        matches = eyes.match(seen, TEXTS)
    finally:
        handle.remove()
    assert [each.probability for each in matches] == [each.probability for each in eyes.match(picture(3), TEXTS)]


@pytest.mark.parametrize("kind", ["opt", "t5"])
def test_a_checkpoint_that_writes_says_which_kind_matches(load, kind):
    with pytest.raises(ValueError, match="Salesforce/blip2-itm-vit-g"):
        load(kind).match(picture(0), "a cup")


def test_no_texts_to_match_are_refused(load):
    with pytest.raises(ValueError, match="at least one text"):
        load("matching").match(picture(0), [])


def test_query_sampling_takes_the_frames_that_fit_the_question_best(load):
    eyes, question = load("matching"), "a cat on a chair"
    clip = np.stack([picture(seed) for seed in range(12)])
    fits = [match.similarity for match in eyes.match(list(clip), question)]
    frames = load_video(clip, num_frames=3, sampling="query", score=eyes.scorer(question))
    assert sorted(frames.indices) == sorted(np.argsort(fits)[-3:])
    assert eyes.scorer(question)(clip) == pytest.approx(fits, abs=1e-5)
    with pytest.raises(CheckpointError, match="Load one of the matching kind"):
        load("opt").scorer(question)


def test_a_scorer_leaves_the_matching_head_alone(load, monkeypatch):
    eyes = load("matching")
    monkeypatch.setattr(eyes.model, "match", lambda *_, **__: pytest.fail("the matching head ran"))
    assert len(eyes.scorer("a cat")([picture(seed) for seed in range(11)])) == 11


@pytest.mark.parametrize("kind", ["instructblip-t5", "video-llava"])
def test_a_clip_is_asked_about_by_the_frames_that_fit_best(load, kind):
    eyes, score, question = load(kind), load("matching").scorer("a cat"), "What is in the picture?"
    wanted = load_video(CLIP, num_frames=eyes.load(CLIP).shape[0], sampling="query", score=score)
    assert wanted.indices != load_video(CLIP, num_frames=len(wanted)).indices
    answer = eyes.ask(CLIP, question, score=score, max_new_tokens=3)
    assert list(answer.frames.indices) == list(wanted.indices)
    assert answer.text == eyes.ask(wanted, question, max_new_tokens=3).text
    assert list(eyes.caption(CLIP, score=score, max_new_tokens=3).frames.indices) == list(wanted.indices)
    assert list(eyes.load(CLIP, score=score).indices) == list(wanted.indices)
    inside = eyes.ask(CLIP, "Is it?", score=score, windows=1.5, max_new_tokens=3).windows[1].answer.frames.seconds
    assert all(1.5 <= second < 3.1 for second in inside)
