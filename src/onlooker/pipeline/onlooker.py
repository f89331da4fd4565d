"""`Onlooker`: one loaded checkpoint and everything that can be asked of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from onlooker.pipeline.answering import end_tokens, write
from onlooker.pipeline.encoded import Encoded, encode_images, is_many, is_matching
from onlooker.pipeline.loading import check_kind, describe, read_model, read_processor
from onlooker.pipeline.matching import match_texts
from onlooker.pipeline.prompts import QUESTION, Prompt, PromptWriter, fill
from onlooker.pipeline.ranking import rank_candidates
from onlooker.pipeline.records import Answer, AnswerStream, Match
from onlooker.pipeline.streaming import stream_answer

if TYPE_CHECKING:
    from typing_extensions import Self

_LOG = logging.getLogger(__name__)
MAX_NEW_TOKENS = 50


class Onlooker:
    """A checkpoint that is asked about images.

    An image is a path, URL, bytes, file object, Pillow image, array (uint8 [h, w, 3] is taken as it is), or what
    `encode` made of one. Where one image or text is taken, a list gives a list back; one image with a list of
    questions is encoded once.

    Args:
        model: `Blip2ForConditionalGeneration` to caption, ask and rank, or `Blip2ForImageTextRetrieval` to match.
        processor: the checkpoint's own.
        batch_size: images or prompts that go through the model at once.
        name: what to call the checkpoint in messages.
        description: a line on what was loaded and how.
    """

    def __init__(
        self, model: Any, processor: Any, *, batch_size: int = 8, name: str = "", description: str = ""
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be 1 or more")
        self.model = model
        self.processor = processor
        self.batch_size = batch_size
        self.description = description
        self._name = name or f"this {type(model).__name__}"
        self._writer = PromptWriter(processor, model.config, is_matching=is_matching(model))
        self._token = object()  # what marks images that this one encoded

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: Any,
        *,
        dtype: Any = "default",
        device: Any = None,
        device_map: Any = None,
        quantization_config: Any = None,
        batch_size: int = 8,
        progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> Self:
        """Load a folder or a hub name.

        Args:
            dtype: a policy ("default": bfloat16 where the hardware has it, else float16 on CUDA and float32 on the
                CPU, T5 never in float16; "reference": each part as it was trained), "fp32", "bf16", "fp16", "auto" as
                stored, or a torch dtype. What came of it stands in `description`.
            device: CUDA where there is one, else the CPU.
            device_map: in place of `device`: "auto", or a device for each part.
            progress: called with (bytes read, bytes in total).
            options: hub options (revision, cache_dir, local_files_only, token) and those of the model's
                from_pretrained.

        Raises:
            ModelNotFoundError: there is no such checkpoint.
            CheckpointError: it does not hold what its class needs.
            ValueError: a device that does not exist, or a family that is not known.
        """
        processor, config = read_processor(name_or_path, **options)
        options |= {"quantization_config": quantization_config, "progress": progress}
        model = read_model(name_or_path, config, dtype=dtype, device=device, device_map=device_map, **options)
        description = describe(name_or_path, model, config, dtype)
        _LOG.info("loaded %s", description)
        return cls(model, processor, batch_size=batch_size, name=str(name_or_path), description=description)

    # -- words ----------------------------------------------------------------------------------------------------

    def caption(
        self,
        image: Any,
        *,
        prompt: Any = "",
        max_new_tokens: int = MAX_NEW_TOKENS,
        stream: bool = False,
        stop: Sequence[str] = (),
        seed: int | None = None,
        **options: Any,
    ) -> Any:
        """Say what is in an image, or go on from a prompt about it.

        Args:
            prompt: words to go on from, such as "a photo of"; they are not repeated in the answer.
            stream: give an iterator over the pieces of the answer instead; its `.answer` is the whole.
            stop: texts that end the answer; they are not part of it.
            seed: of sampling (do_sample=True); a row's result does not depend on its batch.
            options: any field of GenerationConfig: num_beams, do_sample, temperature, top_p, repetition_penalty ...

        Returns:
            An `Answer`, or a list of them for lists; with `stream` an `AnswerStream`.

        Raises:
            CheckpointError: a checkpoint that cannot write.
            ValueError: lists of different lengths, a stream of many, or options that do not fit.
        """
        self._check_kind(wants_matching=False)
        stop = (stop,) if isinstance(stop, str) else tuple(stop)
        images, prompts, many = _pairs(image if is_many(image) else self.encode(image), prompt)
        settings = {"max_new_tokens": max_new_tokens, "stop": stop, "seed": seed, **options}
        if stream:
            return self._stream(images, prompts, many, settings)
        answers: list[Answer] = []
        size = max(1, self.batch_size // options.get("num_beams", 1))  # each beam is a row of its own
        for start in range(0, len(images), size):
            end = start + size
            encoded = self._encode(images[start:end])
            answers += write(self.model, self._writer, encoded, prompts[start:end], **settings)
        return answers if many else answers[0]

    def ask(self, image: Any, question: Any, *, template: str = QUESTION, **options: Any) -> Any:
        """Answer a question about an image.

        Args:
            question: a text, or a list of them.
            template: the prompt, with {} for the question; "{}" gives the question as it is.
            options: as for `caption`.

        Returns:
            As `caption`.
        """
        texts = [fill(template, text) for text in question] if is_many(question) else fill(template, question)
        return self.caption(image, prompt=texts, **options)

    def _stream(self, images: list[Any], prompts: list[str], many: bool, settings: dict[str, Any]) -> AnswerStream:
        if many or settings.get("num_beams", 1) > 1:
            raise ValueError(
                "stream=True follows one image and one prompt without beams: leave out lists and num_beams"
            )
        encoded = self._encode(images)

        def run(**listening: Any) -> Answer:
            return write(self.model, self._writer, encoded, prompts, **listening, **settings)[0]

        ends = end_tokens(self.model, settings)
        return stream_answer(run, self._writer.tokenizer, ends, settings["stop"])

    # -- numbers --------------------------------------------------------------------------------------------------

    def rank(self, image: Any, question: Any, candidates: Sequence[str], *, template: str = QUESTION) -> Any:
        """Order possible answers by how likely the model finds each; the image and the question run once.

        Returns:
            A list of `Ranked`, likeliest first; for lists of images or questions a list of such lists.

        Raises:
            CheckpointError: a checkpoint that has no language model.
            ValueError: no candidates, one that is there twice, or one without a token.
        """
        self._check_kind(wants_matching=False)
        images, questions, many = _pairs(image, question)
        results = [
            rank_candidates(self.model, self._writer, each, fill(template, text), candidates)
            for each, text in zip(self._encode(images), questions)
        ]
        return results if many else results[0]

    def match(self, image: Any, texts: Any) -> Any:
        """Judge how well texts fit an image.

        Returns:
            A `Match` for one text, a list for a list of texts; for a list of images a list of those.

        Raises:
            CheckpointError: a checkpoint without matching heads.
            ValueError: no texts.
        """
        self._check_kind(wants_matching=True)
        wanted = list(texts) if is_many(texts) else [texts]
        results = []
        for each in self._encode(image if is_many(image) else [image]):
            found: list[Match] = match_texts(self.model, self._writer, each, wanted, batch_size=4 * self.batch_size)
            results.append(found if is_many(texts) else found[0])
        return results if is_many(image) else results[0]

    # -- images ---------------------------------------------------------------------------------------------------

    def encode(self, image: Any) -> Any:
        """Run the vision part of the model once; the result is taken wherever an image is.

        Returns:
            An `Encoded`, or a list of them for a list.

        Raises:
            FileNotFoundError, MediaError: an image that cannot be read.
        """
        return self._encode(image) if is_many(image) else self._encode([image])[0]

    def show_prompt(self, image: Any, text: str) -> Prompt:
        """What the model would be given for an image and a prompt (`template.replace("{}", question)`)."""
        return self._writer.show(image, text)

    def _encode(self, images: Sequence[Any]) -> list[Encoded]:
        return encode_images(
            images, processor=self.processor, model=self.model, owner=self._token, batch_size=self.batch_size
        )

    def _check_kind(self, *, wants_matching: bool) -> None:
        check_kind(self._name, is_matching=self._writer.is_matching, wants_matching=wants_matching)

    def __repr__(self) -> str:
        return f"Onlooker({self.description or type(self.model).__name__})"


def _pairs(images: Any, texts: Any) -> tuple[list[Any], list[str], bool]:
    """Images and texts side by side, and whether either was a list.

    Raises:
        ValueError: two lists of different lengths, or an empty one.
    """
    lists = [values for values in (images, texts) if is_many(values)]
    if not lists:
        return [images], [texts], False
    lengths = sorted({len(values) for values in lists})
    if len(lengths) > 1:
        raise ValueError(
            f"{len(images)} images and {len(texts)} texts: two lists go side by side and must be equally long; "
            f"give a single image or text to use it with all of the others"
        )
    count = lengths[0]
    return (
        list(images) if is_many(images) else [images] * count,
        list(texts) if is_many(texts) else [texts] * count,
        True,
    )
