"""What answers where no --model is given: the small checkpoints that come along, and the line that says so."""

from __future__ import annotations

from collections.abc import Iterable

from onlooker.cli.inputs import Input
from onlooker.cli.show import note

CAPTIONS, ANSWERS, MATCHES = "onlooker/blip2-tiny", "onlooker/video-llava-tiny", "onlooker/blip2-itm-tiny"
#: a published one for the same job
_REAL = {
    CAPTIONS: "Salesforce/blip2-opt-2.7b",
    ANSWERS: "LanguageBind/Video-LLaVA-7B-hf",
    MATCHES: "Salesforce/blip2-itm-vit-g",
}


def captioner(inputs: Iterable[Input]) -> str:
    """The one that captions these: pictures have one of their own, clips go to the one that answers about them."""
    return CAPTIONS if all(given.is_picture() for given in inputs) else ANSWERS


def say_built_in(name: str, option: str, quiet: bool) -> None:
    """Tell which one it is, what it knows, and how to name a real one."""
    note(
        f"note: built-in {name} knows only coloured shapes that move; name a real model with {option}, "
        f"such as {option} {_REAL[name]}",
        quiet,
    )
