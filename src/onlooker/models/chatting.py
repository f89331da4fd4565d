"""`apply_chat_template`: messages with pictures and videos in them to one prompt, or to everything a model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from onlooker.outputs import BatchFeature
from onlooker.pixels.clips import load_clip
from onlooker.text import Tokenizer
from onlooker.text.chat import choose_template, is_one_conversation, media_of, render


class Chatting:
    """What every processor can do with messages; a family says how it was trained, and what it takes."""

    default_chat_template: ClassVar[str | dict[str, str]]  # in use where the folder has none
    trained_num_frames: int = 1
    takes: ClassVar[tuple[str, ...]] = ("image",)  # kinds of media
    takes_several: ClassVar[bool] = False  # media in one conversation

    tokenizer: Tokenizer
    chat_template: str | dict[str, str] | None = None

    def __call__(self, *args: Any, **options: Any) -> BatchFeature:
        """Each family documents its own."""
        raise NotImplementedError

    def call_options(self) -> dict[str, list[str]]:
        """The options of a call by part: "text_kwargs", "images_kwargs" ..."""
        raise NotImplementedError

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        chat_template: str | None = None,
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = False,
        return_dict: bool = False,
        num_frames: int | None = None,
        sampling: str = "uniform",
        **options: Any,
    ) -> Any:
        """Write messages as the prompt that the model was trained on, and prepare it with its media if asked.

        Args:
            conversation: messages, or a list of conversations. A message is {"role": ..., "content": ...}; content is
                a string or parts: {"type": "text", "text": ...}, {"type": "image" or "video", with "path", "url",
                "base64" or the thing itself under "image" or "video"}.
            chat_template: a template, or the name of one; the folder's own when not given, else the family's.
            add_generation_prompt: end with what an answer begins with.
            continue_final_message: end inside the last message, for the model to go on with.
            tokenize: load the media and give back ids; the prompt as text if not.
            return_dict: give back everything a model takes, not the ids alone; it implies `tokenize`.
            num_frames: of each video file; what the family was trained with when not given.
            sampling: how they are spread, as for `onlooker.load_video`.
            options: of a call of the processor; any others are variables of the template.

        Returns:
            A prompt (a list of them for several conversations), the ids, or a batch.

        Raises:
            ValueError: messages of another form, media that this family does not take, or a template that refuses.
            FileNotFoundError, MediaError: a file that is not there or cannot be read.
        """
        own_template = self.chat_template or self.tokenizer.chat_template
        template = choose_template(own_template, chat_template, self.default_chat_template)
        is_one = is_one_conversation(conversation)
        conversations = [conversation] if is_one else list(conversation)
        names = {"return_tensors", "common_kwargs", *self.call_options(), *sum(self.call_options().values(), [])}
        call = {name: options.pop(name) for name in list(options) if name in names}
        prompts = [
            render(
                template,
                messages,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                **self._template_variables(options),
            )
            for messages in conversations
        ]
        if not (tokenize or return_dict):
            return prompts[0] if is_one else prompts
        if (start := self.tokenizer.bos_token) and prompts[0].startswith(start):
            call.setdefault("add_special_tokens", False)
        media = self._chat_media(conversations, num_frames or self.trained_num_frames, sampling)
        batch = self(text=prompts, **media, **call)
        return batch if return_dict else batch["input_ids"]

    def _template_variables(self, given: Mapping[str, Any]) -> dict[str, Any]:
        markers = {f"{kind}_token": str(getattr(self, f"{kind}_token", f"<{kind}>")) for kind in ("image", "video")}
        return {**self.tokenizer.special_tokens_map, **markers, **given}

    def _chat_media(self, conversations: Sequence[Any], num_frames: int, sampling: str) -> dict[str, Any]:
        """The media of all conversations, loaded, as arguments of a call."""
        rows = []
        for number, messages in enumerate(conversations):
            images, videos = media_of(messages)
            if videos and "video" not in self.takes:
                raise ValueError(f"conversation {number} has a video; this family takes pictures")
            count = len(images) + len(videos)
            if count > 1 and not self.takes_several:
                raise ValueError(
                    f"conversation {number} names {count} media; this family takes one for each prompt. "
                    "Ask about one at a time."
                )
            rows.append((images, [load_clip(source, num_frames, sampling) for source in videos]))
        return self._media_arguments(rows)

    def _media_arguments(self, rows: Sequence[tuple[list[Any], list[Any]]]) -> dict[str, Any]:
        """The pictures and clips of every conversation as this family's call names them; nothing without any."""
        images = [image for row, _ in rows for image in row]
        videos = [video for _, row in rows for video in row]
        return {name: given for name, given in (("images", images), ("videos", videos)) if given}
