"""Prompts before they join the batch: several at once where they are alike long, a long one part by part."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onlooker.engine.request import Request
from onlooker.language.choose import begin
from onlooker.nn.masks import compact
from onlooker.nn.rotary import stretches_from

WASTE = 1.25  # positions run, pads and all, over positions that are there


def group(requests: list[Request]) -> list[list[Request]]:
    """Requests whose prompts are run together: of about one length, shorter ones first.

    What goes on from a known part runs alone.
    """
    alone = [[request] for request in requests if request.task.prompt.begin is not None]
    groups: list[list[Request]] = []
    lengths = 0
    for request in sorted((each for each in requests if each.task.prompt.begin is None), key=_length):
        if groups and (len(groups[-1]) + 1) * _length(request) <= WASTE * (lengths + _length(request)):
            groups[-1].append(request)
            lengths += _length(request)
        else:
            groups.append([request])
            lengths = _length(request)
    return groups + alone


def _length(request: Request) -> int:
    return request.room.source or request.positions


def run_prompts(requests: list[Request]) -> Any:
    """The decoding of some prompts, a row each, without room for new tokens."""
    task = requests[0].task
    if len(requests) == 1:
        return task.start(0)
    prompts = [request.task.prompt for request in requests]
    embeds, mask = _stacked([compact(prompt.embeds, prompt.mask)[0] for prompt in prompts])
    decoder = {}
    if task.decoder:
        starts = [
            compact(each.task.decoder["decoder_input_ids"], each.task.decoder["decoder_attention_mask"])[0]
            for each in requests
        ]
        decoder["decoder_input_ids"], decoder["decoder_attention_mask"] = _stacked(starts)
    return begin(task.model, embeds, mask, 0, **decoder)


def _stacked(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows [1, T_i, ...] as [B, T, ...], and the mask [B, T] of what is there."""
    lengths = torch.tensor([row.shape[1] for row in rows], device=rows[0].device)
    stacked = rows[0].new_zeros(len(rows), int(lengths.max()), *rows[0].shape[2:])
    for number, row in enumerate(rows):
        stacked[number, : row.shape[1]] = row[0]
    return stacked, (torch.arange(stacked.shape[1], device=lengths.device) < lengths[:, None]).long()


class LongPrompt:
    """A prompt that is run in parts, one between two steps.

    Args:
        part: positions.
    """

    def __init__(self, request: Request, part: int) -> None:
        self.request = request
        prompt = request.task.prompt
        embeds, _ = compact(prompt.embeds, prompt.mask)
        first, *self._rest = embeds.split(part, dim=1)
        self.decoding: Any = begin(request.task.model, first, None, embeds.shape[1] - first.shape[1])

    @staticmethod
    def fits(request: Request, part: int) -> bool:
        """Whether a prompt is long and can be run so: an encoder reads its prompt as a whole."""
        task = request.task
        if task.decoder or task.prompt.begin is not None:
            return False
        return part < request.positions <= stretches_from(task.model.config)

    @property
    def nbytes(self) -> int:
        return self.decoding.nbytes

    def run(self) -> bool:
        """Run one more part; True when there are no others."""
        if self._rest:
            self.decoding.extend(self._rest.pop(0))
        return not self._rest
