"""One prompt on its way through the engine, and its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from onlooker.engine.room import Room
from onlooker.generate.loop import start_search
from onlooker.generate.output import GenerateOutput
from onlooker.generate.plan import Move, Search, make_plan
from onlooker.models.generation import Task

#: states that nothing leads out of
ENDED = ("finished", "cancelled", "failed")


class Request:
    """A prompt of one row; its answer has one row, or several of them (beams, several samples).

    Attributes:
        state: "waiting", "running", "finished", "cancelled" or "failed".
        tokens: ids of the answer so far. Of beams and of several answers: the first one's, once it is finished.
        room: what its rows need of the cache at most.

    Raises:
        ValueError: options that do not fit, or a way of searching that needs a batch of its own.
    """

    def __init__(self, task: Task) -> None:
        if len(task.ids) != 1:
            raise ValueError(f"a request has one prompt, and {len(task.ids)} came: submit them one by one")
        if task.config.is_contrastive or task.config.use_cache is False:
            given = f"penalty_alpha={task.config.penalty_alpha}" if task.config.is_contrastive else "use_cache=False"
            raise ValueError(f"{given} needs a batch of its own: call generate() for it")
        self.task = task
        # Its tokens are what they would be without guesses, and other requests' rows fill the batch instead.
        self._config = task.config.with_options(prompt_lookup_num_tokens=None)
        self._plan, self._prompts, rows = make_plan(task.ids, self._config, **task.keywords)
        self.num_rows = len(rows)
        self.positions = task.ids.shape[1] if task.decoder else int(task.prompt.mask.sum())
        source = int(task.prompt.mask.sum()) if task.decoder else 0
        self.room = Room(self.num_rows, self.positions + self._plan.max_new, source)
        self.state = "waiting"
        self.tokens: list[int] = []
        self.next: list[int] = []  # tokens to write to its rows
        self.order: list[int] | None = None  # which of its rows each of them continues; None: its own
        self.passed = 0  # later requests that were let in before it
        self.is_cancelled = False
        self._search: Search | None = None
        self._result: Tensor | GenerateOutput | None = None
        self._error: BaseException | None = None

    def cancel(self) -> None:
        """Give the rows back before the next step. What was written until then stays in `tokens`."""
        self.is_cancelled = True

    def result(self) -> Tensor | GenerateOutput:
        """What generate() gives for this prompt alone.

        Raises:
            RuntimeError: it is not finished, or was cancelled.
            BaseException: what went wrong with it.
        """
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise RuntimeError(f"the request is {self.state}; run the engine until it is finished")
        return self._result

    # -- called by the engine --------------------------------------------------------------------------------------

    @property
    def takes_best(self) -> bool:
        """Whether all it needs of the scores is the best token: then no tensor is touched on its behalf."""
        plan = self._plan
        return self.num_rows == 1 and not (
            plan.sampler or plan.filters.active or plan.recorder.active or plan.stops.asks_host
        )

    def start(self, logits: Tensor) -> None:
        """Choose the first tokens.

        Args:
            logits: [1, V] behind the prompt.
        """
        self.state = "running"
        self._guarded(lambda: self._start(logits))
        self.order = None  # its rows are copies still: none has to move

    def _start(self, logits: Tensor) -> None:
        if self._plan.streamer is not None:
            self._plan.streamer.put(self.task.ids.cpu())
        if self.takes_best:
            self._take(int(logits.argmax(-1)))
        else:
            logits = logits.expand(self.num_rows, -1).clone()
            self._search = search = start_search(logits, self._prompts, self._config, self._plan)
            self._go(next(search))

    def choose(self, logits: Tensor) -> None:
        """Choose the next tokens from the scores [rows, V] behind the last ones."""
        assert self._search is not None  # it was started
        search = self._search
        self._guarded(lambda: self._go(search.send(logits)))

    def take(self, token: int) -> None:
        """The next token, where it is the best one."""
        self._guarded(lambda: self._take(token))

    def _take(self, token: int) -> None:
        plan = self._plan
        self.tokens.append(token)
        self.next = [token]
        if plan.streamer is not None:
            plan.streamer.put(torch.tensor([token]))
        if token in plan.stops.eos or len(self.tokens) == plan.max_new:
            new = torch.tensor([self.tokens], device=self._prompts.device)
            self._finish(plan.recorder.output(torch.cat([self._prompts, new], dim=1)))

    def _go(self, move: Move) -> None:
        self.next = move.tokens.tolist()
        self.order = None if move.rows is None else move.rows.tolist()
        if self.num_rows == 1:
            self.tokens += self.next

    def _guarded(self, work: Callable[[], None]) -> None:
        """What one request's filters, criteria or streamer raise is raised by its `result`; the others go on."""
        try:
            work()
        except StopIteration as end:
            self._finish(end.value)
        except Exception as error:  # noqa: BLE001  # raised again where the answer is read
            self.fail(error)

    def _finish(self, result: Any) -> None:
        self.state, self._result = "finished", result
        ids = result if isinstance(result, Tensor) else result.sequences
        self.tokens = ids[0, self._prompts.shape[1] :].tolist()
        self._close()

    def stop(self) -> None:
        """It was cancelled."""
        self.state = "cancelled"
        self._close()

    def fail(self, error: BaseException) -> None:
        """It cannot be finished."""
        self.state, self._error = "failed", error
        streamer = self._plan.streamer
        if streamer is not None and hasattr(streamer, "abort"):
            self._search = None
            streamer.abort(error)
        else:
            self._close()

    def _close(self) -> None:
        self._search = None
        if self._plan.streamer is not None:
            self._plan.streamer.end()
