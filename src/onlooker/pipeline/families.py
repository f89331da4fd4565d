"""What differs between the families: how they see, and how their prompts are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from onlooker.config import Config
from onlooker.media import Frames
from onlooker.pipeline.encoded import Row
from onlooker.pipeline.media import IMAGE, VIDEO, Medium

# The channel axis of an array one or three pixels high would be a guess.
_ARRAYS: dict[str, Any] = {"input_data_format": "channels_last", "return_tensors": "np"}


class Family:
    """BLIP-2, and what the other families do as it does.  No weights are needed, but by methods that take a model."""

    name: ClassVar[str] = "BLIP-2"
    takes_video: ClassVar[bool] = False
    takes_several: ClassVar[bool] = False  # media in one prompt
    reads_instruction: ClassVar[bool] = False
    trained_frames: int = 1
    trained_sampling: str = "uniform"
    caption_request: ClassVar[str] = ""  # with {} for the kind of medium
    yes_no: ClassVar[tuple[str, str]] = ("yes", "no")

    def __init__(self, processor: Any, config: Any) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.config = config

    @property
    def placeholders(self) -> dict[str, int | None]:
        """Kind of medium -> the token that keeps a place for each of its visual tokens."""
        return {IMAGE: self.config.image_token_index}

    # -- text -----------------------------------------------------------------------------------------------------

    def ask_text(self, question: str, kinds: Sequence[str]) -> str:
        """The prompt of a question about media, as the family was trained."""
        content = [*({"type": kind} for kind in kinds), {"type": "text", "text": question}]
        return self.chat_text([{"role": "user", "content": content}])

    def chat_text(self, messages: Sequence[Any], **options: Any) -> str:
        return self.processor.apply_chat_template(messages, **{"add_generation_prompt": True, **options})

    def caption_text(self, prompt: str | None, kinds: Sequence[str]) -> str:
        """The prompt of a caption that begins with `prompt`; None asks for one as the family was trained."""
        return self.caption_request if prompt is None else prompt

    def with_markers(self, text: str, kinds: Sequence[str]) -> str:
        """A prompt of the user's own, with a place for every medium."""
        return text

    def ids(self, text: str, media: Sequence[tuple[str, int]]) -> list[int]:
        """Placeholders and text, as the processor writes them.

        Args:
            media: kind and number of visual tokens of each, in order.
        """
        return [*self._in_front(media), *self.text_ids(text)]

    def _in_front(self, media: Sequence[tuple[str, int]]) -> list[int]:
        known = self.placeholders
        return [token for kind, count in media if (token := known[kind]) is not None for _ in range(count)]

    def text_ids(self, text: str) -> list[int]:
        """The text with its special tokens, which a chat template may have written already."""
        start = self.tokenizer.bos_token
        has_start = bool(start) and text.startswith(str(start))
        return list(self.tokenizer(text, add_special_tokens=not has_start)["input_ids"])

    # -- sight ----------------------------------------------------------------------------------------------------

    def pixel_name(self, kind: str) -> str:
        return "pixel_values"

    def pixels(self, medium: Medium) -> np.ndarray:
        """Pixel values: [3, h, w] of a picture ([1, 3, h, w] of one that is a clip to the model), [F, 3, h, w]."""
        if isinstance(medium, Frames):
            return self.clip_pixels(medium.pictures())
        return self.picture_pixels(medium)

    def picture_pixels(self, picture: np.ndarray) -> np.ndarray:
        """Of uint8 [h, w, 3]."""
        return self.processor.image_processor(picture, **_ARRAYS)["pixel_values"][0]

    def clip_pixels(self, frames: np.ndarray) -> np.ndarray:
        """Of uint8 [F, h, w, 3], each frame by itself, so that they may come one by one."""
        raise NotImplementedError

    def count(self, kind: str, pixel_shape: Sequence[int]) -> int:
        """Visual tokens of a picture or a clip."""
        return self.config.num_query_tokens

    def see(self, model: Any, pixels: Sequence[Tensor], kind: str) -> list[Tensor]:
        """Features of media of one kind that can be asked about again and again."""
        return list(model.get_image_features(torch.stack(list(pixels))))

    def visual_tokens(self, model: Any, rows: Sequence[Row]) -> list[Tensor]:
        """Features that the language model reads [n, D], for all media of all rows in order."""
        return [seen.features for row in rows for seen in row.media]


class Matching(Family):
    """BLIP-2 that compares: texts are read by the Q-Former, without placeholders."""

    def _in_front(self, media: Sequence[tuple[str, int]]) -> list[int]:
        return []

    def count(self, kind: str, pixel_shape: Sequence[int]) -> int:
        return 0

    def see(self, model: Any, pixels: Sequence[Tensor], kind: str) -> list[Tensor]:
        return list(model.vision_model(torch.stack(list(pixels)), return_dict=True).last_hidden_state)


