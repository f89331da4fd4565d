"""`make demo`: the small models that come along look at clips and stills that they have never seen, offline."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from onlooker import Onlooker
from onlooker.pipeline.sheet import ContactSheet
from onlooker.train.world import stated_facts

EXAMPLES = Path(__file__).parent
SHEET = EXAMPLES.parent / "build" / "demo.png"
ANSWERERS = {"Video-LLaVA": "onlooker/video-llava-tiny", "InstructBLIP": "onlooker/instructblipvideo-tiny"}
CAPTIONER, MATCHER = "onlooker/blip2-tiny", "onlooker/blip2-itm-tiny"
WIDTH = 88


class Demo:
    """Asks, prints what was said beside what is true, and counts."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.right: list[bool] = []
        names = (*ANSWERERS.values(), CAPTIONER, MATCHER)
        self.eyes = {name: Onlooker.from_pretrained(name, dtype="fp32", device="cpu") for name in names}
        self.sheet = ContactSheet("What the models looked at, and what BLIP-2 and Video-LLaVA say it is")

    def show(self, row: dict[str, Any]) -> None:
        """Ask everything about one file."""
        path, is_clip = str(EXAMPLES / row["file"]), row["file"].endswith(".mp4")
        name = "Video-LLaVA" if is_clip else "BLIP-2"
        eyes = self.eyes[ANSWERERS[name] if is_clip else CAPTIONER]
        said = eyes.caption(path).text
        self.sheet.add(eyes.load(path), f"examples/{row['file']}", said)
        self.console.print(Text(f"\nexamples/{row['file']}", style="bold"))
        lines = _table("", "", widths=(13, WIDTH - 14))
        lines.add_row("truth", Text(row["caption"]), style="dim")
        lines.add_row(name, self._mark(said, stated_facts(said) == stated_facts(row["caption"])))
        self.console.print(lines)
        self._ask(path, row["questions"])
        if "wrong" in row:
            self._match(path, row["caption"], row["wrong"])

    def _ask(self, path: str, questions: dict[str, str]) -> None:
        """What the two that answer questions say."""
        table = _table("question", *ANSWERERS, "truth", widths=(41, 15, 15, 13))
        for question, truth in questions.items():
            said = [self.eyes[name].ask(path, question, max_new_tokens=12).text for name in ANSWERERS.values()]
            marked = [self._mark(text, text == truth) for text in said]
            table.add_row(question, *marked, Text(truth, style="dim"))
        self.console.print(table)

    def _match(self, path: str, fitting: str, others: list[str]) -> None:
        """How well texts fit; only the first does."""
        table = _table("text", "BLIP-2 (ITM)", "truth", widths=(57, 15, 13))
        for number, match in enumerate(self.eyes[MATCHER].match(path, [fitting, *others])):
            is_right = (match.probability > 0.5) == (number == 0)
            truth = Text("does not fit" if number else "fits", style="dim")
            table.add_row(match.text, self._mark(f"{match.probability:.1%}", is_right), truth)
        self.console.print(table)

    def _mark(self, text: str, is_right: bool) -> Text:
        self.right.append(is_right)
        return Text("\u2713 " if is_right else "\u2717 ", style="green" if is_right else "bold red").append(text)


def demo() -> list[bool]:
    """Run it; gives for every answer whether it was right."""
    started = time.perf_counter()
    console = Console(width=WIDTH, highlight=False)
    console.print(
        "Small models, trained from nothing on a rendered world of coloured shapes, look at clips and stills of "
        "it that they have never seen. All of it runs here, offline."
    )
    shown = Demo(console)
    for row in json.loads((EXAMPLES / "shapes.json").read_text(encoding="utf-8")):
        shown.show(row)
    SHEET.parent.mkdir(exist_ok=True)
    shown.sheet.save(SHEET)
    seconds = time.perf_counter() - started
    console.print(f"\n{sum(shown.right)} of {len(shown.right)} are right; {seconds:.0f} s with loading.")
    console.print(f"What they looked at: {SHEET}", soft_wrap=True)
    console.print("\nTry it (a real model is named with --model):", style="bold")
    for line in (
        "onlooker ask examples/squares.mp4 'which way does the red square move?'",
        "onlooker chat examples/star.mp4",
        "onlooker ask clip.mp4 'Why is this funny?' --model LanguageBind/Video-LLaVA-7B-hf",
    ):
        console.print(f"  {line}")
    return shown.right


def _table(*titles: str, widths: Iterable[int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0), show_header=any(titles))
    for title, width in zip(titles, widths):
        table.add_column(title, width=width)
    return table


if __name__ == "__main__":
    demo()
