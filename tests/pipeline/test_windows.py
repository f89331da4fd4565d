"""Long clips: windows are answered as by themselves, merged as the question wants it, in bounded memory."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest

from onlooker.pipeline.records import Answer, WindowAnswer
from onlooker.pipeline.windows import is_yes_no, likeliest, merge
from tests.pipeline.conftest import CLIP, picture

BRIEF = {"max_new_tokens": 5}


def test_windows_are_answered_as_the_clip_between_their_times(watcher):
    answer = watcher.ask(CLIP, "What is this?", windows=1, **BRIEF)
    assert [(round(each.start, 2), round(each.end, 2)) for each in answer.windows] == [(0, 1), (1, 2), (2, 3)]
    for window in answer.windows:
        alone = watcher.ask(CLIP, "What is this?", start=window.start, end=window.end, **BRIEF)
        assert window.answer == alone
    assert answer.frames is None  # each window has its own


def test_the_answers_of_windows_go_to_the_language_model_as_text(load):
    eyes = load("video-llava")
    answer = eyes.ask(CLIP, "What is this?", windows=1, **BRIEF)
    listed = "\n".join(map(str, answer.windows))
    assert f"[0:01-0:02] {answer.windows[1].answer}" in listed
    request = (
        "Several parts of one video were looked at one after the other. The answers to the question 'What is this?' "
        f"were:\n{listed}\nAnswer the question about the whole video: What is this?"
    )
    batch = eyes.processor(text=f"USER: {request} ASSISTANT:")
    ids = eyes.model.generate(**batch, **BRIEF)
    expected = eyes.processor.decode(ids[0, batch["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    assert answer.text == expected


@pytest.mark.parametrize(
    ("question", "choices"), [("Is it raining?", None), ("What is this?", ["a cup", "two", "a cat"])]
)
def test_a_closed_question_takes_the_answer_of_the_surest_window(watcher, question, choices):
    answer = watcher.ask(CLIP, question, choices=choices, windows=1)
    yes = None if choices else watcher._writer.family.yes_no[0]
    found = [window for window in answer.windows if window.answer.text == yes] or answer.windows
    best = max(found, key=lambda window: window.answer.logprob).answer
    assert (answer.text, answer.logprob, answer.frames) == (best.text, best.logprob, best.frames)
    wanted = choices or list(watcher._writer.family.yes_no)
    for window in answer.windows:
        ranked = watcher.rank(watcher.load(CLIP, start=window.start, end=window.end), question, wanted)
        assert window.answer.text == ranked[0].text
        assert window.answer.logprob == pytest.approx(ranked[0].logprob, abs=1e-3)


def test_one_window_that_says_yes_answers_for_the_clip():
    sure = {"yes": -0.4, "no": -0.01, "maybe": -0.2}
    windows = [
        WindowAnswer(8.0 * number, 8.0 * number + 8.0, Answer(text, "stop", 1, sure[text], None))
        for number, text in enumerate(["no", "yes", "maybe", "no"])
    ]
    assert likeliest(windows, "yes").text == "yes" and likeliest(windows).text == "no"
    assert likeliest([windows[0], windows[2]], "yes").text == "no"
    assert likeliest(windows, "yes").windows == tuple(windows)


@pytest.mark.parametrize("question", ["Is it raining?", "does he fall", "Wasn't she there?", "Can you see a dog?"])
def test_questions_that_want_yes_or_no(question):
    assert is_yes_no(question)


@pytest.mark.parametrize("question", ["What is it?", "Is it red or blue?", "Describe it.", "", "Whose is it?"])
def test_questions_that_want_more(question):
    assert not is_yes_no(question)


def test_more_answers_than_fit_are_merged_in_rounds():
    windows = [WindowAnswer(i, i + 1, Answer(f"answer {i}", "stop", 2, -1.0)) for i in range(9)]
    asked: list[str] = []

    def write(text: str) -> Answer:
        asked.append(text)
        return Answer(f"merged {len(asked)}", "stop", 2, -1.0)

    merged = merge("What?", windows, write, lambda text: text.count("\n[") < 4)
    assert merged.text == f"merged {len(asked)}" and merged.windows == tuple(windows)
    assert len(asked) == 4  # 9 windows make 3 answers, and those make one
    assert "[0:00-0:03] merged 1" in asked[-1] and "[0:06-0:09] merged 3" in asked[-1]
    asked.clear()
    assert merge("What?", windows, write, lambda text: False).text.startswith("merged")  # two at the least
    assert merge("What?", windows[:1], write, lambda text: False).text == "answer 0"


def test_windows_come_as_they_are_answered_and_keep_bad_files_apart(load):
    eyes, told = load("video-llava"), []
    found = eyes.ask(
        [CLIP, "gone.mp4"],
        "What?",
        windows=1.5,
        on_window=lambda window, frames: told.append((window.start, len(frames))),
        errors="return",
        **BRIEF,
    )
    assert told == [(0.0, 8), (1.5, 8)] and isinstance(found[1], FileNotFoundError)
    assert found[0].to_dict()["windows"][1]["start"] == 1.5


def test_what_has_no_windows_is_refused(load):
    eyes = load("video-llava")
    for media, message in ((eyes.encode(picture(0)), "windows are of videos"),):
        with pytest.raises(ValueError, match=message):
            eyes.ask(media, "What?", windows=1)
    with pytest.raises(ValueError, match="windows are of videos"):
        load("opt").ask(picture(0), "What?", windows=1)
    with pytest.raises(ValueError, match="stream=True goes without windows"):
        eyes.ask(CLIP, "What?", windows=1, stream=True)
    with pytest.raises(ValueError, match="windows of 0"):
        eyes.ask(CLIP, "What?", windows=0)


def test_frames_of_one_window_at_a_time_are_kept(load):
    alive = weakref.WeakSet()

    def look(window, frames):
        alive.add(frames)
        assert len(alive) <= 2  # this one, and the one before until its name is given to this one

    answer = load("video-llava").ask(CLIP, "Is it raining?", windows=0.5, on_window=look)
    assert len(answer.windows) == 6


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read where Linux shows them")
def test_memory_does_not_grow_with_the_clip(folders, tmp_path):
    from benchmarks.bench_long_video import ask, render

    peaks = {}
    for minutes in (1, 6):
        clip = render(tmp_path / f"{minutes}.mp4", minutes, fps=2)
        windows, _, peaks[minutes], _ = ask(folders["video-llava"], clip, "Is it raining?", 5.0)
        assert windows == minutes * 12
    assert peaks[6] < 1.05 * peaks[1], peaks  # frames that were kept would be 80 MiB
