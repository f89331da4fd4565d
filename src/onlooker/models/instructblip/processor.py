"""The processors of InstructBLIP: a clip or a picture, and an instruction that two tokenizers read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from onlooker.hub import find_file
from onlooker.models.prefixing import PrefixProcessor
from onlooker.models.processing import as_batch, as_texts, options_of, split_options
from onlooker.outputs import BatchFeature
from onlooker.pixels import BlipImageProcessor, InstructBlipVideoImageProcessor
from onlooker.pixels.clips import as_picture
from onlooker.text import Tokenizer
from onlooker.text.chat import PLAIN
from onlooker.text.loading import read_json

# What the second tokenizer gives of all that may be asked for; the other columns are the language model's.
_QFORMER_COLUMNS = ("input_ids", "attention_mask")
_OF_ROWS = ("return_overflowing_tokens", "return_special_tokens_mask", "return_offsets_mapping", "return_length")


class _InstructProcessor(PrefixProcessor):
    """What the processors of clips and of pictures share: two tokenizers, and files made for either."""

    subfolders: ClassVar[Mapping[str, str]] = {"qformer_tokenizer": "qformer_tokenizer"}
    default_chat_template: ClassVar[str | dict[str, str]] = PLAIN

    qformer_tokenizer: Tokenizer

    @property
    def model_input_names(self) -> list[str]:
        """Every name that a call may give back."""
        names = [*self.tokenizer.model_input_names, *self._pixels.model_input_names]
        return list(dict.fromkeys([*names, "qformer_input_ids", "qformer_attention_mask"]))

    @property
    def _pixels(self) -> Any:
        return getattr(self, next(iter(self.part_classes)))

    def __call__(self, images: Any = None, text: str | list[str] | None = None, **options: Any) -> BatchFeature:
        """Prepare clips (pictures), instructions or both; with both, one clip for each instruction.

        Args:
            images: one clip or a list of them: array or tensor, list of frames, path, URL or bytes; a single picture is
                a clip of one frame. The image twin takes pictures.
            text: one instruction or a list. Placeholders are not part of it.
            options: of `Tokenizer.__call__` and of the pixels' `preprocess`, flat or as `text_kwargs=` and
                `images_kwargs=`. `max_length` counts num_query_tokens placeholders too; `return_tensors` is for all.

        Returns:
            qformer_input_ids, qformer_attention_mask, input_ids and attention_mask (with text), pixel_values (with
            clips). num_query_tokens placeholders for every frame stand first in a row. Clips of different lengths are
            a list of tensors [F, 3, h, w].

        Raises:
            ValueError: neither clips nor text, a different number of them, placeholders in an instruction that gets
                its own or cut off by truncation, a max_length that they fill.
            TypeError: an option that no part has.
        """
        if images is None and text is None:
            raise ValueError("You have to specify at least one of images or text.")
        chosen, return_tensors = split_options(options, self.call_options())
        texts = None if text is None else as_texts(text)
        pixels = BatchFeature()
        if images is not None:
            pixels = self._pixels(images, return_tensors=return_tensors, **chosen["images_kwargs"])
        batch = BatchFeature()
        if texts is not None:
            frames = self._frames(pixels["pixel_values"]) if images is not None else None
            if frames is not None:
                self._check_pairs(len(frames), len(texts))
            batch.update(self._text(texts, chosen["text_kwargs"], frames, return_tensors))
        batch.update(pixels)
        return batch

    def call_options(self) -> dict[str, list[str]]:
        """The options of a call by part."""
        return {
            "text_kwargs": options_of(self.tokenizer.__call__),
            "images_kwargs": self._pixel_options(),
        }

    def _pixel_options(self) -> list[str]:
        return options_of(self._pixels.preprocess)

    def _frames(self, pixel_values: Any) -> list[int]:
        """How many times num_query_tokens placeholders each row gets."""
        return [1] * len(pixel_values)

    def _text(
        self, texts: list[str], options: dict[str, Any], frames: Sequence[int] | None, return_tensors: str | None
    ) -> BatchFeature:
        qformer = {name: value for name, value in options.items() if name not in _OF_ROWS}
        # The Q-Former has no positions of its own for a row that starts late, so its pads always stand on the right.
        qformer |= {"padding_side": "right", "return_token_type_ids": False}
        read = self.qformer_tokenizer(texts, **qformer)
        columns = {f"qformer_{name}": read[name] for name in _QFORMER_COLUMNS if name in read}
        return as_batch(columns | self._columns(texts, options, frames), return_tensors)

    @classmethod
    def _fit(cls, parts: dict[str, Any], name_or_path: str | os.PathLike[str], hub: Mapping[str, Any]) -> None:
        """Read the placeholder of the other kind as ours: checkpoints of pictures load as they are for clips."""
        tokenizer = parts["tokenizer"]
        ours, other = f"<{cls.media}>", "<image>" if cls.media == "video" else "<video>"
        added = tokenizer.added_tokens_encoder
        if ours in added or other not in added or getattr(tokenizer, f"{cls.media}_token", None):
            return
        config = read_json(find_file(name_or_path, "config.json", **hub))
        named = [config.get(f"{kind}_token_{form}") for kind in ("video", "image") for form in ("index", "id")]
        known = [number for number in named if number is not None]
        if not known or added[other] in known:
            tokenizer.rename_token(other, ours)


class InstructBlipVideoProcessor(_InstructProcessor):
    """A clip and an instruction become what the InstructBLIPVideo classes take.

    Args:
        image_processor: or `video_processor`, the same under its newer name.
        qformer_tokenizer: reads the instruction for the Q-Former.
        num_query_tokens: placeholders for each frame, as in the model's config. None (older folders): none are
            written, and the model puts the features in front itself. It may be set later.
    """

    part_classes: ClassVar[Mapping[str, type]] = {
        "image_processor": InstructBlipVideoImageProcessor,
        "tokenizer": Tokenizer,
        "qformer_tokenizer": Tokenizer,
    }
    media: ClassVar[str] = "video"
    noun: ClassVar[str] = "clip"
    takes: ClassVar[tuple[str, ...]] = ("image", "video")
    trained_num_frames: int = 4  # or what the folder's pixels say under num_frames

    def __init__(
        self,
        image_processor: InstructBlipVideoImageProcessor | None = None,
        tokenizer: Tokenizer | None = None,
        qformer_tokenizer: Tokenizer | None = None,
        num_query_tokens: int | None = None,
        *,
        video_processor: InstructBlipVideoImageProcessor | None = None,
        chat_template: str | dict[str, str] | None = None,
    ) -> None:
        pixels = image_processor or video_processor
        if pixels is None or tokenizer is None or qformer_tokenizer is None:
            raise TypeError("InstructBlipVideoProcessor needs image_processor, tokenizer and qformer_tokenizer")
        self.image_processor = pixels
        self.trained_num_frames = pixels.num_frames or self.trained_num_frames
        self.tokenizer = tokenizer
        self.qformer_tokenizer = qformer_tokenizer
        self.num_query_tokens = num_query_tokens
        self.chat_template = chat_template
        self.video_token = self._placeholder()

    @property
    def video_processor(self) -> InstructBlipVideoImageProcessor:
        """`image_processor` under its newer name."""
        return self.image_processor

    @video_processor.setter
    def video_processor(self, processor: InstructBlipVideoImageProcessor) -> None:
        self.image_processor = processor

    @property
    def video_token_id(self) -> int:
        """The id of the placeholder."""
        return self._token_id

    def _pixel_options(self) -> list[str]:
        return self.image_processor.call_options()

    def _frames(self, pixel_values: Any) -> list[int]:
        return [len(clip) for clip in pixel_values]

    def _media_arguments(self, rows: Sequence[tuple[list[Any], list[Any]]]) -> dict[str, Any]:
        clips = [clip for images, videos in rows for clip in [*([as_picture(image)] for image in images), *videos]]
        return {"images": clips} if clips else {}


class InstructBlipProcessor(_InstructProcessor):
    """A picture and an instruction become what the InstructBLIP classes take; the image twin of the above."""

    part_classes: ClassVar[Mapping[str, type]] = {
        "image_processor": BlipImageProcessor,
        "tokenizer": Tokenizer,
        "qformer_tokenizer": Tokenizer,
    }

    def __init__(
        self,
        image_processor: BlipImageProcessor,
        tokenizer: Tokenizer,
        qformer_tokenizer: Tokenizer,
        num_query_tokens: int | None = None,
        *,
        chat_template: str | dict[str, str] | None = None,
    ) -> None:
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.qformer_tokenizer = qformer_tokenizer
        self.num_query_tokens = num_query_tokens
        self.chat_template = chat_template
        self.image_token = self._placeholder()

    @property
    def image_token_id(self) -> int:
        """The id of the placeholder."""
        return self._token_id
