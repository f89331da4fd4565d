"""From nothing to a first class, and to a loaded model: each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from onlooker.bench.contest import Contest, Side
from onlooker.bench.peer import write_random
from onlooker.bench.settings import Settings
from onlooker.models.blip2.generation import Blip2ForConditionalGeneration

_CLASS = "Blip2ForConditionalGeneration"
_IMPORT = {
    "onlooker": f"import onlooker; model_class = onlooker.{_CLASS}",
    "transformers": f"from transformers import {_CLASS} as model_class",
}
_LOAD = "import torch; model = model_class.from_pretrained({folder!r}, dtype=torch.bfloat16)"
# Leaving at once keeps the end of the process, which frees what it has, out of the time.
_LEAVE = """
import os
print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")] or [0], flush=True)
os._exit(0)
"""
_SUMS = "print(*[float(value.double().sum()) for name, value in sorted(model.named_parameters())])"


def contests(settings: Settings) -> Iterator[Contest]:
    if "import" in settings.rows:
        sides = {which: _Process(code).side() for which, code in _IMPORT.items()}
        yield Contest("one process each", {"import": (sides["onlooker"], sides["transformers"])}, torch.float32)
    if "load" in settings.rows:
        config = {
            "vision_config": settings.vit_g(),
            "qformer_config": settings.qformer(),
            "text_config": settings.opt(),
            "image_token_index": 5,
        }
        with tempfile.TemporaryDirectory() as name:
            folder = write_random(Blip2ForConditionalGeneration, config, torch.bfloat16, Path(name))
            size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            loads = {which: f"{code}\n{_LOAD.format(folder=str(folder))}\n" for which, code in _IMPORT.items()}
            sides = {which: _Process(code, code + _SUMS).side() for which, code in loads.items()}
            shape = f"{size / 1e9:.2f} GB in the page cache, {settings.told('OPT', 'ViT-g', 'Q-Former')}"
            yield Contest(shape, {"load": (sides["onlooker"], sides["transformers"])}, torch.float32)


class _Process:
    """Code that is run by a Python of its own.

    Args:
        result: prints the numbers that are compared; without it there is nothing to compare.
    """

    def __init__(self, code: str, result: str = "") -> None:
        self._code, self._result = code, result
        self._peak = 0

    def side(self) -> Side:
        return Side(self._run, result=self._compared, peak=lambda: self._peak)

    def _run(self) -> None:
        self._peak = max(self._peak, 1024 * int(self._python(self._code + _LEAVE).split()[-1]))

    def _compared(self) -> Tensor:
        if not self._result:
            self._run()
            return torch.zeros(1)
        return torch.tensor([float(number) for number in self._python(self._result).split()])

    def _python(self, code: str) -> str:
        paths = [str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages are compiled, a clone should be, too
        run = partial(subprocess.run, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return run([sys.executable, "-c", code], env=environment).stdout
