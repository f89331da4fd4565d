"""How the checkpoints are measured: samples, bars and intervals."""

import numpy as np
import pytest

from onlooker.train.world import KINDS
from recipes.evaluate import CHECKS, main
from recipes.evaluation.counting import Share, fewest, most
from recipes.evaluation.exam import draw_exam


@pytest.mark.parametrize(("bar", "n"), [(0.92, 120), (0.8, 120), (0.9, 8)])
def test_a_model_at_the_bar_passes_in_99_of_100_samples(bar, n):
    drawn = np.random.default_rng(0).binomial(n, bar, 100_000)
    asked = fewest(bar, n)
    assert (drawn < asked).mean() <= 0.0105 < (drawn < asked + 1).mean()
    drawn = n - drawn
    allowed = most(1 - bar, n)
    assert (drawn > allowed).mean() <= 0.0105 < (drawn > allowed - 1).mean()


def test_the_interval_is_that_of_wilson():
    """81 of 263 give 0.255 to 0.366 (Newcombe 1998, table I)."""
    assert Share(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert Share(0, 20).interval == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_each_question_has_a_clip_of_its_own_and_held_out_phrasings_ask_for_the_same_facts():
    tasks, others = draw_exam("test", "train", 7), draw_exam("test", "held_out", 7)
    assert len({task.scene.seed for task in tasks}) == len(tasks) == 7 * len(KINDS)
    assert [task.question.kind for task in tasks] == [kind for kind in KINDS for _ in range(7)]
    for task, other in zip(tasks, others):
        assert task.scene == other.scene and task.question.names == other.question.names
        assert task.question.answer == other.question.answer
        assert task.question.phrasing % 5 < 4 == other.question.phrasing % 5


def test_a_wrong_check_or_folder_says_what_there_is(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--checks", "qa,speed"])
    assert f"unknown: speed; there are {', '.join(CHECKS)}" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="give the folder that holds them"):
        main(["--checks", "captions", "--folder", str(tmp_path), "--out", str(tmp_path / "proof.json")])


def test_ablations_name_the_run_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="make checkpoints RUNS=blip2-frozen"):
        main(["--checks", "ablations", "--build", str(tmp_path), "--out", str(tmp_path / "proof.json")])
