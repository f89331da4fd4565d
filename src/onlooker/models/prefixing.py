"""What the processors of the BLIP families share: placeholders of a picture or a clip in front of its prompt."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tokenizers import AddedToken

from onlooker.models.processing import Processor, put_in_front, room_for_text

_NOT_PADDED = (None, False, "do_not_pad")


class PrefixProcessor(Processor):
    """Writes `num_query_tokens` placeholders for each picture, or each frame of a clip, before the text."""

    settings: ClassVar[tuple[str, ...]] = ("num_query_tokens",)
    media: ClassVar[str] = "image"  # the placeholder is <image>, `image_token` and `image_token_id`
    noun: ClassVar[str] = "picture"

    num_query_tokens: int | None
    _warned_of_age: bool = False

    def _placeholder(self) -> AddedToken:
        """The placeholder as the tokenizer knows it, added where it did not."""
        named = getattr(self.tokenizer, f"{self.media}_token", None)
        token = AddedToken(str(named or f"<{self.media}>"), normalized=False, special=True)
        if named is None:
            self.tokenizer.add_tokens([token], special_tokens=True)
        return token

    @property
    def _token(self) -> str:
        return str(getattr(self, f"{self.media}_token"))

    @property
    def _token_id(self) -> int:
        return self.tokenizer.convert_tokens_to_ids(self._token)

    def _columns(self, texts: list[str], options: Mapping[str, Any], frames: Sequence[int] | None) -> dict[str, Any]:
        """Tokenize the prompts; the placeholders come after it, so that nothing pads or cuts them.

        Args:
            frames: of each row; a picture is one. None without pictures and clips.
        """
        options = {"return_token_type_ids": False, **options}
        placeholders = 0 if frames is None else self._placeholders()
        written = [text.count(self._token) for text in texts]
        if placeholders:
            self._check_prompts(written, options)
            options["max_length"] = room_for_text(options.get("max_length"), placeholders)
        elif frames is not None and not any(written):
            self._warn_of_age()
        columns: dict[str, Any] = self.tokenizer(texts, **options)
        if placeholders:
            counts = [placeholders * number for number in frames or ()]
            if options.get("padding") not in _NOT_PADDED and len(set(counts)) > 1:
                columns = self._level(columns, counts, options.get("padding_side") or self.tokenizer.padding_side)
            return put_in_front(columns, self._token_id, counts)
        if any(written) and not options.get("return_overflowing_tokens"):
            self._check_uncut(written, columns["input_ids"])
        return columns

    def _placeholders(self) -> int:
        number = self.num_query_tokens
        if number is not None and number < 1:
            raise ValueError(f"num_query_tokens is {number}; set it to that of the model's config, or to None")
        return number or 0

    def _level(self, columns: Mapping[str, Any], counts: list[int], side: str) -> dict[str, Any]:
        """Pad texts further where fewer placeholders will stand in front of them, so that rows stay of one length."""
        at_pad = {
            "input_ids": self.tokenizer.pad_token_id,
            "attention_mask": 0,
            "token_type_ids": 0,
            "special_tokens_mask": 1,
            "offset_mapping": (0, 0),
        }
        level: dict[str, Any] = {}
        for name, rows in columns.items():
            if name == "length":
                level[name] = [length + max(counts) - count for length, count in zip(rows, counts)]
                continue
            pads = [[at_pad[name]] * (max(counts) - count) for count in counts]
            level[name] = [[*pad, *row] if side == "left" else [*row, *pad] for pad, row in zip(pads, rows)]
        return level

    def _check_prompts(self, written: list[int], options: Mapping[str, Any]) -> None:
        row = next((row for row, count in enumerate(written) if count), None)
        if row is not None:
            raise ValueError(
                f"Prompt {row} holds {written[row]} {self._token} tokens, but the processor writes the "
                f"{self.num_query_tokens} placeholders of a {self._unit()} in front itself. Take them out of the text."
            )
        if options.get("return_overflowing_tokens"):
            raise ValueError(
                f"return_overflowing_tokens gives rows without a {self.noun} of their own; cut texts yourself"
            )

    def _unit(self) -> str:
        return "picture" if self.media == "image" else "frame"

    def _check_uncut(self, written: list[int], rows: list[list[int]]) -> None:
        for row, (wanted, ids) in enumerate(zip(written, rows)):
            left = ids.count(self._token_id)
            if left != wanted:
                raise ValueError(
                    f"Truncation cut placeholders: prompt {row} has {wanted} {self._token} tokens and {left} of "
                    "them are left. Give a larger max_length, or turn truncation off."
                )

    def _warn_of_age(self) -> None:
        if not self._warned_of_age:
            self._warned_of_age = True
            warnings.warn(
                "This processor has no num_query_tokens (its folder is of an older kind), so prompts get no "
                f"{self.media} placeholders and the model puts the {self.noun}'s features in front of the text. That "
                "works. To write placeholders, set processor.num_query_tokens and "
                f"model.config.{self.media}_token_index, and resize the model's token embeddings where the vocabulary "
                f"lacks {self._token}.",
                stacklevel=4,
            )

    def _check_pairs(self, media: int, texts: int) -> None:
        if media == texts:
            return
        given, prompts = f"{media} {self.noun}{'s' * (media != 1)}", f"{texts} prompt{'s' * (texts != 1)}"
        if media > texts:
            raise ValueError(
                f"{given} for {prompts}: this family takes one {self.noun} for each prompt. "
                f"Give as many prompts as {self.noun}s, or ask about one {self.noun} at a time."
            )
        raise ValueError(
            f"{prompts} for {given}: each prompt needs a {self.noun} of its own. "
            f"To ask several things about one {self.noun}, repeat it: images=[{self.media}] * len(text). "
            f"(To compare every text with every {self.noun}, process them in two calls.)"
        )
