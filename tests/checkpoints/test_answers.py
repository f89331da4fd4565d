"""What the checkpoints answer about clips that no training has seen; the whole measurement is `make prove`.

A bar is asked of a sample as `fewest` says: a model that is exactly at the bar passes in 99 of 100 samples.
"""

import pytest

from recipes.evaluate import ANSWERERS
from recipes.evaluation.answering import CHANCE, SETS, from_files, guesses
from recipes.evaluation.counting import fewest, most
from recipes.evaluation.exam import answer, draw_exam, marks

PER_KIND = 12
#: share of right answers, of 120 questions that are 12 of each kind: 103 for 92 %, 85 for 80 %
BARS = {"unseen clips": 0.92, "held-out combinations": 0.80, "held-out phrasings": 0.80}
BLIND = 0.92 - 0.40  # what can be had without looking lies 40 points below


def right(eyes, tasks, **options):
    return sum(marks(tasks, answer(eyes, tasks, **options)))


@pytest.mark.parametrize("data", BARS)
@pytest.mark.parametrize("name", ANSWERERS)
def test_questions_are_answered(load, name, data):
    tasks = draw_exam(*SETS[data], PER_KIND)
    assert right(load(name), tasks) >= fewest(BARS[data], len(tasks))


@pytest.mark.parametrize("name", ANSWERERS)
def test_nothing_is_known_of_a_blank_clip(load, name):
    tasks = draw_exam(*SETS["unseen clips"], PER_KIND)
    assert right(load(name), tasks, without="blank") <= most(BLIND, len(tasks))


@pytest.mark.parametrize("data", SETS)
def test_questions_do_not_give_their_answers_away(data):
    tasks = draw_exam(*SETS[data], 60)
    assert all(share.right <= most(BLIND, share.n) for share in guesses(tasks, learnt=300).values())


@pytest.mark.parametrize("kind", CHANCE)
@pytest.mark.parametrize("name", ANSWERERS)
def test_direction_and_order_fall_to_chance_without_time(load, name, kind):
    """60 clips: chance has at most 39 where it is one in two, and 23 where it is one in four."""
    tasks = draw_exam("test", "train", 60, [kind])
    whole = right(load(name), tasks)
    assert whole >= fewest(BARS["unseen clips"] - 0.12, len(tasks))  # a single kind may be harder than all together
    for how, chance in CHANCE[kind].items():
        assert right(load(name), tasks, without=how) <= most(chance, len(tasks)), how


def test_files_of_another_size_are_answered_as_well(load):
    """20 clips as H.264 of 112 pixels: a model at the bar has 15 right."""
    found = from_files({name: load(name) for name in ANSWERERS}, per_kind=2, size=112)
    for each in found.values():
        assert each["all"].right >= fewest(BARS["unseen clips"], each["all"].n)
