"""Writes the prompt of media and a text as token ids, and shows it."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onlooker.config import Config
from onlooker.media import Frames, load_video
from onlooker.media.collect import Shrink
from onlooker.media.source import Source
from onlooker.pipeline.encoded import Encoded
from onlooker.pipeline.families import family_of
from onlooker.pipeline.loading import check_kind, compares, read_processor
from onlooker.pipeline.media import IMAGE, ClipOptions, Medium, kind_of, open_medium
from onlooker.pipeline.records import UsedFrames
from onlooker.pipeline.times import clock

_PUNCTUATION = ".,;:!?\"'()"


@dataclass(frozen=True)
class Prompt:
    """Exactly what a model is given for one picture or clip and one text.

    Attributes:
        text: the prompt in words, without placeholders and special tokens.
        written: the token ids read back as text, special tokens included and placeholders folded.
        input_ids: placeholders and text, in order.
        num_placeholders: how many of the ids keep a place for a visual token.
        num_prepended: visual tokens that the model puts in front itself, for files without a placeholder token.
        image_size: width and height of the picture or the frames, pixels.
        pixel_name: what the model calls the pixels.
        pixel_shape: their shape, [1, 3, h, w] or [1, F, 3, h, w].
        kind: "image" or "video".
        frames: those of a clip that are looked at; None for a picture.
        instruction: what the Q-Former is told, for the family whose Q-Former reads.
    """

    text: str
    written: str
    input_ids: tuple[int, ...]
    num_placeholders: int
    num_prepended: int
    image_size: tuple[int, int]
    pixel_name: str
    pixel_shape: tuple[int, ...]
    kind: str = IMAGE
    frames: UsedFrames | None = None
    instruction: str | None = None

    @property
    def num_tokens(self) -> int:
        """Positions that the language model reads."""
        return len(self.input_ids) + self.num_prepended

    def __str__(self) -> str:
        parts = [f"{self.num_tokens - self.num_placeholders - self.num_prepended} text"]
        if self.num_placeholders:
            parts.insert(0, f"{self.num_placeholders} placeholders for the {self.kind}")
        if self.num_prepended:
            parts.insert(0, f"{self.num_prepended} for the {self.kind}, put in front by the model")
        size = f"{self.image_size[0]} x {self.image_size[1]} pixels"
        lines = [
            f"prompt     {_visible(self.text)}",
            f"written    {_visible(self.written)}",
            f"tokens     {self.num_tokens}{' = ' + ' + '.join(parts) if len(parts) > 1 else ''}",
            f"input_ids  {_folded(self.input_ids)}",
        ]
        if self.instruction is not None:
            lines.append(f"q-former   {_visible(self.instruction)}")
        if self.frames is not None:
            lines.append(f"frames     {', '.join(map(str, self.frames.indices))}")
            lines.append(f"times      {', '.join(map(clock, self.frames.seconds))}")
            size = f"{len(self.frames.indices)} frames of {size}"
        return "\n".join([*lines, f"{self.kind}      {size} -> {self.pixel_name} {list(self.pixel_shape)}"])

    def to_dict(self) -> dict[str, Any]:
        values = {
            "prompt": self.text,
            "written": self.written,
            "num_tokens": self.num_tokens,
            "num_placeholders": self.num_placeholders,
            "num_prepended": self.num_prepended,
            "input_ids": list(self.input_ids),
            "kind": self.kind,
            "image_size": list(self.image_size),
            "pixel_name": self.pixel_name,
            "pixel_shape": list(self.pixel_shape),
            "frames": None if self.frames is None else self.frames.to_dict(),
        }
        return values if self.instruction is None else {**values, "instruction": self.instruction}


class PromptWriter:
    """Turns texts into token ids as the checkpoint wants them; needs its processor and configuration, no weights."""

    def __init__(self, processor: Any, config: Config, *, is_matching: bool) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.family = family_of(processor, config, is_matching=is_matching)
        self.is_encoder_decoder = bool(config.get_text_config().is_encoder_decoder)
        self.is_matching = is_matching
        self._has_warned: set[str] = set()

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

    # -- media ----------------------------------------------------------------------------------------------------

    def open(
        self,
        source: Any,
        clip: ClipOptions | None = None,
        *,
        shrink: Shrink | None = None,
        found: Source | None = None,
    ) -> Medium:
        """Read a picture or the frames of a clip (see `Onlooker.load`).

        Args:
            shrink: what is kept of each frame that is read.
            found: what `find_file` gave for the source.
        """
        clip = clip or ClipOptions()
        if not self.family.takes_video:
            return open_medium(source, None, self.family.name, clip, found)

        def load_clip(found: Any) -> Frames:
            return load_video(found, resize=shrink, **self.clip_arguments(clip))

        return open_medium(source, load_clip, self.family.name, clip, found)

    def clip_arguments(self, clip: ClipOptions) -> dict[str, Any]:
        """The arguments of `load_video` that were asked for, or that the family was trained with."""
        family = self.family
        if clip.num_frames not in (None, family.trained_frames):
            self._warn_once(
                "frames",
                f"{clip.num_frames} frames of a clip; {family.name} was trained with {family.trained_frames}, and "
                f"answers may be worse with another number",
            )
        return clip.arguments(family.trained_frames, family.trained_sampling)

    def _warn_once(self, about: str, message: str) -> None:
        if about not in self._has_warned:
            self._has_warned.add(about)
            warnings.warn(message, stacklevel=4)

    # -- texts ----------------------------------------------------------------------------------------------------

    def question(self, question: str, kinds: Sequence[str], template: str | None = None) -> str:
        """The prompt of a question: as the family was trained, or a template of the user's own."""
        if template is None:
            return self.family.ask_text(question, kinds)
        return self.family.with_markers(fill(template, question), kinds)

    def caption(self, prompt: str | None, kinds: Sequence[str]) -> str:
        """The prompt of a caption that begins with `prompt`; None asks for one as the family was trained."""
        return self.family.caption_text(prompt, kinds)

    def ids(self, text: str, media: Sequence[Encoded]) -> list[int]:
        """Placeholders and text, as the processor writes them.

        An empty text is the special tokens alone, which is how BLIP-2 is asked for a caption.
        """
        if len(media) > 1:
            self._warn_once(
                "media",
                f"a prompt has several pictures or clips; that works, but {self.family.name} was trained on one for "
                f"each prompt",
            )
        ids = self.family.ids(text, [(seen.kind, seen.num_tokens) for seen in media])
        if media:  # else it is what we ask the language model ourselves, to merge answers
            self.check_words(text, ids)
        return ids

    def text_ids(self, text: str) -> list[int]:
        """The text with its special tokens, without placeholders."""
        return self.family.text_ids(text)

    def check_words(self, text: str, ids: Sequence[int]) -> None:
        """Say once which words the vocabulary lacks. Most tokenizers spell every word, and have none for others."""
        unknown = self.tokenizer.unk_token_id
        ends = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)  # OPT has one token for all three
        if unknown is None or unknown in ends or unknown not in ids or "words" in self._has_warned:
            return
        words = dict.fromkeys(word.strip(_PUNCTUATION) for word in text.split())
        missing = [word for word in words if word and unknown in self._bare_ids(word)]
        if missing:
            self._warn_once(
                "words", f"the model does not know {', '.join(missing)}: it reads {self.token_name(unknown)}"
            )

    def token_name(self, token_id: int) -> str:
        return str(self.tokenizer.convert_ids_to_tokens(token_id))

    def continuation_ids(self, text: str, continuation: str) -> list[int]:
        """The ids that go on from `text` with `continuation`, without an end token.

        A decoder-only model reads both as one text, so they are tokenized as one where the seam allows it. An
        encoder-decoder model writes the continuation as a text of its own.
        """
        if self.is_encoder_decoder:
            return self._bare_ids(continuation)
        longer = spaced(text, continuation)
        before, joint = self.text_ids(text), self.text_ids(text + longer)
        if joint[: len(before)] == before and len(joint) > len(before):
            return joint[len(before) :]
        # The seam is tokenized otherwise when more follows; its last letter alone may still part from the rest.
        before, joint = (self._bare_ids(each) for each in (text[-1:], text[-1:] + longer))
        return joint[len(before) :] if before and joint[: len(before)] == before else self._bare_ids(longer)

    def _bare_ids(self, text: str) -> list[int]:
        """The text without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def show(self, medium: Medium, text: str, instruction: str | None = None) -> Prompt:
        """The prompt of one picture or clip, as `open` gives them, and one text."""
        family, kind = self.family, kind_of(medium)
        pixels = family.pixels(medium)
        count = family.count(kind, pixels.shape)
        input_ids = family.ids(text, [(kind, count)])
        placeholders = sum(token == family.placeholders[kind] for token in input_ids) if count else 0
        height, width = medium.shape[-3:-1]
        return Prompt(
            text=text,
            written=self._written(input_ids),
            input_ids=tuple(input_ids),
            num_placeholders=placeholders,
            num_prepended=0 if placeholders else count,
            image_size=(width, height),
            pixel_name=family.pixel_name(kind),
            pixel_shape=(1, *pixels.shape),
            kind=kind,
            frames=UsedFrames.of(medium) if isinstance(medium, Frames) else None,
            instruction=(text if instruction is None else instruction) if family.reads_instruction else None,
        )

    def _written(self, input_ids: list[int]) -> str:
        """The ids as text, runs of placeholders as `<image> x 32`."""
        places = {token for token in self.family.placeholders.values() if token is not None}
        parts = []
        for token, run in itertools.groupby(input_ids, key=lambda each: each if each in places else None):
            ids = list(run)
            if token is None:
                parts.append(self.tokenizer.decode(ids, skip_special_tokens=False))
            else:
                parts.append(f"{self.token_name(token)} x {len(ids)} ")
        return "".join(parts)


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


def _visible(text: str) -> str:
    """Text on one line."""
    return text.replace("\n", "\\n")


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
