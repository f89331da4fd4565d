"""What every question command does around its question: load the model, read the files, go on past bad ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onlooker.cli.inputs import Input
from onlooker.cli.reporting import FAILED, one_line, report
from onlooker.cli.show import line, note, progress, record
from onlooker.errors import OnlookerError

if TYPE_CHECKING:
    from onlooker.pipeline import Onlooker, PromptWriter


@dataclass(frozen=True)
class Source:
    """Which model, and how to load it."""

    model: str
    revision: str | None
    dtype: str
    device: str | None
    batch_size: int
    wants_matching: bool = False  # a checkpoint of the other kind is refused before its weights are read


@dataclass(frozen=True)
class Reporting:
    """How results and errors are told."""

    as_json: bool
    quiet: bool
    debug: bool


def load(source: Source, quiet: bool, inputs: list[Input] | None = None) -> Onlooker:
    """The model, with a bar while it loads and a line on how it was loaded.

    Raises:
        FileNotFoundError: none of the inputs is there; a model may take minutes to load, and would have nothing to do.
    """
    if inputs and not any(given.is_there() for given in inputs):
        raise FileNotFoundError(f"no such file: {', '.join(given.name for given in inputs)}")
    note(f"loading {source.model}", quiet)
    _writer(source)
    from onlooker.pipeline import Onlooker

    with progress(f"loading {source.model}", shown=not quiet, as_bytes=True) as move:
        eyes = Onlooker.from_pretrained(
            source.model,
            dtype=source.dtype,
            device=source.device,
            revision=source.revision,
            batch_size=source.batch_size,
            progress=move,
        )
    note(eyes.description, quiet)
    return eyes


def answer_files(
    inputs: list[Input],
    telling: Reporting,
    batch_size: int,
    read: Callable[[Input], Any],
    work: Callable[[list[Input], list[Any]], list[Any]],
    show: Callable[[Input, Any], None],
) -> int:
    """Read the files, work on them some at a time, and show each result in the order of the files.

    Args:
        read: gives what is in a file; what goes wrong there is told, and the other files go on.
        work: inputs and what was read -> one result for each.
        show: called with the input and its result.

    Returns:
        The exit code: 1 when a file could not be read, the others were still done.
    """
    failures = 0
    with progress("files", shown=len(inputs) > 1 and not telling.quiet) as move:
        for start in range(0, len(inputs), batch_size):
            batch = [(given, _read(given, read)) for given in inputs[start : start + batch_size]]
            good = [(given, image) for given, image in batch if not isinstance(image, Exception)]
            results = iter(work([given for given, _ in good], [image for _, image in good]) if good else [])
            for given, image in batch:
                if isinstance(image, Exception):
                    failures += 1
                    _tell(given, image, telling)
                else:
                    show(given, next(results))
            move(start + len(batch), len(inputs))
    return FAILED if failures else 0


def _read(given: Input, read: Callable[[Input], Any]) -> Any:
    """What is in the file, or the error that reading it met."""
    try:
        return read(given)
    except (OnlookerError, OSError, ValueError) as error:
        return error


def _tell(given: Input, error: Exception, telling: Reporting) -> None:
    report(error, debug=telling.debug, about=given.name)
    if telling.as_json:
        record({"file": given.name, "error": one_line(str(error))})


def show_prompts(
    source: Source,
    inputs: list[Input],
    clip: dict[str, Any],
    texts: Callable[[PromptWriter, str], list[tuple[str, str]]],
    telling: Reporting,
    seen: Callable[[Input, Any], None] | None = None,
) -> int:
    """Show what the model would be given for every file and text; no weights are read.

    Args:
        texts: writer and kind of medium -> prompts, and what a Q-Former would be told with each.
        seen: called with each input and what was read from it.
    """
    writer = _writer(source)
    from onlooker.pipeline.media import ClipOptions, kind_of

    options = ClipOptions(**clip)

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

    return answer_files(inputs, telling, 1, lambda given: writer.open(given.source, options), work, show)


def _writer(source: Source) -> PromptWriter:
    from onlooker.pipeline import PromptWriter

    return PromptWriter.from_pretrained(source.model, wants_matching=source.wants_matching, revision=source.revision)
