"""Text to token ids and back: the tokenizer, and the decoder that turns a stream of ids into pieces of text."""

from onlooker.text.stream import StreamDecoder
from onlooker.text.tokenizer import Tokenizer

__all__ = ["StreamDecoder", "Tokenizer"]
