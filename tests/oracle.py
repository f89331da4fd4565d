"""The reference's video processors, in a process of their own.

They import torchvision, whose only wheel for this torch is a CUDA build that fails where it registers kernels of its
own. So it lies beside the environment (`make test` puts it there without its dependencies), and only the process
started here imports it, with those registrations left out; the tests, and the package, never see it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(sys.prefix) / "oracle"


class Remote:
    """An object of the other process: called here, answered there."""

    def __init__(self, process: subprocess.Popen, number: int) -> None:
        self._process, self._number = process, number

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._ask("__call__", args, options)

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        """The value of a method."""
        return self._ask(name, args, options)

    def _ask(self, name: str, args: Any, options: Any) -> Any:
        return _ask(self._process, (self._number, name, args, options))


def reference(name: str, *args: Any, **options: Any) -> Remote:
    """An object of transformers: "VideoLlavaVideoProcessor", or "VideoLlavaProcessor.from_pretrained"."""
    process = _process()
    return Remote(process, _ask(process, (None, name, args, options)))


@functools.cache
def _process() -> subprocess.Popen:
    if not (FOLDER / "torchvision").is_dir() and importlib.util.find_spec("torchvision") is None:
        pytest.skip(f"the reference needs torchvision: pip install --no-deps --target {FOLDER} torchvision==0.28.0")
    return subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(FOLDER), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
    )


def _ask(process: subprocess.Popen, question: Any) -> Any:
    assert process.stdin is not None and process.stdout is not None
    pickle.dump(question, process.stdin)
    process.stdin.flush()
    error, answer = pickle.load(process.stdout)
    if error:
        raise RuntimeError(answer)
    return answer


def _serve() -> None:
    """The loop of the other process: makes objects, calls them, answers with plain values."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed must not mix with the answers
    transformers = _import_transformers()
    made: list[Any] = []
    while True:
        try:
            number, name, args, options = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if number is None:
                made.append(functools.reduce(getattr, name.split("."), transformers)(*args, **options))
                answer: Any = len(made) - 1
            else:
                answer = getattr(made[number], name)
                answer = _plain(answer(*args, **options) if callable(answer) else answer)
            result = (False, answer)
        except Exception as error:  # noqa: BLE001  (whatever the reference raises is its answer)
            result = (True, f"{type(error).__name__}: {error}")
        pickle.dump(result, answers)
        answers.flush()


def _import_transformers() -> Any:
    import torch.library

    register = torch.library.register_fake

    def skip_torchvision(op: Any, func: Any = None, **options: Any) -> Any:
        if isinstance(op, str) and op.startswith("torchvision::"):
            return (lambda given: given) if func is None else func
        return register(op, func, **options)

    torch.library.register_fake = skip_torchvision
    import torchvision  # noqa: F401

    torch.library.register_fake = register
    import transformers

    return transformers


def _plain(value: Any) -> Any:
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        return value.numpy()
    if hasattr(value, "items"):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, np.ndarray, type(None))) else repr(value)


if __name__ == "__main__":
    _serve()
