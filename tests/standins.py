"""Tiny random checkpoints in the layouts of other code bases, made from models of the reference and of this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

import onlooker
from onlooker.weights.layouts import biases, video_llava
from onlooker.weights.layouts.lavis import TOWER, table_of
from tests.text import trained
from tests.tiny import randomize

# Heads cannot be seen in a LAVIS file: 16 in the tower and 12 in the Q-Former, whatever the widths.
VISION = {
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "patch_size": 4,
    "image_size": 16,
}
QFORMER = {
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 4,
    "num_attention_heads": 12,
    "encoder_hidden_size": 32,
    "max_position_embeddings": 48,
}
LANGUAGE = {
    "opt": {
        "model_type": "opt",
        "vocab_size": 400,
        "hidden_size": 16,
        "word_embed_proj_dim": 16,
        "ffn_dim": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 80,
    },
    "t5": {
        "model_type": "t5",
        "vocab_size": 208,
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 24,
        "num_layers": 2,
        "num_heads": 2,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "decoder_start_token_id": 0,
    },
    "llama": {
        "model_type": "llama",
        "vocab_size": 450,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 200,
    },
}
_TEXT = {"blip2_opt": "opt", "blip2_t5": "t5", "blip2_vicuna_instruct": "llama", "blip2_t5_instruct": "t5"}
BERT_ROWS = 210  # the vocabulary of the tests, and [DEC]


def reference_of(kind: str, seed: int = 3) -> Any:
    """The model of transformers that a LAVIS model of this kind becomes."""
    values: dict[str, Any] = {"vision_config": dict(VISION), "qformer_config": {**QFORMER, "vocab_size": BERT_ROWS}}
    values["num_query_tokens"] = 3
    if kind in _TEXT:
        values["text_config"] = dict(LANGUAGE[_TEXT[kind]])
        if _TEXT[kind] == "t5":
            values["text_config"]["dense_act_fn"] = "gelu"  # as LAVIS runs it
        family = "InstructBlip" if "instruct" in kind else "Blip2"
        name = f"{family}ForConditionalGeneration"
    else:
        values["qformer_config"]["use_qformer_text_input"] = True
        values["image_text_hidden_size"] = 8
        family, name = "Blip2", "Blip2ForImageTextRetrieval"
    model = getattr(transformers, name)(getattr(transformers, f"{family}Config")(**values)).eval()
    randomize(model, seed)
    with torch.no_grad():
        for layer in model.vision_model.encoder.layers:
            layer.self_attn.qkv.bias[32:64] = 0  # keys have no bias there
    if hasattr(model, "tie_weights"):
        model.tie_weights()
    return model


def lavis_tensors(model: Any, kind: str) -> dict[str, Tensor]:
    """What LAVIS would store of it: no language model, two biases in place of one, and what nobody needs."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("language_model."):
            continue
        if name.endswith("qkv.bias"):
            stem = name.removesuffix("qkv.bias")
            for which, part in zip("qv", biases.split(tensor)):
                tensors[table_of(kind).to_file(f"{stem}{which}_bias")] = part.clone()
        elif not name.endswith("position_ids"):
            tensors[table_of(kind).to_file(name)] = tensor.clone()
    extra = {
        "Qformer.bert.embeddings.position_ids": torch.arange(48)[None],
        "Qformer.cls.predictions.bias": torch.ones(3),
    }
    extra["temp"] = torch.tensor(0.07)
    return tensors | extra


def write_lavis(folder: Path, model: Any, kind: str, *, tower: str = "inside", bare: bool = False) -> dict[str, Path]:
    """A .pth file, with its tower inside or in a second file, and the folders that it lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors, files = lavis_tensors(model, kind), {"source": folder / "model.pth"}
    if tower == "beside":
        own = {name: tensors.pop(name) for name in list(tensors) if name.startswith(TOWER)}
        own = {name.removeprefix(TOWER): tensor.half() for name, tensor in own.items()}
        extra = {name.replace("blocks.0.", "blocks.39."): tensor for name, tensor in own.items() if "blocks.0." in name}
        torch.save({**own, **extra, "head.weight": torch.ones(2, 2)}, folder / "eva_vit_g.pth")
        files["vit"] = folder / "eva_vit_g.pth"
    # A training script stores more than tensors beside them.
    torch.save(tensors if bare else {"model": tensors, "config": {"run": {"lr": 1e-5}}, "epoch": 9}, files["source"])
    if kind in _TEXT:
        files["language_model"] = write_language(folder / "language", model.language_model, _TEXT[kind])
    if kind not in ("blip2_opt", "blip2_t5"):
        files["qformer_tokenizer"] = trained.bert(folder / "bert")
    return files


def write_language(folder: Path, model: Any, kind: str) -> Path:
    """The language model as it is published, with no word of the pictures."""
    model.save_pretrained(folder)
    config = {**json.loads((folder / "config.json").read_text()), **LANGUAGE[kind]}
    config.pop("dense_act_fn", None)
    (folder / "config.json").write_text(json.dumps(config))
    trained.SAVED[kind](folder)
    return folder


def paper_model(seed: int = 5, frames: int | None = 8, **vision: Any) -> Any:
    """The paper's Video-LLaVA, tiny; CLIP heads are always 64 wide."""
    tower = {
        "hidden_size": 64,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 1,
        "patch_size": 7,
        "image_size": 14,
        "hidden_act": "gelu",
    }
    config = onlooker.VideoLlavaConfig(
        vision_config=tower | vision,
        text_config=LANGUAGE["llama"] | {"rms_norm_eps": 1e-5},
        image_token_index=450,
        video_token_index=451,
        video_time_frames=frames,
    )
    model = onlooker.VideoLlavaForConditionalGeneration(config).eval()
    randomize(model, seed, std=0.15)
    return model


def write_original(folder: Path, model: Any) -> Path:
    """LanguageBind/Video-LLaVA-7B's layout: LLaMA's config with mm_ keys, a slow tokenizer, two .bin shards."""
    trained.llama_model(folder)
    text = {name: value for name, value in model.config.text_config.to_dict().items() if name in LANGUAGE["llama"]}
    config = text | {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "mm_hidden_size": 64,
        "mm_image_tower": "LanguageBind/LanguageBind_Image",
        "mm_video_tower": "LanguageBind/LanguageBind_Video_merge",
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
    }
    trained.write(folder / "config.json", config)
    trained.write(folder / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "legacy": False})
    published = {model.disk_names.to_file(name): tensor for name, tensor in model.state_dict().items()}
    tensors = {video_llava.PAPER.to_file(name): tensor.clone() for name, tensor in published.items()}
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    names = sorted(tensors)
    shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, part in shards.items():
        torch.save({name: tensors[name] for name in part}, folder / file)
    where = {name: file for file, part in shards.items() for name in part}
    trained.write(folder / "pytorch_model.bin.index.json", {"metadata": {}, "weight_map": where})
    return folder
