"""The processor of BLIP-2: pictures to pixel_values, prompts to ids with the placeholders of the picture in front."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from tokenizers import AddedToken

from onlooker.models.processing import (
    Processor,
    as_batch,
    as_texts,
    options_of,
    put_in_front,
    room_for_text,
    split_options,
)
from onlooker.outputs import BatchFeature
from onlooker.pixels import BlipImageProcessor
from onlooker.text import Tokenizer

IMAGE_TOKEN = "<image>"


class Blip2Processor(Processor):
    """A picture and a prompt become what the BLIP-2 classes take.

    Args:
        num_query_tokens: placeholders in front of each prompt, as in the model's config. None (older folders): none
            are written, and the model puts the features in front itself. It may be set later.
    """

    part_classes: ClassVar[Mapping[str, type]] = {"image_processor": BlipImageProcessor, "tokenizer": Tokenizer}
    settings: ClassVar[tuple[str, ...]] = ("num_query_tokens",)

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
        named = getattr(tokenizer, "image_token", None)
        self.image_token = AddedToken(str(named or IMAGE_TOKEN), normalized=False, special=True)
        if named is None:
            tokenizer.add_tokens([self.image_token], special_tokens=True)
        self._warned_of_age = False

    @property
    def image_token_id(self) -> int:
        """The id of the placeholder."""
        return self.tokenizer.convert_tokens_to_ids(str(self.image_token))

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
        known = {
            "text_kwargs": options_of(self.tokenizer.__call__),
            "images_kwargs": options_of(self.image_processor.preprocess),
        }
        chosen, return_tensors = split_options(options, known)
        batch = BatchFeature()
        texts = None if text is None else as_texts(text)
        if texts is not None:
            columns = self._columns(texts, chosen["text_kwargs"], has_images=images is not None)
            batch.update(as_batch(columns, return_tensors))
        if images is not None:
            pixels = self.image_processor(images, return_tensors=return_tensors, **chosen["images_kwargs"])
            if texts is not None and self.num_query_tokens is not None:
                _check_pairs(len(pixels["pixel_values"]), len(texts))
            batch.update(pixels)
        return batch

    def _columns(self, texts: list[str], options: dict[str, Any], *, has_images: bool) -> dict[str, Any]:
        """Tokenize the prompts; the placeholders come after it, so that nothing pads or cuts them."""
        options = {"return_token_type_ids": False, **options}
        placeholders = self._placeholders() if has_images else 0
        written = [text.count(str(self.image_token)) for text in texts]
        if placeholders:
            self._check_prompts(written, placeholders, options)
            options["max_length"] = room_for_text(options.get("max_length"), placeholders)
        elif has_images and not any(written):
            self._warn_of_age()
        columns = self.tokenizer(texts, **options)
        if placeholders:
            return put_in_front(columns, self.image_token_id, [placeholders] * len(texts))
        if any(written) and not options.get("return_overflowing_tokens"):
            self._check_uncut(written, columns["input_ids"])
        return columns

    def _placeholders(self) -> int:
        number = self.num_query_tokens
        if number is not None and number < 1:
            raise ValueError(f"num_query_tokens is {number}; set it to that of the model's config, or to None")
        return number or 0

    def _check_prompts(self, written: list[int], placeholders: int, options: dict[str, Any]) -> None:
        row = next((row for row, count in enumerate(written) if count), None)
        if row is not None:
            raise ValueError(
                f"Prompt {row} holds {written[row]} {self.image_token} tokens, but the processor writes the "
                f"{placeholders} placeholders of a picture in front itself. Take them out of the text."
            )
        if options.get("return_overflowing_tokens"):
            raise ValueError("return_overflowing_tokens gives rows without a picture of their own; cut texts yourself")

    def _check_uncut(self, written: list[int], rows: list[list[int]]) -> None:
        for row, (wanted, ids) in enumerate(zip(written, rows)):
            left = ids.count(self.image_token_id)
            if left != wanted:
                raise ValueError(
                    f"Truncation cut placeholders: prompt {row} has {wanted} {self.image_token} tokens and {left} of "
                    "them are left. Give a larger max_length, or turn truncation off."
                )

    def _warn_of_age(self) -> None:
        if not self._warned_of_age:
            self._warned_of_age = True
            warnings.warn(
                "This processor has no num_query_tokens (its folder is of an older kind), so prompts get no image "
                "placeholders and the model puts the picture's features in front of the text. That works. To write "
                "placeholders, set processor.num_query_tokens and model.config.image_token_index, and resize the "
                f"model's token embeddings where the vocabulary lacks {self.image_token}.",
                stacklevel=4,
            )


def _check_pairs(images: int, texts: int) -> None:
    if images == texts:
        return
    if images > texts:
        raise ValueError(
            f"{images} pictures for {texts} prompt{'s' * (texts != 1)}: this family takes one picture for each prompt. "
            "Give as many prompts as pictures, or ask about one picture at a time."
        )
    raise ValueError(
        f"{texts} prompts for {images} picture{'s' * (images != 1)}: each prompt needs a picture of its own. "
        "To ask several things about one picture, repeat it: images=[image] * len(text). "
        "(To compare every text with every picture, process them in two calls.)"
    )
