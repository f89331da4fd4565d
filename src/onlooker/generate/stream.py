"""Text as it is written: streamers over an incremental decoder."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torch import Tensor


class DecodesPieces(Protocol):
    """An incremental detokenizer: ids go in, the text that is certain by then comes out."""

    def put(self, ids: list[int], /) -> str: ...

    def end(self) -> str: ...


class TextStreamer:
    """Hands each finished piece of text to `write`, as `sys.stdout.write` takes it.

    Args:
        decoder: an incremental detokenizer.
        skip_prompt: leave out the prompt, which comes first.
    """

    def __init__(self, decoder: DecodesPieces, write: Callable[[str], Any], skip_prompt: bool = True) -> None:
        self._decoder, self._write = decoder, write
        self._skip_prompt = skip_prompt
        self._is_prompt = True

    def put(self, value: Tensor) -> None:
        """Take the prompt [1, T], then a token [1] at a time.

        Raises:
            ValueError: more than one row.
        """
        if value.dim() > 0 and len(value) > 1 and (value.dim() > 1 or not self._is_prompt):
            raise ValueError(f"one text is streamed at a time, but {len(value)} rows came; give prompts one by one")
        is_prompt, self._is_prompt = self._is_prompt, False
        if not (is_prompt and self._skip_prompt):
            self._give(self._decoder.put(value.flatten().tolist()))

    def end(self) -> None:
        """Hand over what was held back, and be ready for another prompt."""
        self._give(self._decoder.end())
        self._is_prompt = True

    def _give(self, text: str) -> None:
        if text:
            self._write(text)


class IteratorStreamer(TextStreamer):
    """Pieces of text to iterate over while generation runs in another thread.

        streamer = IteratorStreamer(decoder)
        streamer.start(lambda: model.generate(**inputs, streamer=streamer))
        for piece in streamer: ...

    Args:
        timeout: seconds to wait for the next piece; None waits for ever.
    """

    def __init__(self, decoder: DecodesPieces, skip_prompt: bool = True, timeout: float | None = None) -> None:
        self._pieces: queue.Queue[str | BaseException | None] = queue.Queue()
        self._timeout = timeout
        super().__init__(decoder, self._pieces.put, skip_prompt)

    def start(self, run: Callable[[], Any]) -> threading.Thread:
        """Run in a thread; an error there is raised where the pieces are read."""

        def guarded() -> None:
            try:
                run()
            except BaseException as error:  # noqa: BLE001  # raised again by the reader
                self.abort(error)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def end(self) -> None:
        super().end()
        self._pieces.put(None)

    def abort(self, error: BaseException) -> None:
        """Stop the reader with the error that stopped the writer."""
        self._pieces.put(error)

    def __iter__(self) -> Iterator[str]:
        """Raises:
        TimeoutError: no piece within `timeout` seconds.
        """
        while True:
            try:
                piece = self._pieces.get(timeout=self._timeout)
            except queue.Empty:
                raise TimeoutError(f"no text within {self._timeout} seconds") from None
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece
