"""The Python of docs/training.md runs as it is written."""

import re
import shlex
from pathlib import Path

import pytest

from onlooker.cli import main
from tests.train.small import blip2, language_batch
from tests.train.test_loop import rows_of, stack

DOCUMENT = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_python_of_the_document_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    model = blip2()
    exec(
        compile(code, "training.md", "exec"),
        {"model": model, "rows": rows_of(language_batch(model, 4)), "collate": stack},
    )
    assert (tmp_path / "run" / "model" / "config.json").exists()


@pytest.mark.parametrize("line", re.findall(r"^onlooker (train [^#\n]*)", DOCUMENT, re.MULTILINE))
def test_the_commands_of_the_document_are_understood(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(line)) == 1  # understood: it gets as far as looking for the data
    assert re.search(r"no such file or folder: \w+\.json", capsys.readouterr().err)
