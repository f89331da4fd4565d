"""The words of this world: fifteen ways to ask each kind of question, three of them kept from training."""

from __future__ import annotations

import re
from functools import lru_cache

from onlooker.train.world.facts import COLORS, SHAPES

VERBS: dict[str, tuple[str, str]] = {  # what a thing does, and may do
    "left": ("moves left", "move left"),
    "right": ("moves right", "move right"),
    "up": ("moves up", "move up"),
    "down": ("moves down", "move down"),
    "turn": ("turns", "turn"),
    "grow": ("grows", "grow"),
    "shrink": ("shrinks", "shrink"),
    "bounce": ("bounces", "bounce"),
    "appear": ("appears", "appear"),
    "vanish": ("vanishes", "vanish"),
    "still": ("stays still", "stay still"),
}
PLURALS = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}
NUMBERS = ("zero", "one", "two", "three", "four")
WHEN = {"start": "at the start", "middle": "in the middle", "end": "at the end", "whole": "all the time"}
CHOICES = {"x": ("to the left or to the right of", ("left", "right")), "y": ("above or below", ("above", "below"))}
CAPTION_OPENINGS = ("", "there is ", "we see ", "here is ", "the picture shows ", "look at ")

# Order and time are asked in words that fit a clip and the same clip backwards: "acts", never "grows" or "appears".
PHRASINGS: dict[str, tuple[str, ...]] = {
    "color": (
        "what color is {ref}?",
        "what is the color of {ref}?",
        "which color does {ref} have?",
        "tell me the color of {ref}.",
        "name the color of {ref}.",
        "{ref} has which color?",
        "say what color {ref} has.",
        "what color does {ref} have?",
        "which color is {ref}?",
        "{ref} is of what color?",
        "give the color of {ref}.",
        "of what color is {ref}?",
        "look at {ref}. what color is it?",
        "can you tell me the color of {ref}?",
        "the color of {ref} is what?",
    ),
    "shape": (
        "what shape is {ref}?",
        "what is the shape of {ref}?",
        "which shape does {ref} have?",
        "tell me the shape of {ref}.",
        "name the shape of {ref}.",
        "{ref} has which shape?",
        "say what shape {ref} has.",
        "what shape does {ref} have?",
        "which shape is {ref}?",
        "{ref} is of what shape?",
        "give the shape of {ref}.",
        "of what shape is {ref}?",
        "look at {ref}. what shape is it?",
        "can you tell me the shape of {ref}?",
        "the shape of {ref} is what?",
    ),
    "count": (
        "how many {what} are there?",
        "count the {what}.",
        "how many {what} do you see?",
        "what is the number of {what}?",
        "tell me how many {what} there are.",
        "how many {what} can you see?",
        "say how many {what} there are.",
        "give the number of {what}.",
        "how many {what} does it show?",
        "tell me the number of {what}.",
        "there are how many {what}?",
        "can you count the {what}?",
        "count all {what} that you see.",
        "name the number of {what}.",
        "look at all {what}. how many are there?",
    ),
    "direction": (
        "which way does the {thing} move?",
        "what direction does the {thing} move in?",
        "in which direction does the {thing} move?",
        "where does the {thing} move to?",
        "tell me which way the {thing} moves.",
        "the {thing} moves which way?",
        "name the direction of the {thing}.",
        "say which way the {thing} moves.",
        "which way does the {thing} go?",
        "in what direction does the {thing} go?",
        "where does the {thing} go?",
        "what is the direction of the {thing}?",
        "look at the {thing}. which way does it move?",
        "can you tell me which way the {thing} goes?",
        "give the direction in which the {thing} moves.",
    ),
    "action": (
        "what does the {thing} do?",
        "what is the {thing} doing?",
        "tell me what the {thing} does.",
        "what happens to the {thing}?",
        "say what the {thing} does.",
        "name what the {thing} does.",
        "look at the {thing}. what does it do?",
        "can you tell me what the {thing} does?",
        "the {thing} does what?",
        "what can you see the {thing} do?",
        "say what happens to the {thing}.",
        "what do you see the {thing} do?",
        "tell me what happens to the {thing}.",
        "how does the {thing} act?",
        "what does it show the {thing} doing?",
    ),
    "order": (
        "which acts first, the {first} or the {second}?",
        "what acts first, the {first} or the {second}?",
        "which one acts before the other, the {first} or the {second}?",
        "the {first} or the {second}: which acts first?",
        "does the {first} or the {second} act first?",
        "tell me which acts first, the {first} or the {second}.",
        "say what acts first, the {first} or the {second}.",
        "which of the two is first to act, the {first} or the {second}?",
        "who acts first, the {first} or the {second}?",
        "look at the {first} and the {second}. which acts first?",
        "name the one that acts first, the {first} or the {second}.",
        "of the {first} and the {second}, which acts first?",
        "is the {first} or the {second} the first to act?",
        "can you tell me which acts first, the {first} or the {second}?",
        "the {first} or the {second}: which one acts before the other?",
    ),
    "relation": (
        "is the {first} {choice} the {second}?",
        "where is the {first}, {choice} the {second}?",
        "tell me if the {first} is {choice} the {second}.",
        "the {first}: is it {choice} the {second}?",
        "where do you see the {first}, {choice} the {second}?",
        "say if the {first} is {choice} the {second}.",
        "do you see the {first} {choice} the {second}?",
        "look at the {first}. is it {choice} the {second}?",
        "can you tell me if the {first} is {choice} the {second}?",
        "name where the {first} is, {choice} the {second}.",
        "the {first} is where, {choice} the {second}?",
        "which is it: is the {first} {choice} the {second}?",
        "where can you see the {first}, {choice} the {second}?",
        "say where the {first} is, {choice} the {second}.",
        "tell me where the {first} is, {choice} the {second}.",
    ),
    "when": (
        "when does the {thing} act?",
        "when does the {thing} do something?",
        "tell me when the {thing} acts.",
        "say when the {thing} acts.",
        "at what time does the {thing} act?",
        "when do you see the {thing} act?",
        "when can you see the {thing} act?",
        "the {thing} acts when?",
        "in which part does the {thing} act?",
        "name the time at which the {thing} acts.",
        "look at the {thing}. when does it act?",
        "can you tell me when the {thing} acts?",
        "at what time does the {thing} do something?",
        "in what part does the {thing} do something?",
        "say when the {thing} does something.",
    ),
    "exists": (
        "is there a {thing}?",
        "do you see a {thing}?",
        "can you see a {thing}?",
        "does it show a {thing}?",
        "tell me if there is a {thing}.",
        "say if you see a {thing}.",
        "a {thing}: is there one?",
        "is it true that there is a {thing}?",
        "look: is there a {thing}?",
        "can you tell me if there is a {thing}?",
        "do we see a {thing}?",
        "is a {thing} there?",
        "there is a {thing}: yes or no?",
        "say if there is a {thing}.",
        "a {thing}: do you see one?",
    ),
    "does": (
        "does the {thing} {base}?",
        "do you see the {thing} {base}?",
        "can you see the {thing} {base}?",
        "is it true that the {thing} {verb}?",
        "tell me if the {thing} {verb}.",
        "say if the {thing} {verb}.",
        "the {thing} {verb}: yes or no?",
        "the {thing}: does it {base}?",
        "look at the {thing}. does it {base}?",
        "can you tell me if the {thing} {verb}?",
        "do we see the {thing} {base}?",
        "does it show the {thing} {base}?",
        "can we see the {thing} {base}?",
        "is it true: does the {thing} {base}?",
        "the {thing}: do you see it {base}?",
    ),
}
KINDS = tuple(PHRASINGS)
#: kinds that a single frame, or frames in another order, cannot answer better than by chance
NEED_TIME = ("direction", "order")


