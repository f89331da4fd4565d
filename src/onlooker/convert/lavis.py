"""Reads a LAVIS file of BLIP-2 or InstructBLIP, with what it lacks: the language model, and often the vision tower."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onlooker.convert.draft import Computed, Draft
from onlooker.convert.language import Language, read_language
from onlooker.convert.lavis_shapes import qformer_sizes, vision_sizes
from onlooker.convert.published import pair_saver
from onlooker.errors import CheckpointError
from onlooker.models.blip2.config import Blip2Config
from onlooker.models.blip2.generation import Blip2ForConditionalGeneration
from onlooker.models.blip2.processor import Blip2Processor
from onlooker.models.blip2.retrieval import Blip2ForImageTextRetrieval
from onlooker.models.instructblip.config import InstructBlipConfig
from onlooker.models.instructblip.generation import InstructBlipForConditionalGeneration
from onlooker.models.instructblip.processor import InstructBlipProcessor
from onlooker.pixels import BlipImageProcessor
from onlooker.text import Tokenizer
from onlooker.vision.config import Blip2VisionConfig
from onlooker.weights.layouts import biases
from onlooker.weights.layouts.lavis import TOWER, kind_of, table_of
from onlooker.weights.layouts.positions import grid_side, resize_positions
from onlooker.weights.naming import RenameTable
from onlooker.weights.reading import Reader, StoredTensor, scan_file

#: LAVIS model -> the kind of language model that it was trained with
LANGUAGE = {"blip2_opt": "opt", "blip2_t5": "t5", "blip2_vicuna_instruct": "llama", "blip2_t5_instruct": "t5"}
_POSITIONS = "vision_model.embeddings.position_embedding"
_DEEPEST = Blip2VisionConfig.num_hidden_layers  # eva_vit_g.pth may hold a block more, which LAVIS leaves out

_Tensors = dict[str, StoredTensor]


def read_lavis(
    file: Path,
    scratch: Computed,
    hub: Mapping[str, Any],
    *,
    vit: str | os.PathLike[str] | None = None,
    language_model: str | os.PathLike[str] | None = None,
    qformer_tokenizer: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
) -> Draft:
    """A .pth file as LAVIS writes them.

    Args:
        vit: the vision tower's own file (eva_vit_g.pth), for files that were trained with the tower frozen.
        language_model: folder or hub name of the language model that it was trained with.
        qformer_tokenizer: folder or hub name of bert-base-uncased, for a Q-Former that reads text.
        image_size: pixels of a picture's side, when it is to be another than the position table's.

    Raises:
        CheckpointError: no LAVIS file of a model here, or something that it lacks was not given.
        ValueError: something was given that it does not take.
    """
    given = scan_file(file)
    kind = kind_of(given)
    if kind is None:
        raise CheckpointError(
            f"{file} is no LAVIS file of BLIP-2 (OPT, T5, retrieval) or InstructBLIP (Vicuna, T5): it has "
            f"{len(given)} tensors, such as {', '.join(sorted(given)[:4])}."
        )
    table = table_of(kind)
    whole = _with_tower(file, given, vit)
    dropped = sorted(name for name in whole if _is_surplus(name, table))
    stored = table.renamed({name: tensor for name, tensor in whole.items() if name not in dropped})
    stored = _with_joined_biases(stored, scratch)
    stored = _with_positions(stored, scratch, image_size)
    parts: dict[str, Any] = {"vision_config": vision_sizes(stored), "qformer_config": qformer_sizes(stored)}
    parts["num_query_tokens"] = stored["query_tokens"].shape[1]
    if kind not in LANGUAGE:
        return _retrieval(stored, parts, dropped, _bert(file, qformer_tokenizer, parts, hub), language_model)
    if language_model is None:
        raise CheckpointError(
            f"{file} ({kind}) holds no language model. Give the folder of the {LANGUAGE[kind].upper()} that it was "
            "trained with (for instance facebook/opt-2.7b, google/flan-t5-xl or lmsys/vicuna-7b-v1.1): "
            "--language-model DIR."
        )
    language = read_language(language_model, LANGUAGE[kind], stored, reads_instruction="instruct" in kind, hub=hub)
    _check_width(file, stored, language)
    bert = _bert(file, qformer_tokenizer, parts, hub) if "instruct" in kind else None
    return _writing(kind, language.tensors | stored, parts, dropped, language, bert)


def _is_surplus(name: str, table: RenameTable) -> bool:
    """Whether the table drops a tensor or does not know it, or it is of a block beyond those in use."""
    if name.startswith(f"{TOWER}blocks.") and int(name.split(".")[2]) >= _DEEPEST:
        return True
    is_same = name == "query_tokens" or name.startswith("itm_head.")  # in both layouts
    return table.to_memory(name) in (None, name) and not is_same


def _with_tower(file: Path, given: _Tensors, vit: str | os.PathLike[str] | None) -> _Tensors:
    has_tower = f"{TOWER}cls_token" in given
    if has_tower and vit is not None:
        raise ValueError(f"{file} has its vision tower inside, trained with the rest: leave the second file out")
    if has_tower:
        return given
    if vit is None:
        raise CheckpointError(
            f"{file} holds no vision tower: it was trained with the tower frozen. Give LAVIS's file of it, "
            "eva_vit_g.pth: --vit FILE."
        )
    own = scan_file(Path(vit))
    if f"{TOWER}cls_token" in own:  # another LAVIS file that has the tower
        own = {name.removeprefix(TOWER): tensor for name, tensor in own.items() if name.startswith(TOWER)}
    if "cls_token" not in own or "blocks.0.attn.qkv.weight" not in own:
        raise CheckpointError(f"{vit} holds no EVA vision tower as LAVIS stores it: no cls_token and blocks.")
    return {**given, **{TOWER + name: tensor for name, tensor in own.items()}}


def _with_joined_biases(stored: _Tensors, scratch: Computed) -> _Tensors:
    """One bias for each fused layer in place of two."""
    reader = Reader()
    rest = {name: tensor for name, tensor in stored.items() if not name.endswith(("attn.q_bias", "attn.v_bias"))}
    joined = {}
    for name in stored:
        if name.endswith("attn.q_bias"):
            stem = name.removesuffix("q_bias")
            joined[f"{stem}qkv.bias"] = biases.join(reader.view(stored[name]), reader.view(stored[f"{stem}v_bias"]))
    return {**rest, **scratch.keep(joined)}


def _with_positions(stored: _Tensors, scratch: Computed, image_size: int | None) -> _Tensors:
    if image_size is None:
        return stored
    patch_size = stored["vision_model.embeddings.patch_embedding.weight"].shape[-1]
    if image_size < patch_size or image_size % patch_size:
        raise ValueError(f"image_size {image_size} is no multiple of the patches' {patch_size} pixels")
    if grid_side(stored[_POSITIONS].shape) * patch_size == image_size:
        return stored
    table = resize_positions(Reader().view(stored[_POSITIONS]), image_size // patch_size)
    return {**stored, **scratch.keep({_POSITIONS: table})}


def _check_width(file: Path, stored: _Tensors, language: Language) -> None:
    width, wanted = stored["language_projection.weight"].shape[0], language.config.hidden_size
    if width != wanted:
        raise CheckpointError(
            f"{file} was trained with a language model of width {width}; the one given is {wanted} wide: another size "
            "of the same model?"
        )


def _bert(
    file: Path, name: str | os.PathLike[str] | None, parts: Mapping[str, Any], hub: Mapping[str, Any]
) -> Tokenizer:
    """BERT's tokenizer as LAVIS extends it: [DEC] begins a caption, and long texts lose their beginning."""
    if name is None:
        raise CheckpointError(
            f"{file}: its Q-Former reads text. Give the folder of its tokenizer, bert-base-uncased: "
            "--qformer-tokenizer DIR."
        )
    tokenizer = Tokenizer.from_pretrained(name, truncation_side="left", **hub)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    rows = parts["qformer_config"]["vocab_size"]
    if len(tokenizer) > rows:
        raise CheckpointError(
            f"{file}: its Q-Former has a table of {rows} words; the tokenizer given has {len(tokenizer)}. Give that of "
            "bert-base-uncased."
        )
    return tokenizer


