"""Questions about clips: how many answers are right, beside what can be had without looking, or without time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from onlooker import Onlooker
from onlooker.train.world import KINDS, Question, majority, question_only, write_clip
from onlooker.train.world.phrasings import NEED_TIME
from recipes.evaluation.counting import Share, together
from recipes.evaluation.exam import MOST_TOKENS, Task, answer, draw_exam, marks

SETS = {  # what is new about each: split and phrasings
    "unseen clips": ("test", "train"),
    "held-out combinations": ("combos", "train"),
    "held-out phrasings": ("test", "held_out"),
}
#: What remains to be guessed. A set of frames without their order still shows along which axis a thing moves.
CHANCE = {"direction": {"one_frame": 0.25, "shuffled": 0.5}, "order": {"one_frame": 0.5, "shuffled": 0.5}}


def question_answering(eyes: Onlooker, per_kind: int = 100) -> dict[str, Any]:
    """Exact match in each of SETS, by kind, with baselines; and of NEED_TIME without time.

    Args:
        per_kind: questions of each kind in each set; a model has to tell left from right twice as often.
    """
    start, asked, sets = time.perf_counter(), 0, {}
    for name, (split, phrasings) in SETS.items():
        tasks = draw_exam(split, phrasings, per_kind)
        kinds = by_kind(tasks, marks(tasks, answer(eyes, tasks)))
        blank = marks(tasks, answer(eyes, tasks, without="blank"))
        asked += 2 * len(tasks)
        sets[name] = {"all": together(kinds.values()), "kinds": kinds, "blank clip": Share.of(blank), **guesses(tasks)}
    without_time = {}
    for kind in NEED_TIME:
        tasks = draw_exam("test", "train", 2 * per_kind, [kind])
        without_time[kind] = {"as it is": Share.of(marks(tasks, answer(eyes, tasks)))} | {
            how: Share.of(marks(tasks, answer(eyes, tasks, without=how))) for how in CHANCE[kind]
        }
        asked += 3 * len(tasks)
    rate = asked / (time.perf_counter() - start)
    return {"sets": sets, "without time": without_time, "questions per second": round(rate, 1)}


def by_kind(tasks: Sequence[Task], right: Sequence[bool]) -> dict[str, Share]:
    """The share of right answers of each kind of question."""
    both = list(zip(tasks, right))
    return {kind: Share.of(mark for task, mark in both if task.question.kind == kind) for kind in KINDS}


def guesses(tasks: Sequence[Task], learnt: int = 2000) -> dict[str, Share]:
    """What the most frequent answer gets: to a kind of question, and to a kind that names the same things.

    Args:
        learnt: questions of each kind that are counted for it.
    """
    asked, known = [task.question for task in tasks], _learnt(learnt)
    rules = {"majority": majority, "question only": question_only}
    return {name: Share(round(rule(known, asked) * len(asked)), len(asked)) for name, rule in rules.items()}


@lru_cache(maxsize=1)
def _learnt(per_kind: int) -> list[Question]:
    return [task.question for task in draw_exam("train", "train", per_kind)]


def from_files(models: Mapping[str, Onlooker], per_kind: int = 20, size: int = 224) -> dict[str, Any]:
    """The same questions about H.264 files of another size, asked as the command line does, beside rendered clips."""
    tasks = draw_exam("test", "train", per_kind)
    questions = [task.question.text for task in tasks]
    found: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        paths = [write_clip(task.scene, Path(folder) / f"{place}.mp4", size=size) for place, task in enumerate(tasks)]
        for name, eyes in models.items():
            answers = eyes.ask(paths, questions, max_new_tokens=MOST_TOKENS)
            kinds = by_kind(tasks, marks(tasks, [each.text for each in answers]))
            found[name] = {
                "all": together(kinds.values()),
                "kinds": kinds,
                "frames": len(answers[0].frames.indices),
                "rendered": Share.of(marks(tasks, answer(eyes, tasks))),
            }
    return found
