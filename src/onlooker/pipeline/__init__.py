"""Load a checkpoint once, then caption, ask, match, rank and encode: `Onlooker`."""

from onlooker.pipeline.encoded import Encoded
from onlooker.pipeline.onlooker import Onlooker
from onlooker.pipeline.prompts import Prompt, PromptWriter
from onlooker.pipeline.records import Answer, AnswerStream, Match, Ranked

__all__ = ["Answer", "AnswerStream", "Encoded", "Match", "Onlooker", "Prompt", "PromptWriter", "Ranked"]