def _pixels(config: Any) -> BlipImageProcessor:
    side = config.vision_config.image_size
    return BlipImageProcessor(size={"height": side, "width": side})


def _retrieval(
    stored: _Tensors, parts: dict[str, Any], dropped: list[str], bert: Tokenizer, language_model: Any
) -> Draft:
    if language_model is not None:
        raise ValueError("a retrieval file takes no language model: leave it out")
    parts["qformer_config"]["use_qformer_text_input"] = True
    config = Blip2Config(**parts, image_text_hidden_size=stored["vision_projection.weight"].shape[0])
    bert.truncation_side = "right"
    return Draft(
        kind="LAVIS BLIP-2 for retrieval (stage 1)",
        model_class=Blip2ForImageTextRetrieval,
        config=config,
        stored=stored,
        save_processor=pair_saver(_pixels(config), bert),
        dtype="float32",
        dropped=dropped,
    )


def _writing(
    kind: str,
    stored: _Tensors,
    parts: dict[str, Any],
    dropped: list[str],
    language: Language,
    bert: Tokenizer | None,
) -> Draft:
    parts["text_config"] = language.config
    count = parts["num_query_tokens"]
    if bert is None:
        config: Any = Blip2Config(**parts)
        processor: Any = Blip2Processor(_pixels(config), language.tokenizer, num_query_tokens=count)
    else:
        config = InstructBlipConfig(**parts)
        processor = InstructBlipProcessor(_pixels(config), language.tokenizer, bert, num_query_tokens=count)
    config.image_token_index = processor.image_token_id
    return Draft(
        kind=f"LAVIS {'BLIP-2' if bert is None else 'InstructBLIP'} ({kind})",
        model_class=Blip2ForConditionalGeneration if bert is None else InstructBlipForConditionalGeneration,
        config=config,
        stored=stored,
        save_processor=processor.save_pretrained,
        token_rows=max(language.config.vocab_size, len(language.tokenizer)),
        pad_token_id=language.tokenizer.pad_token_id,
        dtype="float32",
        dropped=dropped,
    )
