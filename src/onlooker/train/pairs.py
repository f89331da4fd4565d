"""`PairCollator`: records with captions to the batches of BLIP-2's first stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onlooker.outputs import BatchFeature
from onlooker.train.data.loading import load_record
from onlooker.train.data.record import Record


class PairCollator:
    """Pictures and their captions, in the vocabulary of the Q-Former.

    Args:
        processor: of a BLIP-2 that compares pictures with texts.
        max_length: of a caption, in tokens; LAVIS takes 32.
    """

    def __init__(self, processor: Any, max_length: int = 32) -> None:
        self.processor, self.max_length = processor, max_length

    def __call__(self, records: Sequence[Record]) -> BatchFeature:
        """pixel_values, input_ids and attention_mask.

        Raises:
            ValueError: a record that is not one picture with a caption.
        """
        pictures, captions = [], []
        for record in map(load_record, records):
            if record.caption is None or len(record.media) != 1 or record.media[0].kind != "image":
                raise ValueError(
                    f"record {record.id} is not one picture with a caption, which the first stage learns from: it has "
                    f"{len(record.media)} media ({', '.join(medium.kind for medium in record.media)}) and "
                    f"{len(record.turns)} turns{'' if record.caption is None else ' (a caption)'}"
                )
            pictures.append(record.media[0].source)
            captions.append(record.caption)
        return self.processor(
            images=pictures,
            text=captions,
            padding=True,
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
        )
