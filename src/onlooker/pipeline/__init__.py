"""Load a checkpoint once, then caption, ask, chat, match, rank and encode: `Onlooker`."""

from onlooker.pipeline.chat import Chat
from onlooker.pipeline.encoded import Encoded
from onlooker.pipeline.onlooker import Onlooker
from onlooker.pipeline.prompts import Prompt, PromptWriter
from onlooker.pipeline.records import Answer, AnswerStream, Match, Ranked, UsedFrames, WindowAnswer

__all__ = [
    "Answer",
    "AnswerStream",
    "Chat",
    "Encoded",
    "Match",
    "Onlooker",
    "Prompt",
    "PromptWriter",
    "Ranked",
    "UsedFrames",
    "WindowAnswer",
]
