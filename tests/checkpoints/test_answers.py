"""What the checkpoints answer about clips that no training has seen; the whole measurement is `make prove`.

A bar is asked of a sample as `fewest` says: a model that is exactly at the bar passes in 99 of 100 samples.
"""

import pytest

from onlooker.train.world.phrasings import NEED_TIME
from recipes.evaluate import ANSWERERS
from recipes.evaluation.answering import CHANCE, SETS, from_files, guesses
from recipes.evaluation.counting import fewest, most
from recipes.evaluation.exam import answer, draw_exam, marks

PER_KIND = 12
#: share of right answers, of questions that are equally many of each kind
BARS = {"unseen clips": 0.92, "held-out combinations": 0.80, "held-out phrasings": 0.80}
#: What can be had without looking lies so far below the model.
BLIND = 0.92 - 0.40


def right(eyes, tasks, **options):
    return sum(marks(tasks, answer(eyes, tasks, **options)))


@pytest.mark.parametrize("data", SETS)
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


@pytest.mark.parametrize("kind", NEED_TIME)
@pytest.mark.parametrize("name", ANSWERERS)
def test_answers_that_need_time_fall_to_chance_without_it(load, name, kind):
    """60 clips: chance has at most 39 where it is one in two, and 23 where it is one in four."""
    tasks = draw_exam("test", "train", 60, [kind])
    assert right(load(name), tasks) > max(most(chance, len(tasks)) for chance in CHANCE[kind].values())
    for how, chance in CHANCE[kind].items():
        assert right(load(name), tasks, without=how) <= most(chance, len(tasks)), how


def test_files_of_another_size_are_answered_as_well(load):
    """20 clips as H.264 of 112 pixels."""
    found = from_files({name: load(name) for name in ANSWERERS}, per_kind=2, size=112)
    for each in found.values():
        assert each["all"].right >= fewest(BARS["unseen clips"], each["all"].n)
