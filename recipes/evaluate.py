"""Measures the checkpoints inside the package: python -m recipes.evaluate --checks qa,captions."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from onlooker import Onlooker
from onlooker.checkpoints import FOLDER
from recipes.evaluation.ablations import ablations
from recipes.evaluation.answering import from_files, question_answering
from recipes.evaluation.counting import Share
from recipes.evaluation.long_clips import WINDOW, long_clips
from recipes.evaluation.parity import same_as_transformers
from recipes.evaluation.stills import captioning, retrieval
from recipes.evaluation.table import as_markdown

CAPTIONER, MATCHER = "blip2-tiny", "blip2-itm-tiny"
ANSWERERS = ("instructblipvideo-tiny", "video-llava-tiny")
NAMES = (CAPTIONER, MATCHER, *ANSWERERS)


class Bench:
    """The checkpoints of a folder, each loaded once, and how large the samples are."""

    def __init__(self, folder: Path, build: Path, dtype: str, scale: float, window: float) -> None:
        self.folder, self.build, self.dtype, self.scale, self.window = folder, build, dtype, scale, window
        self._loaded: dict[str, Onlooker] = {}

    def models(self, names: Sequence[str]) -> dict[str, Onlooker]:
        """Those of the checkpoints that are there.

        Raises:
            FileNotFoundError: none is.
        """
        for name in self.names(names):
            if name not in self._loaded:
                path = self.folder / name
                self._loaded[name] = Onlooker.from_pretrained(path, dtype=self.dtype, device="cpu", batch_size=64)
        return {name: self._loaded[name] for name in self.names(names)}

    def names(self, names: Sequence[str]) -> list[str]:
        found = [name for name in names if (self.folder / name / "config.json").is_file()]
        if not found:
            raise FileNotFoundError(f"{self.folder} has none of {', '.join(names)}: give the folder that holds them")
        return found

    def count(self, n: int) -> int:
        """A number of samples, scaled."""
        return max(1, round(n * self.scale))


def _qa(bench: Bench) -> dict[str, Any]:
    return {name: question_answering(eyes, bench.count(100)) for name, eyes in bench.models(ANSWERERS).items()}


def _files(bench: Bench) -> dict[str, Any]:
    return from_files(bench.models(ANSWERERS), bench.count(20))


def _captions(bench: Bench) -> dict[str, Any]:
    return {name: captioning(eyes, bench.count(500)) for name, eyes in bench.models([CAPTIONER]).items()}


def _retrieval(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, eyes in bench.models([MATCHER]).items():
        for n in (256, 1024):  # the bar is set for 256; among more there is more for the matching head to mend
            found.setdefault(name, {}).update({f"{way}, {n}": each for way, each in retrieval(eyes, n).items()})
    return found


def _long(bench: Bench) -> dict[str, Any]:
    models = bench.models([MATCHER, *ANSWERERS])
    return long_clips(models.pop(MATCHER, None), models, bench.count(30), window=bench.window)


def _oracle(bench: Bench) -> dict[str, Any]:
    return {name: same_as_transformers(bench.folder / name, bench.count(64)) for name in bench.names(NAMES)}


def _ablations(bench: Bench) -> dict[str, Any]:
    return ablations(bench.build, bench.count(500))


CHECKS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "qa": _qa,
    "files": _files,
    "captions": _captions,
    "retrieval": _retrieval,
    "long": _long,
    "oracle": _oracle,
    "ablations": _ablations,
}
_BY_DEFAULT = [name for name in CHECKS if name != "ablations"]  # their runs are not in the package


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the checks that are asked for; results of earlier runs in the same file stay."""
    options = _options(arguments)
    bench = Bench(options.folder, options.build, options.dtype, options.scale, options.window)
    results = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for check in options.checks:
        start = time.perf_counter()
        results[check] = _plain(CHECKS[check](bench))
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        options.out.with_suffix(".md").write_text(as_markdown(results), encoding="utf-8")
        sys.stderr.write(f"{check}: {time.perf_counter() - start:.0f} s\n")
    sys.stdout.write(as_markdown({check: results[check] for check in options.checks}))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m recipes.evaluate", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="holds the checkpoints; the package's own")
    parser.add_argument(
        "--checks", type=_names, default=_BY_DEFAULT, help=f"of {', '.join(CHECKS)}; all but the last if not given"
    )
    parser.add_argument(
        "--build", type=Path, default=Path("build/checkpoints"), help="folder of all runs, for ablations"
    )
    parser.add_argument("--out", type=Path, default=Path("build/proof.json"), help="a table lies beside it, as .md")
    parser.add_argument("--scale", type=float, default=1.0, help="samples are so many times as large")
    parser.add_argument("--dtype", default="fp32", help="as for Onlooker.from_pretrained")
    parser.add_argument("--window", type=float, default=WINDOW, help="seconds of each window of a long clip")
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    return names


def _plain(value: Any) -> Any:
    """Shares as the JSON holds them."""
    if isinstance(value, Share):
        return value.to_dict()
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, Mapping) else value


if __name__ == "__main__":
    torch.set_num_threads(1)  # the models are too small to share
    sys.exit(main())
