"""Pick tokens from scores: the best ones, or a draw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` highest of every row, in order; of equal ones the lower index comes first.

    `topk` promises no order among equals, and in half precision equals are common.  A stable sort has it but costs
    some fifty times as much on a CPU, so there it is left for rows that do have equals among the best.
    """
    if scores.device.type != "cpu":  # a look at the values would wait for the device, and its sort is quick
        values, indices = scores.sort(dim=-1, descending=True, stable=True)
        return values[:, :count], indices[:, :count]
    values, indices = scores.topk(min(count + 1, scores.shape[1]))
    if not bool((values[:, 1:] < values[:, :-1]).all()):
        indices = torch.stack([_best_of_row(row, count) for row in scores])
        return scores.gather(1, indices), indices
    return values[:, :count], indices[:, :count]


def _best_of_row(row: Tensor, count: int) -> Tensor:
    least = row.topk(count).values[-1]
    candidates = (row >= least).nonzero()[:, 0] if not least.isnan() else torch.arange(len(row))
    return candidates[row[candidates].sort(descending=True, stable=True).indices[:count]]


class Sampler:
    """Draws by the softmax of the scores.

    Args:
        generators: None (torch's own), one for the batch, or one for each prompt, so that a prompt alone draws what
            it draws in a batch.
        prompts: how many prompts; when rows are several to a prompt, those of one stand together.

    Raises:
        ValueError: as many generators as neither prompts nor rows.
    """

    def __init__(self, generators: Generators, prompts: int, rows: int) -> None:
        if isinstance(generators, Sequence) and len(generators) not in (prompts, rows):
            raise ValueError(f"{len(generators)} generators for {prompts} prompts; give one, or one for each prompt")
        self.generators = generators

    def draw(self, scores: Tensor, count: int = 1) -> Tensor:
        """scores [rows, V] -> indices [rows, count], different ones within a row."""
        probabilities = scores.softmax(-1)
        if not isinstance(self.generators, Sequence):
            return torch.multinomial(probabilities, count, generator=self.generators)
        share = max(len(scores) // len(self.generators), 1)
        return torch.cat(
            [
                torch.multinomial(probabilities[row : row + 1], count, generator=self.generators[row // share])
                for row in range(len(scores))
            ]
        )
