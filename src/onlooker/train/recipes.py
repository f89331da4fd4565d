"""The stages by name, and how each is put together from checkpoints: model, processor, collator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onlooker.auto import AutoConfig, AutoModelForImageTextToText
from onlooker.auto_processing import AutoProcessor
from onlooker.config import Config
from onlooker.hub import find_file
from onlooker.models.blip2.retrieval import Blip2ForImageTextRetrieval
from onlooker.models.instructblip.config import InstructBlipVideoConfig
from onlooker.train.assemble import take_part
from onlooker.train.data.collate import Collator
from onlooker.train.lora import add_lora
from onlooker.train.pairs import PairCollator
from onlooker.train.pretraining import EXTRA_FILE, Blip2Pretraining
from onlooker.train.stages import Blip2Generative, InstructionTuning, Stage, VideoLlavaProjector, VideoLlavaTuning

STAGES: dict[str, type[Stage]] = {
    cls.name: cls
    for cls in (Blip2Pretraining, Blip2Generative, InstructionTuning, VideoLlavaProjector, VideoLlavaTuning)
}

Collate = Callable[[list[Any]], dict[str, Any]]


@dataclass(frozen=True)
class Recipe:
    """All that `train` wants but the rows and the settings."""

    stage: Stage
    processor: Any
    collate: Collate


def stage_class(name: str) -> type[Stage]:
    """
    Raises:
        ValueError: no such stage.
    """
    if name not in STAGES:
        raise ValueError(f"stage {name!r} is unknown; there are {', '.join(STAGES)}")
    return STAGES[name]


def make_recipe(
    stage: str,
    model: str | Path,
    *,
    from_scratch: bool = False,
    parts: Mapping[str, str | Path] | None = None,
    trains: Sequence[str] | None = None,
    lora: str | None = None,
    rank: int | None = None,
    load_in_4bit: bool = False,
    dtype: Any = None,
    max_length: int | None = None,
    num_frames: int | None = None,
    **stage_options: Any,
) -> Recipe:
    """Put a stage together.

    Args:
        stage: one of STAGES.
        model: folder or hub name, with its processor.
        from_scratch: fresh weights of the shape in its config.json.
        parts: part -> checkpoint that it is taken from, such as {"qformer": "stage1/model"}.
        trains: regexes of the names that learn, in place of the stage's own.
        lora: "language", "qformer" or "all": adapters there learn in place of the stage's parts.
        rank: of the adapters.
        load_in_4bit: freeze the model in 4 bits (QLoRA); wants `lora`.
        dtype: of frozen and learning parts, float32 by default; mixed precision belongs to the settings.
        max_length: of a row; of a caption in the first stage (32).
        num_frames: of each clip.
        stage_options: of the stage's class: prefix_lm, label_smoothing, equal_texts_match ...

    Raises:
        ValueError: an unknown stage, a checkpoint of another family, or options that exclude each other.
        ModelNotFoundError, CheckpointError, MissingExtraError: as for from_pretrained.
    """
    cls = stage_class(stage)
    if load_in_4bit and lora is None:
        raise ValueError("weights in 4 bits cannot learn: give lora= (--lora) with load_in_4bit")
    if lora is not None and cls is Blip2Pretraining:
        raise ValueError("the first stage trains the Q-Former itself: adapters belong to the stages after it")
    processor, config, collate = read_collator(stage, model, max_length=max_length, num_frames=num_frames)
    built = _build(cls, config, model, from_scratch, load_in_4bit, dtype)
    for part, source in (parts or {}).items():
        take_part(built, part, source)
    if lora is not None:
        add_lora(built, lora, rank=rank, base=str(model))
    made = cls(built, trains, **stage_options)
    if isinstance(made, Blip2Pretraining) and not from_scratch and find_file(model, EXTRA_FILE) is not None:
        made.load_extra(str(find_file(model, EXTRA_FILE).parent))  # type: ignore[union-attr]
    return Recipe(made, processor, collate)


def read_collator(
    stage: str, model: str | Path, *, max_length: int | None = None, num_frames: int | None = None
) -> tuple[Any, Config, Collate]:
    """The processor and the configuration of a checkpoint, and what makes batches of rows; no weights are read.

    Raises:
        ValueError: an unknown stage, or a checkpoint of another family.
        ModelNotFoundError: as for from_pretrained.
    """
    cls = stage_class(stage)
    config = AutoConfig.from_pretrained(model)
    if config.model_type not in cls.families:
        raise ValueError(f"stage {cls.name!r} trains {' or '.join(cls.families)}; {model} is {config.model_type!r}")
    if config.model_type == "instructblip":  # its processor makes clips, of which a picture is one of one frame
        config = InstructBlipVideoConfig.from_pretrained(model)
    processor: Any = AutoProcessor.from_pretrained(model)
    if issubclass(cls, Blip2Pretraining):
        return processor, config, PairCollator(processor, max_length or 32)
    collate = Collator(
        processor,
        encoder_decoder=bool(config.get_text_config().is_encoder_decoder),
        max_length=max_length,
        share_media=issubclass(cls, (Blip2Generative, InstructionTuning)),
        num_frames=num_frames,
    )
    return processor, config, collate


def _build(
    cls: type[Stage], config: Config, name: str | Path, from_scratch: bool, load_in_4bit: bool, dtype: Any
) -> Any:
    if cls is Blip2Pretraining:
        model_class: Any = Blip2ForImageTextRetrieval
    else:
        model_class = AutoModelForImageTextToText.class_for(config)
    if from_scratch:
        return model_class(config)
    return model_class.from_pretrained(name, torch_dtype=dtype, load_in_4bit=load_in_4bit)
