"""`--cache-folder` outlives a call, and files are read while the model works on those before them."""

from __future__ import annotations

import threading

import pytest
from PIL import Image

from onlooker.cli import main
from onlooker.cli.inputs import Input
from onlooker.cli.options import Telling
from onlooker.cli.running import answer_files
from tests.pipeline.conftest import CLIP, picture

QUESTION = "What is in the picture?"
PLAIN = ["--dtype", "fp32", "--device", "cpu"]


@pytest.mark.parametrize("kind", ["opt", "video-llava"])
def test_a_second_call_goes_on_from_the_first(folders, kind, tmp_path, capsys):
    Image.fromarray(picture(1)).save(tmp_path / "a.png")
    medium = str(CLIP if kind == "video-llava" else tmp_path / "a.png")
    asked = ["ask", medium, QUESTION, "-m", str(folders[kind]), "--max-new-tokens", "4", *PLAIN]
    told = []
    for more in ([], ["--cache-folder", str(tmp_path / "kept")], ["--cache-folder", str(tmp_path / "kept")]):
        assert main([*asked, *more]) == 0
        told.append(capsys.readouterr())
    plain, first, second = told
    assert plain.out == first.out == second.out
    assert "cache:" not in plain.err
    assert "cache: 0 of 1 features, 0 of 1 prefix found, 0 positions reused" in first.err
    assert "cache: 1 of 1 features, 1 of 1 prefix found" in second.err
    assert f"in {tmp_path / 'kept'}" in second.err
    assert main([*asked, "--cache-folder", str(tmp_path / "kept"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_the_next_files_are_read_while_the_model_works():
    read, shown = [threading.Event() for _ in range(4)], []

    def open_file(given: Input) -> int:
        number = int(given.name)
        read[number].set()
        if number == 2:
            raise ValueError("damaged")
        return number

    def work(batch: list[Input], found: list[int]) -> list[int]:
        following = found[-1] + 1
        assert following == len(read) or read[following].wait(20), "nobody reads ahead"
        return [each * 10 for each in found]

    inputs = [Input(str(number), str(number)) for number in range(4)]
    code = answer_files(inputs, Telling(quiet=True), 1, open_file, work, lambda given, result: shown.append(result))
    assert code == 1 and shown == [0, 10, 30]


def test_what_asks_the_model_is_not_done_ahead():
    threads = set()
    inputs = [Input(str(number), str(number)) for number in range(3)]
    answer_files(
        inputs,
        Telling(quiet=True),
        1,
        lambda given: threads.add(threading.current_thread()),
        lambda batch, found: found,
        lambda given, result: None,
        reads_ahead=False,
    )
    assert threads == {threading.current_thread()}
