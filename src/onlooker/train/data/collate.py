"""`Collator`: records to the inputs of the three families, with labels for the answers alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onlooker.models.processing import put_in_front
from onlooker.outputs import BatchFeature
from onlooker.text.limits import NO_LIMIT
from onlooker.train.data.loading import load_record
from onlooker.train.data.record import Record
from onlooker.train.data.writing import Row, shifted, write_rows

IGNORED = -100


class Collator:
    """Makes a batch of a list of records.

    Prompts, visual placeholders and pads are labelled -100. Every answer is learnt, and that it ends: the label behind
    an answer is the end token, also where the conversation goes on, so that rows read as they will be asked.

    Args:
        processor: of BLIP-2, InstructBLIP, InstructBLIPVideo or Video-LLaVA.
        encoder_decoder: for T5, whose answers stand in the labels alone.
        packed: all turns of a record in one row. Otherwise each turn is a row with the turns before it as history. By
            default packed, but not for T5, which writes one answer at a time, nor for InstructBLIP, whose Q-Former
            reads one instruction.
        max_length: of a row, placeholders included; what stands behind is cut off.
        caption_prompt: the question that a caption answers.
        share_media: give the pixels of a medium once, and `media_rows` [rows], which of them each row is about; records
            that hold the very same array share it. Without it pixels are repeated for each row.
        num_frames: of clips that are not loaded yet.

    Raises:
        ValueError: packed rows for an encoder-decoder.
    """

    def __init__(
        self,
        processor: Any,
        *,
        encoder_decoder: bool,
        packed: bool | None = None,
        max_length: int | None = None,
        caption_prompt: str = "",
        share_media: bool = False,
        num_frames: int | None = None,
    ) -> None:
        if packed and encoder_decoder:
            raise ValueError("an encoder-decoder learns one answer in a row; leave packed out")
        self.processor = processor
        self.is_instruct = hasattr(processor, "qformer_tokenizer")
        self.takes_markers = hasattr(processor, "video_processor") and not self.is_instruct
        self.encoder_decoder = encoder_decoder
        self.packed = not (encoder_decoder or self.is_instruct) if packed is None else packed
        self.max_length, self.caption_prompt, self.share_media = max_length, caption_prompt, share_media
        self.num_frames = num_frames or processor.trained_num_frames
        self.end_id = processor.tokenizer.eos_token_id
        if self.end_id is None:
            raise ValueError("the tokenizer has no eos_token, so answers could not be taught to end; set one")

    def __call__(self, records: Sequence[Record]) -> BatchFeature:
        """The batch: pixels, input_ids, attention_mask, labels, and the Q-Former's ids for InstructBLIP.

        Raises:
            ValueError: no records, media that the family does not take, or a batch with nothing to learn.
        """
        if not records:
            raise ValueError("there are no records to make a batch of")
        records = [load_record(record, self.num_frames) for record in records]
        options: dict[str, Any] = {"encoder_decoder": self.encoder_decoder, "caption_prompt": self.caption_prompt}
        options["packed"] = self.packed or (self.takes_markers and not self.encoder_decoder)
        rows = [
            row
            for number, record in enumerate(records)
            for row in write_rows(self.processor, record, number, **options)
        ]
        batch = self._with_markers(records, rows) if self.takes_markers else self._with_prefix(records, rows)
        if not bool((batch["labels"] != IGNORED).any()):
            raise ValueError("no answer is left to learn in the batch; raise max_length")
        return batch

    # -- the two ways of placing media -----------------------------------------------------------------------------

    def _with_markers(self, records: Sequence[Record], rows: Sequence[Row]) -> BatchFeature:
        """Video-LLaVA: the processor turns markers into placeholders."""
        media: dict[str, Any] = {}
        for name, kind in (("images", "image"), ("videos", "video")):
            found = [medium.source for record in records for medium in record.media if medium.kind == kind]
            media |= {name: found} if found else {}
        texts = [row.text for row in rows]
        batch = self.processor(text=texts, return_tensors=None, **media, **self._text_options(texts))
        spans = []
        for row, ids in zip(rows, batch["input_ids"]):
            longer = 0
            for marker in (self.processor.image_token, self.processor.video_token):
                written = ids.count(self.processor.tokenizer.convert_tokens_to_ids(marker))
                longer += (written - row.text.count(marker)) * len(marker)
            spans.append(shifted(row.spans, longer))
        out = self._text(rows, batch, spans)
        for name in ("pixel_values_images", "pixel_values_videos"):
            if name in batch:
                out[name] = _stack(batch[name])
        return out

    def _with_prefix(self, records: Sequence[Record], rows: Sequence[Row]) -> BatchFeature:
        """BLIP families: placeholders stand in front of the text."""
        media = [self._only_medium(record) for record in records]
        keys = [id(record.media[0].source) for record in records]
        seen = dict(zip(keys, media))  # each once, however many records are about it
        values = self.processor(images=list(seen.values()), return_tensors=None)["pixel_values"]
        places = {key: number for number, key in enumerate(seen)}
        numbers = [places[keys[row.example]] for row in rows]
        texts = [row.text for row in rows]
        columns: dict[str, Any] = dict(self.processor.tokenizer(texts, **self._text_options(texts)))
        per_frame = self.processor.num_query_tokens or 0
        if per_frame:
            is_video = self._takes_clips
            frames = [len(values[number]) if is_video else 1 for number in numbers]
            token = self.processor.video_token_id if is_video else self.processor.image_token_id
            columns = put_in_front(columns, token, [per_frame * count for count in frames])
        out = self._text(rows, columns, [row.spans for row in rows])
        if self.is_instruct:
            tokenizer = self.processor.qformer_tokenizer
            read = tokenizer(
                [row.instruction for row in rows],
                padding=True,
                padding_side="right",
                truncation=tokenizer.model_max_length < NO_LIMIT,
                return_token_type_ids=False,
                return_tensors="pt",
            )
            out.update({f"qformer_{name}": read[name] for name in ("input_ids", "attention_mask")})
        if self.share_media:
            out["pixel_values"], out["media_rows"] = _stack(values), torch.tensor(numbers)
        else:
            stacked = _stack(values)
            whole = numbers == list(range(len(values)))
            repeated = stacked[numbers] if isinstance(stacked, Tensor) else [stacked[number] for number in numbers]
            out["pixel_values"] = stacked if whole else repeated
        return out

    @property
    def _takes_clips(self) -> bool:
        return "video" in self.processor.takes

    def _only_medium(self, record: Record) -> Any:
        if len(record.media) != 1:
            raise ValueError(f"record {record.id} has {len(record.media)} media; this family takes one for each row")
        medium = record.media[0]
        if medium.kind == "video" and not self._takes_clips:
            raise ValueError(f"record {record.id} is a clip; this family takes pictures")
        return medium.source[None] if medium.kind == "image" and self._takes_clips else medium.source

    # -- text ------------------------------------------------------------------------------------------------------

    def _text_options(self, texts: Sequence[str]) -> dict[str, Any]:
        start = self.processor.tokenizer.bos_token
        written = bool(start) and all(text.startswith(start) for text in texts)
        return {"return_offsets_mapping": True, "return_token_type_ids": False, "add_special_tokens": not written}

    def _text(self, rows: Sequence[Row], columns: Any, spans: Sequence[Sequence[tuple[int, int]]]) -> BatchFeature:
        """Ids, mask and labels as tensors, padded on the right."""
        ids, labels = [], []
        for row, given, offsets, places in zip(rows, columns["input_ids"], columns["offset_mapping"], spans):
            if self.encoder_decoder:
                ids.append(list(given)[: self.max_length])
                labels.append(self._target(row.target))
                continue
            numbers, learnt = self._label(list(given), list(offsets), places)
            ids.append(numbers[: self.max_length])
            labels.append(learnt[: self.max_length])
            if all(label == IGNORED for label in labels[-1]):
                warnings.warn(
                    f"max_length {self.max_length} cuts off every answer of a row: {row.text[-60:]!r}", stacklevel=4
                )
        tokenizer = self.processor.tokenizer
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end_id
        mask = [[1] * len(row) for row in ids]
        return BatchFeature(
            {"input_ids": _pad(ids, pad), "attention_mask": _pad(mask, 0), "labels": _pad(labels, IGNORED)}
        )

    def _label(
        self, ids: list[int], offsets: list[tuple[int, int]], spans: Sequence[tuple[int, int]]
    ) -> tuple[list[int], list[int]]:
        """Ids with an end token behind the last answer, and the labels of all."""
        if len(ids) > 1 and tuple(offsets[-1]) == (0, 0):  # an end token or separator that the tokenizer put there
            ids, offsets = ids[:-1], offsets[:-1]
        ids, offsets = [*ids, self.end_id], [*offsets, (0, 0)]
        labels = [IGNORED] * len(ids)
        for begin, end in spans:
            inside = [
                place for place, (first, last) in enumerate(offsets) if last > begin and first < end and last > first
            ]
            for place in inside:
                labels[place] = ids[place]
            if inside:
                labels[inside[-1] + 1] = self.end_id  # whatever the conversation goes on with
        return ids, labels

    def _target(self, answer: str) -> list[int]:
        ids = list(self.processor.tokenizer(answer, return_token_type_ids=False)["input_ids"])
        return ids if ids and ids[-1] == self.end_id else [*ids, self.end_id]


def _pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def _stack(values: Sequence[Any]) -> Any:
    """One tensor, or a list of them when clips differ in length."""
    tensors = [torch.as_tensor(value) for value in values]
    return torch.stack(tensors) if len({tensor.shape for tensor in tensors}) == 1 else tensors
