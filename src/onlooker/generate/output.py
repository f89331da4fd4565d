"""What generate returns when a record is asked for, and its collecting."""

from __future__ import annotations

from torch import Tensor

from onlooker.generate.config import GenerationConfig
from onlooker.outputs import ModelOutput


class GenerateOutput(ModelOutput):
    """Ids with what led to them; fields that were not asked for are not there.

    sequences: [rows, length]; scores and logits: one [rows, V] per step, after and before the filters (of beams:
    log-probabilities and logits of every running beam); sequences_scores: [rows] and beam_indices: [rows, new
    length] of beam searches.
    """

    sequences: Tensor | None = None
    sequences_scores: Tensor | None = None
    scores: tuple[Tensor, ...] | None = None
    logits: tuple[Tensor, ...] | None = None
    beam_indices: Tensor | None = None


class Recorder:
    """Keeps each step's scores and logits when asked to."""

    def __init__(self, config: GenerationConfig) -> None:
        self.wanted = config.return_dict_in_generate
        self.keeps_scores = bool(self.wanted and config.output_scores)
        self.keeps_logits = bool(self.wanted and config.output_logits)
        self.active = self.keeps_scores or self.keeps_logits
        self._scores: list[Tensor] = []
        self._logits: list[Tensor] = []

    def keep_logits(self, logits: Tensor) -> None:
        if self.keeps_logits:
            self._logits.append(logits.float().clone())

    def keep_scores(self, scores: Tensor) -> None:
        if self.keeps_scores:
            self._scores.append(scores)

    def cut(self, steps: int) -> None:
        """Keep only the first steps: the rest ran while nobody had looked whether all rows were finished."""
        del self._scores[steps:], self._logits[steps:]

    @property
    def scores(self) -> tuple[Tensor, ...] | None:
        return tuple(self._scores) if self.keeps_scores else None

    def output(
        self, sequences: Tensor, sequences_scores: Tensor | None = None, beam_indices: Tensor | None = None
    ) -> Tensor | GenerateOutput:
        if not self.wanted:
            return sequences
        return GenerateOutput(
            sequences=sequences,
            sequences_scores=sequences_scores if self.keeps_scores else None,
            scores=self.scores,
            logits=tuple(self._logits) if self.keeps_logits else None,
            beam_indices=beam_indices,
        )