class InstructBlip(Family):
    """Its Q-Former reads the question, so what is kept are the features of the vision tower."""

    name = "InstructBLIP"
    takes_video = True
    reads_instruction = True
    caption_request = "A short {} description."

    def __init__(self, processor: Any, config: Any) -> None:
        super().__init__(processor, config)
        self.trained_frames = processor.trained_num_frames

    @property
    def placeholders(self) -> dict[str, int | None]:
        return dict.fromkeys((IMAGE, VIDEO), self.config.video_token_index)

    def caption_text(self, prompt: str | None, kinds: Sequence[str]) -> str:
        return self.caption_request.format(kinds[-1]) if prompt is None else prompt

    # Pictures and clips each with the resize of the published processor of their kind.

    def picture_pixels(self, picture: np.ndarray) -> np.ndarray:
        return self.processor.image_processor(picture[None], resize_with="pillow", **_ARRAYS)["pixel_values"][0]

    def clip_pixels(self, frames: np.ndarray) -> np.ndarray:
        return self.processor.image_processor(frames, **_ARRAYS)["pixel_values"][0]

    def count(self, kind: str, pixel_shape: Sequence[int]) -> int:
        return pixel_shape[0] * self.config.num_query_tokens

    def see(self, model: Any, pixels: Sequence[Tensor], kind: str) -> list[Tensor]:
        patches = model.vision_model(torch.cat(list(pixels)), return_dict=True).last_hidden_state
        return list(patches.split([len(clip) for clip in pixels]))

    def visual_tokens(self, model: Any, rows: Sequence[Row]) -> list[Tensor]:
        media = [(seen, row.instruction) for row in rows for seen in row.media]
        if not media:
            return []
        patches = torch.cat([seen.features for seen, _ in media])
        frames = [len(seen.features) for seen, _ in media]
        texts = [instruction for _, instruction in media]
        read = self.processor.qformer_tokenizer(
            texts, padding=True, padding_side="right", return_token_type_ids=False, return_tensors="pt"
        )
        ids, mask = read["input_ids"].to(patches.device), read["attention_mask"].to(patches.device)
        tokens, _ = model.read_patches(patches, frames, ids, mask)
        return list(tokens.split([seen.num_tokens for seen, _ in media]))


class VideoLlava(Family):
    """Media stand where their markers are, any number of them."""

    name = "Video-LLaVA"
    takes_video = True
    takes_several = True
    trained_frames = 8
    caption_request = "Describe the {}."
    yes_no = ("Yes", "No")

    def __init__(self, processor: Any, config: Any) -> None:
        super().__init__(processor, config)
        if config.video_time_frames:  # the paper's model, which samples and prompts in another way
            self.trained_frames, self.trained_sampling = config.video_time_frames, "linspace"

    @property
    def placeholders(self) -> dict[str, int | None]:
        return {IMAGE: self.config.image_token_index, VIDEO: self.config.video_token_index}

    @property
    def _markers(self) -> dict[str, str]:
        return {IMAGE: self.processor.image_token, VIDEO: self.processor.video_token}

    def chat_text(self, messages: Sequence[Any], **options: Any) -> str:
        has_own = self.processor.chat_template or self.tokenizer.chat_template
        if self.config.video_time_frames and not has_own:
            options["chat_template"] = "paper"
        return super().chat_text(messages, **options)

    def caption_text(self, prompt: str | None, kinds: Sequence[str]) -> str:
        """The answer to a request for a caption, begun with the prompt."""
        if prompt and any(marker in prompt for marker in self._markers.values()):
            return prompt
        request = self.ask_text(self.caption_request.format(kinds[-1] if kinds else IMAGE), kinds)
        return f"{request} {prompt}" if prompt else request

    def with_markers(self, text: str, kinds: Sequence[str]) -> str:
        if any(marker in text for marker in self._markers.values()):
            return text
        return "".join(f"{self._markers[kind]}\n" for kind in kinds) + text

    def ids(self, text: str, media: Sequence[tuple[str, int]]) -> list[int]:
        for kind, marker in self._markers.items():
            counts = [count for each, count in media if each == kind]
            first, *rest = text.split(marker)
            if len(rest) != len(counts):
                raise ValueError(
                    f"{len(rest)} {marker} in the prompt, but {len(counts)} {kind}{'s' * (len(counts) != 1)}; "
                    f"write {marker} where each {kind} is to stand"
                )
            text = first + "".join(marker * count + piece for count, piece in zip(counts, rest))
        return self.text_ids(text)

    def pixel_name(self, kind: str) -> str:
        return f"pixel_values_{kind}s"

    def picture_pixels(self, picture: np.ndarray) -> np.ndarray:
        return self.processor.image_processor(picture, **_ARRAYS)["pixel_values_images"][0]

    def clip_pixels(self, frames: np.ndarray) -> np.ndarray:
        return self.processor.video_processor(frames, **_ARRAYS)["pixel_values_videos"][0]

    def count(self, kind: str, pixel_shape: Sequence[int]) -> int:
        size = self.config.vision_config.patch_size
        patches = (pixel_shape[-2] // size) * (pixel_shape[-1] // size)
        if kind == VIDEO:
            return pixel_shape[0] * (patches + 1)  # frames keep their class token
        return patches + (self.config.vision_feature_select_strategy == "full")

    def see(self, model: Any, pixels: Sequence[Tensor], kind: str) -> list[Tensor]:
        if kind == IMAGE:
            return list(model.get_image_features(torch.stack(list(pixels))))
        tokens, _ = model.get_video_features(list(pixels))  # [frames of all, 1 + P, D]
        return [clip.flatten(0, 1) for clip in tokens.split([len(clip) for clip in pixels])]


_FAMILIES: dict[str, type[Family]] = {
    "blip-2": Family,
    "instructblipvideo": InstructBlip,
    "video_llava": VideoLlava,
}


def family_of(processor: Any, config: Config, *, is_matching: bool) -> Family:
    """The family of a checkpoint.

    Raises:
        ValueError: one that the pipeline does not know.
    """
    if config.model_type == "instructblip":
        raise ValueError(
            "give the model as InstructBlipVideoForConditionalGeneration and the processor as "
            "InstructBlipVideoProcessor: they load checkpoints for pictures, too, which are clips of one frame there"
        )
    if config.model_type not in _FAMILIES:
        raise ValueError(f"model_type is {config.model_type!r}; this pipeline knows {', '.join(_FAMILIES)}")
    return (Matching if is_matching else _FAMILIES[config.model_type])(processor, config)
