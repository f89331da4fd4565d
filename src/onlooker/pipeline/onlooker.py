"""`Onlooker`: one loaded checkpoint and everything that can be asked of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from onlooker.media import VideoLimits
from onlooker.media.scene import Score
from onlooker.pipeline.asking import Asker, OnWindow, pairs
from onlooker.pipeline.chat import Chat
from onlooker.pipeline.encoded import Encoded, Row, is_many
from onlooker.pipeline.loading import check_kind, describe, is_matching, read_model, read_processor
from onlooker.pipeline.matching import match_texts, similarities
from onlooker.pipeline.media import ClipOptions, Medium
from onlooker.pipeline.prompts import Prompt, PromptWriter
from onlooker.pipeline.ranking import rank_candidates
from onlooker.pipeline.records import Match
from onlooker.pipeline.seeing import tried
from onlooker.reuse.cache import Cache, default_budget

if TYPE_CHECKING:
    from typing_extensions import Self

_LOG = logging.getLogger(__name__)


class Onlooker(Asker):
    """A checkpoint that is asked about pictures and, where its family takes them, clips.

    A medium is a path, URL, bytes or file object of a picture or a video (its content says which), a Pillow image, an
    array ([h, w, 3] a picture, [F, h, w, 3] a clip), `Frames`, or what `encode` made of one. Where one medium or text
    is taken, a list gives a list back; one medium with a list of questions is encoded once. A clip given as a list of
    pictures therefore stands in a list of media, or goes through `onlooker.load_video`.

    Of a clip `num_frames` frames are looked at, spread by `sampling` (see `load_video`) between `start` and `end`
    (seconds, or times such as "0:10"); what is not given is as the family was trained. `Frames` are looked at as they
    are.

    Args:
        model: a class that writes (`Blip2ForConditionalGeneration`, `InstructBlipVideoForConditionalGeneration`,
            `VideoLlavaForConditionalGeneration`), or `Blip2ForImageTextRetrieval` to match.
        processor: the checkpoint's own.
        batch_size: pictures, frames or prompts that go through the model at once.
        name: what to call the checkpoint in messages.
        description: a line on what was loaded and how.
        cache: what keeps media and prompts for the next question about them; one of its own in memory when not given,
            of `default_budget` bytes. `Cache(0)` keeps nothing; `Cache(folder=...)` keeps on disk, too; one cache may
            serve several pipelines.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        batch_size: int = 8,
        name: str = "",
        description: str = "",
        cache: Cache | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be 1 or more")
        writer = PromptWriter(processor, model.config, is_matching=is_matching(model))
        kept = Cache(default_budget(model.device)) if cache is None else cache
        super().__init__(model, writer, batch_size, kept, name)
        self.processor = processor
        self.description = description
        self._name = name or f"this {type(model).__name__}"

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
        cache: Cache | None = None,
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
            cache: what keeps media and prompts for the next question about them.
            progress: called with (bytes read, bytes in total).
            options: hub options (revision, cache_dir, local_files_only, token), those of the model's from_pretrained,
                and adapter: folder or hub name of a LoRA adapter in peft's format, merged into the weights (beside
                them where the model is quantised).

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
        return cls(
            model, processor, batch_size=batch_size, name=str(name_or_path), description=description, cache=cache
        )

    # -- words ----------------------------------------------------------------------------------------------------

    def caption(
        self,
        media: Any,
        *,
        prompt: Any = None,
        num_frames: int | None = None,
        sampling: str | None = None,
        start: float | str | None = None,
        end: float | str | None = None,
        limits: VideoLimits | None = None,
        score: Score | None = None,
        errors: str = "raise",
        **options: Any,
    ) -> Any:
        """Say what is in a picture or a clip.

        Args:
            prompt: words to go on from, such as "a photo of"; they are not repeated in the answer. InstructBLIP takes
                them as its instruction.
            num_frames, sampling, start, end: which frames of clips are looked at.
            limits: what is refused, such as `VideoLimits(max_frames=128)`.
            score: takes the frames that fit best (sampling="query"); a `scorer` of a matching checkpoint.
            errors: "return" puts the error of a medium that cannot be read in the place of its answer, so that the
                others of a list are answered.
            options: max_new_tokens (50), any other field of GenerationConfig (num_beams, do_sample, temperature, top_p,
                repetition_penalty ...), and
                stream: give an iterator over the pieces of the answer instead; its `.answer` is the whole;
                stop: texts that end the answer; they are not part of it;
                seed: of sampling (do_sample=True); a row's result does not depend on its batch.

        Returns:
            An `Answer`, or a list of them for lists; with `stream` an `AnswerStream`.

        Raises:
            CheckpointError: a checkpoint that cannot write.
            FileNotFoundError, MediaError: a medium that cannot be read.
            ValueError: lists of different lengths, a stream of many, or options that do not fit.
        """
        clip = ClipOptions(num_frames, sampling, start, end, limits, score)

        def row(seen: Encoded, text: Any) -> Row:
            written = self._writer.caption(text, (seen.kind,))
            return Row((seen,), written, written)

        self._check_kind(wants_matching=False)
        return self._answer(media, prompt, row, clip, errors, options)

    def ask(
        self,
        media: Any,
        question: Any,
        *,
        template: str | None = None,
        choices: Sequence[str] | None = None,
        windows: float | None = None,
        on_window: OnWindow | None = None,
        num_frames: int | None = None,
        sampling: str | None = None,
        start: float | str | None = None,
        end: float | str | None = None,
        limits: VideoLimits | None = None,
        score: Score | None = None,
        errors: str = "raise",
        **options: Any,
    ) -> Any:
        """Answer a question about a picture or a clip.

        Args:
            question: a text, or a list of them. An InstructBLIP's Q-Former is told it, too.
            template: the prompt, with {} for the question; as the family was trained when not given.
            choices: the only answers there are; the likeliest is given.
            windows: seconds. A long clip is answered window by window, one in memory at a time, and the answers become
                one: of choices, and of yes and no, that of the window with the highest log-likelihood; else what the
                language model makes of them. `Answer.windows` has them all; `num_frames` are taken of each window.
            on_window: called with each window's answer and frames as they come.
            num_frames, sampling, start, end, limits, score, errors, options: as for `caption`.

        Returns:
            As `caption`.
        """
        clip = ClipOptions(num_frames, sampling, start, end, limits, score)

        def row(seen: Encoded, text: Any) -> Row:
            return Row((seen,), self._writer.question(text, (seen.kind,), template), text)

        self._check_kind(wants_matching=False)
        if windows is None:
            return self._answer(media, question, row, clip, errors, options, choices)

        rest = (windows, row, clip, choices, on_window, options)
        sources, questions, many = pairs(media, question)
        answers = [tried(self._ask_windows, errors, each, text, *rest) for each, text in zip(sources, questions)]
        return answers if many else answers[0]

    def chat(self, media: Any = None, *, system: str | None = None, **clip: Any) -> Chat:
        """A conversation that remembers what was said; see `Chat`."""
        self._check_kind(wants_matching=False)
        return Chat(self, media, system=system, **clip)

    # -- numbers --------------------------------------------------------------------------------------------------

    def rank(
        self, media: Any, question: Any, candidates: Sequence[str], *, template: str | None = None, **clip: Any
    ) -> Any:
        """Order possible answers by how likely the model finds each; the medium and the question run once.

        Args:
            clip: num_frames, sampling, start, end, limits and score of clips, as for `ask`.

        Returns:
            A list of `Ranked`, likeliest first; for lists of media or questions a list of such lists.

        Raises:
            CheckpointError: a checkpoint that has no language model.
            ValueError: no candidates, one that is there twice, or one without a token.
        """
        self._check_kind(wants_matching=False)
        sources, questions, many = pairs(media if is_many(media) else self.encode(media, **clip), question)
        chosen, results = ClipOptions(**clip), []
        for source, text in zip(sources, questions):
            (seen,) = self._see([source], ClipOptions() if isinstance(source, Encoded) else chosen)
            row = Row((seen,), self._writer.question(text, (seen.kind,), template), text)
            results.append(rank_candidates(self.model, self._writer, row, candidates, self._reuse))
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
        for each in self._see(image if is_many(image) else [image], ClipOptions()):
            found: list[Match] = match_texts(self.model, self._writer, each, wanted, batch_size=4 * self.batch_size)
            results.append(found if is_many(texts) else found[0])
        return results if is_many(image) else results[0]

    def scorer(self, text: str) -> Score:
        """How well pictures fit a text (ITC), as `score` of `ask` and of `load_video` wants it.

        With a matching checkpoint `seeker` and one that writes, `eyes`, a long clip is asked about by its best frames:
        `eyes.ask(clip, question, score=seeker.scorer(question))`.

        Raises:
            CheckpointError: a checkpoint without matching heads.
        """
        self._check_kind(wants_matching=True)

        def score(pictures: Sequence[Any]) -> list[float]:
            seen = self._see(list(pictures), ClipOptions())
            return similarities(self.model, self._writer, seen, text, batch_size=self.batch_size)

        return score

    # -- media ----------------------------------------------------------------------------------------------------

    @property
    def family(self) -> str:
        """The family of the checkpoint, as people call it."""
        return self._writer.family.name

    @property
    def takes_several(self) -> bool:
        """Whether one prompt may have several media."""
        return self._writer.family.takes_several

    def encode(
        self,
        media: Any,
        *,
        num_frames: int | None = None,
        sampling: str | None = None,
        start: float | str | None = None,
        end: float | str | None = None,
        limits: VideoLimits | None = None,
        score: Score | None = None,
    ) -> Any:
        """Run the vision part of the model once; the result is taken wherever a medium is.

        BLIP-2 and Video-LLaVA keep the visual tokens, and from the first question on what their language model made of
        them, where it is OPT or LLaMA; InstructBLIP, whose Q-Former reads the question, keeps what its vision tower
        gave.

        Returns:
            An `Encoded`, or a list of them for a list.

        Raises:
            FileNotFoundError, MediaError: a medium that cannot be read.
        """
        clip = ClipOptions(num_frames, sampling, start, end, limits, score)
        return self._see(media, clip) if is_many(media) else self._see([media], clip)[0]

    def load(
        self,
        media: Any,
        *,
        num_frames: int | None = None,
        sampling: str | None = None,
        start: float | str | None = None,
        end: float | str | None = None,
        limits: VideoLimits | None = None,
        score: Score | None = None,
    ) -> Medium:
        """Read one medium as `ask` would: uint8 [h, w, 3] of a picture, `Frames` of a clip; both are taken by `ask`."""
        return self._writer.open(media, ClipOptions(num_frames, sampling, start, end, limits, score))

    def show_prompt(self, media: Any, text: str, instruction: str | None = None) -> Prompt:
        """What the model would be given for a medium and a prompt, such as `question_prompt` gives."""
        return self._writer.show(self._writer.open(media), text, instruction)

    def chat_text(self, messages: Sequence[Any]) -> str:
        """The prompt that messages make, up to where the next answer begins."""
        return self._writer.family.chat_text(messages)

    def _check_kind(self, *, wants_matching: bool) -> None:
        check_kind(self._name, is_matching=self._writer.is_matching, wants_matching=wants_matching)

    def __repr__(self) -> str:
        return f"Onlooker({self.description or type(self.model).__name__})"
