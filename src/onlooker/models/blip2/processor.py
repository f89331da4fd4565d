"""The processor of BLIP-2: pictures to pixel_values, prompts to ids with the placeholders of the picture in front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from onlooker.models.prefixing import PrefixProcessor
from onlooker.models.processing import as_batch, as_texts, options_of, split_options
from onlooker.outputs import BatchFeature
from onlooker.pixels import BlipImageProcessor
from onlooker.text import Tokenizer
from onlooker.text.chat import BLIP2


class Blip2Processor(PrefixProcessor):
    """A picture and a prompt become what the BLIP-2 classes take.

    Args:
        num_query_tokens: placeholders in front of each prompt, as in the model's config. None (older folders): none
            are written, and the model puts the features in front itself. It may be set later.
    """

    part_classes: ClassVar[Mapping[str, type]] = {"image_processor": BlipImageProcessor, "tokenizer": Tokenizer}
    default_chat_template: ClassVar[str | dict[str, str]] = BLIP2

    def __init__(
        self,
        image_processor: BlipImageProcessor,
        tokenizer: Tokenizer,
        num_query_tokens: int | None = None,
        chat_template: str | dict[str, str] | None = None,
    ) -> None:
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.num_query_tokens = num_query_tokens
        self.chat_template = chat_template
        self.image_token = self._placeholder()

    @property
    def image_token_id(self) -> int:
        """The id of the placeholder."""
        return self._token_id

    def __call__(self, images: Any = None, text: str | list[str] | None = None, **options: Any) -> BatchFeature:
        """Prepare pictures, prompts or both; with both, one picture for each prompt.

        Args:
            images: one picture or a list: Pillow image, array, tensor, path, URL or bytes.
            text: one prompt or a list. Placeholders are not part of it.
            options: of `Tokenizer.__call__` and `BlipImageProcessor.preprocess`, flat or as `text_kwargs=` and
                `images_kwargs=`. `max_length` counts the placeholders too; `return_tensors` is for all.

        Returns:
            input_ids and attention_mask (with text), pixel_values (with pictures). Rows of text are lists without
            `return_tensors`. Placeholders stand first in a row, before padding and the start token.

        Raises:
            ValueError: neither pictures nor text, a different number of them, placeholders in a prompt that gets its
                own or cut off by truncation, a max_length that they fill.
            TypeError: an option that neither part has.
        """
        if images is None and text is None:
            raise ValueError("You have to specify either images or text.")
        chosen, return_tensors = split_options(options, self.call_options())
        batch = BatchFeature()
        texts = None if text is None else as_texts(text)
        if texts is not None:
            columns = self._columns(texts, chosen["text_kwargs"], None if images is None else [1] * len(texts))
            batch.update(as_batch(columns, return_tensors))
        if images is not None:
            pixels = self.image_processor(images, return_tensors=return_tensors, **chosen["images_kwargs"])
            if texts is not None and self.num_query_tokens is not None:
                self._check_pairs(len(pixels["pixel_values"]), len(texts))
            batch.update(pixels)
        return batch

    def call_options(self) -> dict[str, list[str]]:
        """The options of a call by part."""
        return {
            "text_kwargs": options_of(self.tokenizer.__call__),
            "images_kwargs": options_of(self.image_processor.preprocess),
        }
