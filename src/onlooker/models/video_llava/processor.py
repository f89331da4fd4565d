"""The processor of Video-LLaVA: pictures and clips to pixels, and the markers in prompts to placeholders."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from onlooker.models.processing import Processor, as_batch, as_texts, options_of, split_options
from onlooker.outputs import BatchFeature
from onlooker.pixels import VideoLlavaImageProcessor, VideoLlavaVideoProcessor
from onlooker.text import Tokenizer
from onlooker.text.chat import VICUNA, VICUNA_PAPER


class VideoLlavaProcessor(Processor):
    """Prompts with "<image>" and "<video>" in them, pictures and clips become what the Video-LLaVA classes take.

    Args:
        video_processor: built with the options of `image_processor` when it is not given.
        patch_size, vision_feature_select_strategy, num_additional_image_tokens: as the model has them; they set how
            many placeholders a marker becomes. They may be set later.
        image_token, video_token: the markers, where the tokenizer has none of its own.
    """

    part_classes: ClassVar[Mapping[str, type]] = {
        "image_processor": VideoLlavaImageProcessor,
        "video_processor": VideoLlavaVideoProcessor,
        "tokenizer": Tokenizer,
    }
    settings: ClassVar[tuple[str, ...]] = (
        "patch_size",
        "vision_feature_select_strategy",
        "image_token",
        "video_token",
        "num_additional_image_tokens",
    )
    default_chat_template: ClassVar[str | dict[str, str]] = {"default": VICUNA, "paper": VICUNA_PAPER}
    takes: ClassVar[tuple[str, ...]] = ("image", "video")
    takes_several: ClassVar[bool] = True
    trained_num_frames: int = 8

    def __init__(
        self,
        image_processor: VideoLlavaImageProcessor | None = None,
        video_processor: VideoLlavaVideoProcessor | None = None,
        tokenizer: Tokenizer | None = None,
        patch_size: int = 14,
        vision_feature_select_strategy: str = "default",
        image_token: str = "<image>",
        video_token: str = "<video>",
        chat_template: str | dict[str, str] | None = None,
        num_additional_image_tokens: int = 1,
    ) -> None:
        if tokenizer is None:
            raise TypeError("VideoLlavaProcessor needs a tokenizer")
        self.image_processor = image_processor or VideoLlavaImageProcessor()
        if video_processor is None:
            video_processor = VideoLlavaVideoProcessor.from_dict(self.image_processor.to_dict())
        self.video_processor: VideoLlavaVideoProcessor = video_processor
        self.tokenizer = tokenizer
        self.patch_size = patch_size
        self.vision_feature_select_strategy = vision_feature_select_strategy
        self.num_additional_image_tokens = num_additional_image_tokens
        self.image_token = str(getattr(tokenizer, "image_token", None) or image_token)
        self.video_token = str(getattr(tokenizer, "video_token", None) or video_token)
        self.chat_template = chat_template
        self._warned_of_several = False

    @property
    def image_token_id(self) -> int | None:
        """The id of the placeholder of pictures."""
        return self.tokenizer.convert_tokens_to_ids(self.image_token)

    @property
    def video_token_id(self) -> int | None:
        """The id of the placeholder of clips."""
        return self.tokenizer.convert_tokens_to_ids(self.video_token)

    def __call__(
        self,
        text: str | list[str] | None = None,
        images: Any = None,
        videos: Any = None,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        return_tensors: str | None = "pt",
        **options: Any,
    ) -> BatchFeature:
        """Prepare prompts, pictures and clips; media go to the markers of the prompts in reading order.

        Args:
            text: one prompt or a list, such as "USER: <video>\\nWhy is this funny? ASSISTANT:".
            images: one picture or a list: Pillow image, array, tensor, path, URL or bytes.
            videos: one clip or a list of them: array or tensor [F, h, w, 3] or [F, 3, h, w], list of frames, file.
            padding, truncation, max_length: as for the tokenizer; max_length counts the placeholders.
            return_tensors: "pt", "np", or None for lists.
            options: of `Tokenizer.__call__` and of the pixels' `preprocess`, flat or as `text_kwargs=`,
                `images_kwargs=` and `videos_kwargs=`.

        Returns:
            pixel_values_images, pixel_values_videos, input_ids and attention_mask, as far as given. Clips of different
            lengths are a list of tensors [F, 3, h, w].

        Raises:
            ValueError: nothing at all, markers and media that differ in number, placeholders that truncation cuts.
            TypeError: an option that no part has.
        """
        if text is None and images is None and videos is None:
            raise ValueError("You have to specify text, images or videos.")
        given = {"padding": padding, "truncation": truncation, "max_length": max_length}
        text_kwargs = {**given, **(options.pop("text_kwargs", None) or {})}
        chosen, kind = split_options({**options, "text_kwargs": text_kwargs}, self.call_options())
        return_tensors = kind or return_tensors
        texts = None if text is None else as_texts(text)
        batch = BatchFeature()
        if images is not None:
            batch.update(self.image_processor(images, return_tensors=return_tensors, **chosen["images_kwargs"]))
        if videos is not None:
            batch.update(self.video_processor(videos, return_tensors=return_tensors, **chosen["videos_kwargs"]))
        if texts is not None:
            batch.update(as_batch(self._columns(texts, batch, chosen["text_kwargs"]), return_tensors))
        return batch

    def call_options(self) -> dict[str, list[str]]:
        """The options of a call by part."""
        pixels = [
            name for name in self.image_processor.call_options() if name not in ("do_sample_frames", "num_frames")
        ]
        return {
            "text_kwargs": options_of(self.tokenizer.__call__),
            "images_kwargs": pixels,
            "videos_kwargs": self.video_processor.call_options(),
        }

    def _columns(self, texts: list[str], pixels: Mapping[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        counts = {
            self.image_token: [self._image_length(each) for each in pixels.get("pixel_values_images", ())],
            self.video_token: [self._video_length(each) for each in pixels.get("pixel_values_videos", ())],
        }
        self._check_markers(texts, counts)
        for marker, lengths in counts.items():
            if lengths and any(marker in text for text in texts):
                texts = list(_expanded(texts, marker, lengths))
        columns = self.tokenizer(texts, **options)
        for marker in counts if any(counts.values()) else ():
            self._check_uncut(marker, texts, columns["input_ids"], options)
        return dict(columns)

    def _image_length(self, pixel_values: Any) -> int:
        """Placeholders of one picture [3, h, w]."""
        is_default = self.vision_feature_select_strategy == "default"
        return self._patches(pixel_values) + self.num_additional_image_tokens - is_default

    def _video_length(self, pixel_values: Any) -> int:
        """Placeholders of one clip [F, 3, h, w]; frames keep their class token whatever the strategy."""
        return len(pixel_values) * (self._patches(pixel_values[0]) + self.num_additional_image_tokens)

    def _patches(self, pixel_values: Any) -> int:
        height, width = pixel_values.shape[1:] if pixel_values.shape[0] in (1, 3) else pixel_values.shape[:2]
        return (height // self.patch_size) * (width // self.patch_size)

    def _check_markers(self, texts: Sequence[str], counts: Mapping[str, Sequence[int]]) -> None:
        found = {marker: sum(text.count(marker) for text in texts) for marker in counts}
        media = sum(map(len, counts.values()))
        if not media or not any(found[marker] for marker, lengths in counts.items() if lengths):
            return  # text alone; or no marker at all: then the model puts the features in front, and says so
        for marker, lengths in counts.items():
            if found[marker] != len(lengths):
                noun = "picture" if marker == self.image_token else "clip"
                raise ValueError(
                    f"{found[marker]} {marker} in the prompts, but {len(lengths)} {noun}{'s' * (len(lengths) != 1)}; "
                    f"write one {marker} where each {noun} is to stand, and leave its placeholders to the processor"
                )
            known = self.tokenizer.convert_tokens_to_ids(marker)
            if lengths and self.tokenizer.convert_ids_to_tokens(-1 if known is None else known) != marker:
                raise ValueError(
                    f"the tokenizer has no token {marker}; add it with tokenizer.add_tokens([{marker!r}], "
                    "special_tokens=True), resize the model's embeddings, and set its index in the model's config"
                )
        if not self._warned_of_several and any(sum(map(text.count, counts)) > 1 for text in texts):
            self._warned_of_several = True
            warnings.warn(
                "a prompt has several pictures or clips; that works, but the model was trained on one for each prompt",
                stacklevel=4,
            )

    def _check_uncut(
        self, marker: str, texts: Sequence[str], rows: Sequence[list[int]], options: Mapping[str, Any]
    ) -> None:
        if options.get("return_overflowing_tokens"):
            raise ValueError("return_overflowing_tokens gives rows without media of their own; cut texts yourself")
        number = self.tokenizer.convert_tokens_to_ids(marker)
        for row, (text, ids) in enumerate(zip(texts, rows)):
            wanted, left = text.count(marker), ids.count(number)
            if wanted > left:
                raise ValueError(
                    f"Truncation cut placeholders: prompt {row} has {wanted} {marker} tokens and {left} of them are "
                    "left. Give a larger max_length, or turn truncation off."
                )


def _expanded(texts: Sequence[str], marker: str, lengths: Sequence[int]) -> Iterator[str]:
    """The texts with the next medium's placeholders for every marker, in reading order."""
    remaining = iter(lengths)
    for text in texts:
        first, *rest = text.split(marker)
        yield first + "".join(marker * next(remaining) + piece for piece in rest)
