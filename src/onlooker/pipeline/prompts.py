"""Writes the prompt of one image and one text as token ids, and shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from onlooker.config import Config
from onlooker.pipeline.loading import check_kind, compares, read_processor

QUESTION = "Question: {} Answer:"


@dataclass(frozen=True)
class Prompt:
    """Exactly what a model is given for one image and one text.

    Attributes:
        text: the prompt in words, without placeholders and special tokens.
        written: the token ids read back as text, special tokens included and placeholders folded.
        input_ids: placeholders and text, in order.
        num_placeholders: how many of the ids keep a place for a visual token.
        num_prepended: visual tokens that the model puts in front itself, for files without a placeholder token.
        image_size: width and height of the image, pixels.
        pixel_shape: shape of pixel_values, [1, 3, h, w].
    """

    text: str
    written: str
    input_ids: tuple[int, ...]
    num_placeholders: int
    num_prepended: int
    image_size: tuple[int, int]
    pixel_shape: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """Positions that the language model reads."""
        return len(self.input_ids) + self.num_prepended

    def __str__(self) -> str:
        parts = [f"{self.num_tokens - self.num_placeholders - self.num_prepended} text"]
        if self.num_placeholders:
            parts.insert(0, f"{self.num_placeholders} placeholders for the image")
        if self.num_prepended:
            parts.insert(0, f"{self.num_prepended} for the image, put in front by the model")
        image = f"{self.image_size[0]} x {self.image_size[1]} pixels -> pixel_values {list(self.pixel_shape)}"
        return "\n".join(
            [
                f"prompt     {self.text}",
                f"written    {self.written}",
                f"tokens     {self.num_tokens}{' = ' + ' + '.join(parts) if len(parts) > 1 else ''}",
                f"input_ids  {_folded(self.input_ids)}",
                f"image      {image}",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "prompt": self.text,
            "written": self.written,
            "num_tokens": self.num_tokens,
            "num_placeholders": self.num_placeholders,
            "num_prepended": self.num_prepended,
            "input_ids": list(self.input_ids),
            "image_size": list(self.image_size),
            "pixel_shape": list(self.pixel_shape),
        }


class PromptWriter:
    """Turns texts into token ids as the checkpoint wants them; needs its processor and configuration, no weights."""

    def __init__(self, processor: Any, config: Config, *, is_matching: bool) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.image_token_id: int | None = config.image_token_index
        self.num_query_tokens: int = config.num_query_tokens
        self.is_encoder_decoder = bool(config.get_text_config().is_encoder_decoder)
        self.is_matching = is_matching  # texts are read by the Q-Former, without placeholders

    @classmethod
    def from_pretrained(
        cls, name_or_path: Any, *, wants_matching: bool | None = None, **hub_options: Any
    ) -> PromptWriter:
        """Read what a checkpoint says about prompts; its weights are left alone.

        Args:
            wants_matching: True asks for a checkpoint that compares, False for one that writes; None takes both.

        Raises:
            ModelNotFoundError: there is no such checkpoint.
            CheckpointError: it is of the other kind.
        """
        processor, config = read_processor(name_or_path, **hub_options)
        if wants_matching is not None:
            check_kind(name_or_path, is_matching=compares(config), wants_matching=wants_matching)
        return cls(processor, config, is_matching=compares(config))

    def ids(self, text: str) -> list[int]:
        """Placeholders and text, as the processor writes them for one image.

        An empty text is the special tokens alone, which is how a caption is asked for without a prompt.
        """
        return [*self.placeholders(), *self.text_ids(text)]

    def placeholders(self) -> list[int]:
        if self.is_matching or self.image_token_id is None:
            return []
        return [self.image_token_id] * self.num_query_tokens

    def text_ids(self, text: str) -> list[int]:
        """The text with its special tokens, without placeholders."""
        return list(self.tokenizer(text)["input_ids"])

    def continuation_ids(self, text: str, continuation: str) -> list[int]:
        """The ids that go on from `text` with `continuation`, without an end token.

        A decoder-only model reads both as one text, so they are tokenized as one where the seam allows it. An
        encoder-decoder model writes the continuation as a text of its own.
        """
        if self.is_encoder_decoder:
            return list(self.tokenizer(continuation, add_special_tokens=False)["input_ids"])
        before = self.text_ids(text)
        joint = self.text_ids(text + spaced(text, continuation))
        if joint[: len(before)] == before and len(joint) > len(before):
            return joint[len(before) :]
        return list(self.tokenizer(spaced(text, continuation), add_special_tokens=False)["input_ids"])

    def show(self, image: Any, text: str) -> Prompt:
        """The prompt of one image (uint8 [h, w, 3]) and one text."""
        input_ids = self.ids(text)
        picture = Image.fromarray(image)
        pixel_values = self.processor.image_processor(picture, return_tensors="np")["pixel_values"]
        return Prompt(
            text=text,
            written=self._written(input_ids),
            input_ids=tuple(input_ids),
            num_placeholders=len(self.placeholders()),
            num_prepended=0 if self.placeholders() or self.is_matching else self.num_query_tokens,
            image_size=(image.shape[1], image.shape[0]),
            pixel_shape=tuple(pixel_values.shape),
        )

    def _written(self, input_ids: list[int]) -> str:
        count = len(self.placeholders())
        text = self.tokenizer.decode(input_ids[count:], skip_special_tokens=False)
        if not count:
            return text
        return f"{self.tokenizer.convert_ids_to_tokens(input_ids[0])} x {count} {text}"


def spaced(text: str, continuation: str) -> str:
    """The continuation with the blank that parts it from the text, where one is needed."""
    return continuation if not text or text[-1].isspace() else f" {continuation}"


def fill(template: str, question: str) -> str:
    """The template with the question in place of `{}`.

    Raises:
        ValueError: the template has no `{}`, so that the question would be lost.
    """
    if "{}" not in template:
        raise ValueError(f"the template {template!r} has no {{}} for the question")
    return template.replace("{}", question)


def _folded(ids: tuple[int, ...]) -> str:
    """Ids with runs written as `id x count`."""
    parts: list[str] = []
    start = 0
    for end in range(1, len(ids) + 1):
        if end == len(ids) or ids[end] != ids[start]:
            count = end - start
            parts.append(f"{ids[start]} x {count}" if count > 2 else ", ".join([str(ids[start])] * count))
            start = end
    return ", ".join(parts)