def phrasings_of(kind: str, split: str) -> tuple[int, ...]:
    """Numbers of the phrasings of "train", of those "held_out" (every fifth), or of "all".

    Raises:
        ValueError: no such kind or split.
    """
    if kind not in PHRASINGS or split not in ("train", "held_out", "all"):
        raise ValueError(f"kind {kind!r}, phrasings {split!r}: kinds are {', '.join(KINDS)}; train, held_out, all")
    everything = range(len(PHRASINGS[kind]))
    return tuple(number for number in everything if split == "all" or (number % 5 == 4) == (split == "held_out"))


def words_of(text: str) -> list[str]:
    """The words and marks of a text, as a word-level tokenizer sees them."""
    return re.findall(r"\w+|[^\w\s]", text)


@lru_cache(maxsize=2)
def vocabulary(phrasings: str = "all") -> tuple[str, ...]:
    """Every word that captions, questions and answers can hold, sorted."""
    texts = [*COLORS, *SHAPES, *PLURALS.values(), *NUMBERS, *WHEN.values(), *CAPTION_OPENINGS, "yes no"]
    texts += [form for forms in VERBS.values() for form in forms]
    texts += [choice for choice, _ in CHOICES.values()] + ["a an thing things that and , . the"]
    for kind, templates in PHRASINGS.items():
        texts += [re.sub(r"\{\w+\}", " ", templates[number]) for number in phrasings_of(kind, phrasings)]
    return tuple(sorted({word for text in texts for word in words_of(text)}))
