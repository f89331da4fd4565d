"""What every question command does around its question: load the model, read the files, go on past bad ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from onlooker.cli.builtin import MATCHES, say_built_in
from onlooker.cli.frames import Sought
from onlooker.cli.inputs import Input
from onlooker.cli.options import Source, Telling
from onlooker.cli.reporting import FAILED, one_line, report
from onlooker.cli.show import line, note, progress, record
from onlooker.errors import OnlookerError

if TYPE_CHECKING:
    from onlooker.pipeline import Onlooker, PromptWriter


Batch = list[tuple[Input, Any]]


class Checkpoint:
    """The model of a command: its processor is at hand at once, its weights are read when something is asked of it.

    Args:
        built_in: what stands in when none was named.
        option: that names another.
        is_shown: only prompts are wanted, so that nothing is loaded.
        cache_folder: where the cache is kept on disk; in memory alone when not given.

    Raises:
        typer.BadParameter: a revision without a name.
        ModelNotFoundError: there is no such checkpoint, or no such adapter.
        CheckpointError: it is of the kind that was not wanted.
    """

    def __init__(
        self,
        source: Source,
        telling: Telling,
        built_in: str,
        *,
        batch_size: int = 8,
        option: str = "--model",
        wants_matching: bool = False,
        is_shown: bool = False,
        cache_folder: Path | None = None,
    ) -> None:
        if source.model is None and source.revision is not None:
            raise typer.BadParameter("--revision is of a hub name: give --model too.")
        self._source, self._telling, self._batch_size = source, telling, batch_size
        self._folder = cache_folder
        self._name = built_in if source.model is None else source.model
        if source.model is None:
            say_built_in(built_in, option, telling.quiet)
        elif not is_shown:
            note(f"loading {self._name}", telling.quiet)
        from onlooker.pipeline import PromptWriter

        self.writer = PromptWriter.from_pretrained(self._name, wants_matching=wants_matching, revision=source.revision)

    @cached_property
    def eyes(self) -> Onlooker:
        """The model, with a bar while it loads and a line on how a named one was loaded."""
        from onlooker import Onlooker
        from onlooker.reuse import Cache

        source, quiet = self._source, self._telling.quiet
        cache = None if self._folder is None else Cache(folder=self._folder)
        # The small ones cost nothing in float32, and answer alike on every machine.
        dtype = "fp32" if source.model is None and source.dtype == "default" else source.dtype
        with progress(f"loading {self._name}", shown=not quiet, as_bytes=True) as move:
            eyes = Onlooker.from_pretrained(
                self._name,
                dtype=dtype,
                device=source.device,
                revision=source.revision,
                adapter=source.adapter,
                batch_size=self._batch_size,
                cache=cache,
                progress=move,
            )
        if source.model is not None:
            note(eyes.description, quiet)
        return eyes

    def say_reuse(self) -> None:
        """A line on what the cache folder was good for, once something was asked."""
        if self._folder is None or "eyes" not in self.__dict__:
            return
        found = self.eyes.cache.stats()
        told = ", ".join(
            f"{found.hits.get(kind, 0)} of {found.hits.get(kind, 0) + found.misses.get(kind, 0)} {kind}"
            for kind in sorted({*found.hits, *found.misses})
        )
        used = f"{found.folder_used / 2**20:.1f} MiB in {self._folder}"
        note(f"cache: {told or 'nothing'} found, {found.tokens_reused} positions reused, {used}", self._telling.quiet)

    def open(self, given: Input, clip: dict[str, Any] | None = None) -> Any:
        """What is in a file, as the model will look at it; needs no weights."""
        from onlooker.pipeline.media import ClipOptions

        return self.writer.open(given.source, ClipOptions(**(clip or {})))


def check_inputs(inputs: list[Input]) -> None:
    """
    Raises:
        FileNotFoundError: none of the inputs is there, so that no model is needed.
    """
    if inputs and not any(given.is_there() for given in inputs):
        raise FileNotFoundError(f"no such file: {', '.join(given.name for given in inputs)}")


def seek(text: str | None, frames: Sought, source: Source, telling: Telling) -> dict[str, Any]:
    """The keyword of the pipeline that chooses frames by how well they fit a text; none without one."""
    if text is None:
        return {}
    other = replace(source, model=frames.query_model, adapter=None, revision=None)
    seeker = Checkpoint(other, telling, MATCHES, option="--query-model", wants_matching=True)
    return {"score": seeker.eyes.scorer(text)}


def answer_files(
    inputs: list[Input],
    telling: Telling,
    batch_size: int,
    read: Callable[[Input], Any],
    work: Callable[[list[Input], list[Any]], list[Any]],
    show: Callable[[Input, Any], None],
    prepare: Callable[[], Any] | None = None,
    reads_ahead: bool = True,
) -> int:
    """Read the files, work on them some at a time, and show each result in the order of the files.

    Args:
        read: gives what is in a file; what goes wrong there is told, and the other files go on.
        work: inputs and what was read -> one result for each.
        show: called with the input and its result.
        prepare: called before the first work, once there is some: a model need not be loaded for files that are bad.
        reads_ahead: read the next files in a thread while the model works on these; not where `read` asks the model.

    Returns:
        The exit code: 1 when a file could not be read, the others were still done.
    """
    parts = ([(given, _read(given, read)) for given in part] for part in _parts(inputs, batch_size))
    with closing(_ahead(parts) if reads_ahead and len(inputs) > batch_size else parts) as batches:
        return _answer_batches(batches, len(inputs), telling, work, show, prepare)


def _ahead(parts: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
    from onlooker.media.ahead import ahead

    return ahead(parts)


def _answer_batches(
    batches: Generator[Batch, None, None],
    count: int,
    telling: Telling,
    work: Callable[[list[Input], list[Any]], list[Any]],
    show: Callable[[Input, Any], None],
    prepare: Callable[[], Any] | None,
) -> int:
    waiting: list[Batch] = []
    if prepare is not None:
        for batch in batches:
            waiting.append(batch)
            if not all(isinstance(found, Exception) for _, found in batch):
                prepare()
                break
    failures = done = 0
    with progress("files", shown=count > 1 and not telling.quiet) as move:
        for batch in itertools.chain(waiting, batches):
            good = [(given, image) for given, image in batch if not isinstance(image, Exception)]
            results = iter(work([given for given, _ in good], [image for _, image in good]) if good else [])
            for given, image in batch:
                if isinstance(image, Exception):
                    failures += 1
                    _tell(given, image, telling)
                else:
                    show(given, next(results))
            done += len(batch)
            move(done, count)
    return FAILED if failures else 0


def _parts(inputs: list[Input], size: int) -> list[list[Input]]:
    return [inputs[start : start + size] for start in range(0, len(inputs), size)]


def _read(given: Input, read: Callable[[Input], Any]) -> Any:
    """What is in the file, or the error that reading it met."""
    try:
        return read(given)
    except (OnlookerError, OSError, ValueError) as error:
        return error


def _tell(given: Input, error: Exception, telling: Telling) -> None:
    report(error, debug=telling.debug, about=given.name)
    if telling.as_json:
        record({"file": given.name, "error": one_line(str(error))})


def show_prompts(
    checkpoint: Checkpoint,
    inputs: list[Input],
    clip: dict[str, Any],
    texts: Callable[[PromptWriter, str], list[tuple[str, str]]],
    telling: Telling,
    seen: Callable[[Input, Any], None] | None = None,
) -> int:
    """Show what the model would be given for every file and text; no weights are read.

    Args:
        texts: writer and kind of medium -> prompts, and what a Q-Former would be told with each.
        seen: called with each input and what was read from it.
    """
    from onlooker.pipeline.media import kind_of

    writer = checkpoint.writer

    def show(given: Input, prompts: list[Any]) -> None:
        for prompt in prompts:
            if telling.as_json:
                record({"file": given.name, **prompt.to_dict()})
            else:
                line(f"file       {given.name}\n{prompt}\n")

    def work(batch: list[Input], media: list[Any]) -> list[list[Any]]:
        if seen is not None:
            seen(batch[0], media[0])
        return [[writer.show(medium, *pair) for pair in texts(writer, kind_of(medium))] for medium in media]

    return answer_files(inputs, telling, 1, lambda given: checkpoint.open(given, clip), work, show)
