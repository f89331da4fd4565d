"""What is said about clips and stills while the small models learn."""

from __future__ import annotations

import random

import torch

from onlooker.train.world.phrasings import words_of
from recipes import conversations


def test_terse_questions_keep_what_they_are_about() -> None:
    question = "can you tell me if the red circle is to the left or to the right of the blue star?"
    said = {conversations.terse(question, random.Random(seed)) for seed in range(60)}
    assert question in said and len(said) > 20
    for each in said:
        words = words_of(each)
        assert [word for word in words_of(question) if word in words] and len(words) <= len(words_of(question))
        assert [word for word in words if word in {"red", "circle", "left", "right", "blue", "star"}] == [
            "red", "circle", "left", "right", "blue", "star"
        ]  # fmt: skip


def test_a_hint_has_to_do_without_the_other_now_and_then() -> None:
    said = [words_of(conversations.terse("at what time does it act?", random.Random(seed))) for seed in range(200)]
    assert any("time" in each and "act" not in each for each in said)
    assert any("act" in each and "time" not in each for each in said)


def test_every_other_row_keeps_to_the_kinds_that_come_often() -> None:
    rows = conversations.Conversations("train", 40, often=["order", "when"])
    kinds = [{question.kind for question in rows.questions(rows.scene(number))} for number in range(40)]
    assert all(each <= {"order", "when"} for each in kinds[1::2])
    assert set.union(*kinds[0::2]) >= {"color", "shape", "count", "relation", "exists", "does"}


def test_unseen_rows_say_what_seen_ones_do() -> None:
    seen = conversations.Conversations("train", 12, still_share=0.5)
    unseen = conversations.Unseen("train", 12, still_share=0.5)
    for number in range(12):
        scene, turns = unseen[number]
        assert scene.id == seen[number].id and turns == seen[number].turns


def test_questions_asked_one_by_one_share_their_medium() -> None:
    records = conversations.Asked("train", 1, request="A short {} description.")[0]
    assert len({id(record.media[0].source) for record in records}) == 1
    assert [len(record.turns) for record in records] == [1] * len(records)
    assert records[-1].turns[0].question == "A short video description."


def test_instructions_can_be_taken_away() -> None:
    batch = {"input_ids": torch.ones(3, 9), "qformer_input_ids": torch.ones(3, 7, dtype=torch.long)}
    told = conversations.tell_nothing(batch)
    assert told["qformer_input_ids"].shape == told["qformer_attention_mask"].shape == (3, 2)
