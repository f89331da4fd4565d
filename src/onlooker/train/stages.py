"""A stage of training: a model, what of it learns, and the loss of a batch; here, the stages that learn from words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from onlooker.train.freezing import ADAPTER, freeze_all_but, settle
from onlooker.train.lora import save_adapter
from onlooker.train.prefix import split_prefix
from onlooker.train.shared_media import blip2_loss, instructblip_loss

_QFORMER = (r"query_tokens$", r"qformer\.", r"language_projection\.")
_PROJECTOR = (r"(model\.)?multi_modal_projector\.",)
_LLAMA = (r"(model\.)?language_model\.", r"lm_head\.")


class Stage(nn.Module):
    """Base of all stages. `forward(**batch)` gives every term of the loss by name, their sum as "loss".

    Frozen parts keep no gradient and stay in eval mode, also after `train()`.

    Args:
        model: changed in place.
        trains: regexes of the names that learn, in place of the stage's own; adapters of peft in the model take their
            place too.

    Raises:
        ValueError: a pattern that fits nothing, or a model of another family.
    """

    name: ClassVar[str] = ""
    trains: ClassVar[tuple[str, ...]] = ()
    never: ClassVar[tuple[str, ...]] = ()
    families: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: nn.Module, trains: Sequence[str] | None = None) -> None:
        super().__init__()
        family = model.config.model_type  # type: ignore[union-attr]
        if self.families and family not in self.families:
            raise ValueError(f"stage {self.name!r} trains {' or '.join(self.families)}; this model is {family!r}")
        self.model: Any = model
        wake_queries(model)
        self.learns = freeze_all_but(model, trains or _adapters_of(model) or self.trains, () if trains else self.never)
        self.train()

    def train(self, mode: bool = True) -> Stage:
        settle(self, mode)
        return self

    def save(self, folder: str | Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write what this stage has made: the model, or its adapters alone.

        Args:
            state: tensors of this module by name, in place of its own (gathered, or averaged).
        """
        own = None if state is None else {k.removeprefix("model."): x for k, x in state.items() if k[:6] == "model."}
        if _adapters_of(self.model):
            save_adapter(self.model, folder, own)
        else:
            self.model.save_pretrained(folder, state_dict=own)


class LanguageStage(Stage):
    """Cross-entropy of the words that the labels of a batch keep, under the model's own forward.

    A batch is what the model's `forward` takes, `labels` among it; keys that it does not take are left out. In the
    BLIP families rows may share their media: `media_rows` [B] is then the number of each row's.

    Args:
        prefix_lm: for an encoder-decoder, cut every text at a random place: the front goes to the encoder, behind the
            prompt, and the decoder learns the rest (arXiv:2301.12597, section 3.3).
    """

    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "labels")
    optional: ClassVar[tuple[str, ...]] = ("decoder_input_ids", "decoder_attention_mask")

    def __init__(self, model: nn.Module, trains: Sequence[str] | None = None, *, prefix_lm: bool = False) -> None:
        super().__init__(model, trains)
        text = self.model.config.get_text_config()
        if prefix_lm and not text.is_encoder_decoder:
            raise ValueError(f"prefix_lm wants an encoder-decoder; the language model here is {text.model_type!r}")
        self.prefix_lm = prefix_lm
        self.pad_token_id = text.pad_token_id if text.pad_token_id is not None else 0

    def forward(self, **batch: Any) -> dict[str, Tensor]:
        """
        Raises:
            ValueError: an input is missing, or no label is scored.
        """
        inputs = {name: batch[name] for name in (*self.inputs, *self.optional) if batch.get(name) is not None}
        missing = [name for name in self.inputs if name not in inputs]
        if missing:
            raise ValueError(
                f"the batch has no {', '.join(missing)}; stage {self.name!r} wants {', '.join(self.inputs)}, and it "
                f"came with {', '.join(batch) or 'nothing'}"
            )
        if self.prefix_lm:
            inputs |= split_prefix(
                inputs["input_ids"], inputs["attention_mask"], inputs["labels"], pad_token_id=self.pad_token_id
            )
        loss = self._loss(inputs)
        return {"loss": loss, "lm": loss.detach()}

    def _loss(self, inputs: dict[str, Any]) -> Tensor:
        return self.model(**inputs, use_cache=False, return_dict=True).loss


class Blip2Generative(LanguageStage):
    """BLIP-2's second stage: Q-Former, queries and projection learn to speak to a frozen language model."""

    name = "blip2-stage2"
    families = ("blip-2",)
    trains = _QFORMER
    never = (r"qformer\.encoder\.layer\.\d+\.(intermediate|output)\.",)  # of the text, which is not read here
    inputs = ("pixel_values", *LanguageStage.inputs)
    optional = ("media_rows", *LanguageStage.optional)

    def _loss(self, inputs: dict[str, Any]) -> Tensor:
        return blip2_loss(self.model, **inputs) if "media_rows" in inputs else super()._loss(inputs)


class InstructionTuning(LanguageStage):
    """InstructBLIP (arXiv:2305.06500): the same parts learn, and the Q-Former reads the instruction."""

    name = "instructblip"
    families = ("instructblip", "instructblipvideo")
    trains = _QFORMER
    inputs = ("pixel_values", "qformer_input_ids", *LanguageStage.inputs)
    optional = ("qformer_attention_mask", "media_rows", *LanguageStage.optional)

    def _loss(self, inputs: dict[str, Any]) -> Tensor:
        return instructblip_loss(self.model, **inputs) if "media_rows" in inputs else super()._loss(inputs)


class VideoLlavaProjector(LanguageStage):
    """Video-LLaVA's first stage (arXiv:2311.10122, section 3.3): the projector alone learns, from captions."""

    name = "video-llava-stage1"
    families = ("video_llava",)
    trains = _PROJECTOR
    optional = ("pixel_values_images", "pixel_values_videos")


class VideoLlavaTuning(LanguageStage):
    """Video-LLaVA's second stage: the language model learns too, from conversations; or adapters in it do."""

    name = "video-llava-stage2"
    families = ("video_llava",)
    trains = (*_PROJECTOR, *_LLAMA)
    optional = ("pixel_values_images", "pixel_values_videos")


def wake_queries(model: nn.Module) -> None:
    """Give queries that are all zero, as in a fresh model, first values: equal queries would stay equal for ever."""
    queries = getattr(model, "query_tokens", None)
    if queries is not None and not queries.is_meta and not bool(queries.any()):
        with torch.no_grad():
            queries.normal_(std=model.config.qformer_config.initializer_range)  # type: ignore[union-attr]


def _adapters_of(model: nn.Module) -> tuple[str, ...]:
    return (ADAPTER,) if any("lora_" in name for name, _ in model.named_parameters()) else ()
