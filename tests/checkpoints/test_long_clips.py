"""One event of three seconds in a clip of minutes: the search finds its frames, and windows name its time."""

import pytest

from recipes.evaluate import ANSWERERS, MATCHER
from recipes.evaluation.counting import fewest
from recipes.evaluation.long_clips import search, windows, written


def test_a_search_finds_the_event_of_ten_minutes_more_often_than_even_steps(load):
    """Four clips: even steps show the event of one in twenty-five, and 20 points more are one of four."""
    found = [search(load(MATCHER), clip, path) for clip, path in written(4, size=56, fps=1)]
    assert sum(each["query"] for each in found) >= sum(each["uniform"] for each in found) + 1


@pytest.mark.parametrize("name", ANSWERERS)
def test_windows_name_the_time_of_the_event(load, name):
    """Eight clips of two minutes, to be quick: a model that names nine windows of ten passes with five."""
    clips = written(8, size=56, fps=2, seconds=120.0)
    found = [windows(load(name), clip, path, ways=["yes alone"])["yes alone, window"] for clip, path in clips]
    assert sum(found) >= fewest(0.90, len(found))
