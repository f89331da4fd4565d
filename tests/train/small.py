"""Tiny models of every family and random batches for their stages."""

from __future__ import annotations

import copy

import torch

import onlooker
from onlooker.train.pretraining import Blip2Pretraining
from onlooker.train.stages import Blip2Generative, InstructionTuning, VideoLlavaProjector, VideoLlavaTuning
from tests.tiny import IMAGE_TOKEN, VIDEO_TOKEN, VOCAB, blip2_config, clips, pixels, video_llava_config

#: what real towers and language models start from, unlike the wild values of the parity tests
_RANGE = 0.1


def _calm(values: dict) -> dict:
    values = copy.deepcopy(values)
    for part in values.values():
        if isinstance(part, dict):
            part |= {"initializer_range": _RANGE, "init_std": _RANGE, "hidden_size": 16, "num_attention_heads": 2}
            part |= {"num_hidden_layers": 2, "d_model": 16, "word_embed_proj_dim": 16, "num_key_value_heads": 2}
    values["qformer_config"] = values.get("qformer_config", {}) | {
        "position_embedding_type": "absolute",
        "hidden_dropout_prob": 0.1,
    }
    return values


def retrieval_model(seed: int = 0, **qformer):
    torch.manual_seed(seed)
    values = _calm(blip2_config(3, "opt", num_query_tokens=3, image_token_index=None))
    values["qformer_config"] |= {"use_qformer_text_input": True, **qformer}
    return onlooker.Blip2ForImageTextRetrieval(onlooker.Blip2Config(**values))


def blip2(text: str = "opt", seed: int = 0, width: int = 16, **qformer):
    torch.manual_seed(seed)
    values = _calm(blip2_config(3, text, num_query_tokens=3))
    if width != 16:
        for part in ("vision_config", "qformer_config", "text_config"):
            values[part] |= {"hidden_size": width, "word_embed_proj_dim": width, "ffn_dim": width, "vocab_size": width}
            values[part] |= {"intermediate_size": width}
    values["qformer_config"] |= {"use_qformer_text_input": False, **qformer}
    return onlooker.Blip2ForConditionalGeneration(onlooker.Blip2Config(**values))


def instructblip(text: str = "llama", is_video: bool = True, seed: int = 0):
    torch.manual_seed(seed)
    values = _calm(blip2_config(3, text, num_query_tokens=3))
    del values["image_text_hidden_size"], values["qformer_config"]["use_qformer_text_input"]
    if is_video:
        values["video_token_index"] = values.pop("image_token_index")
        return onlooker.InstructBlipVideoForConditionalGeneration(onlooker.InstructBlipVideoConfig(**values))
    return onlooker.InstructBlipForConditionalGeneration(onlooker.InstructBlipConfig(**values))


def video_llava(seed: int = 0):
    torch.manual_seed(seed)
    values = _calm(video_llava_config(1, vision_feature_layer=-2, vision_feature_select_strategy="default"))
    del values["qformer_config"]
    return onlooker.VideoLlavaForConditionalGeneration(onlooker.VideoLlavaConfig(**values))


def pairs_batch(rows: int = 4, seed: int = 0) -> dict:
    """Pictures and captions: [CLS]=1 words [SEP]=2, padded with 0."""
    ids = torch.randint(4, VOCAB - 1, (rows, 6), generator=torch.Generator().manual_seed(seed))
    ids[:, 0], ids[:, -1] = 1, 2
    mask = torch.ones_like(ids)
    ids[0, 3:], mask[0, 4:] = torch.tensor([2, 0, 0]), 0
    return {"pixel_values": pixels(rows, seed), "input_ids": ids, "attention_mask": mask}


def _words(rows: int, length: int, seed: int) -> torch.Tensor:
    return torch.randint(4, IMAGE_TOKEN, (rows, length), generator=torch.Generator().manual_seed(seed))


def language_batch(model, rows: int = 3, seed: int = 0) -> dict:
    """What the collator gives: placeholders, a prompt, an answer; labels are the answer alone."""
    kind, words = model.config.model_type, _words(rows, 6, seed)
    words[:, :3] = words[0, :3]  # one question for all, so that the picture decides
    if kind == "video_llava":
        return _mixed_batch(words, rows, seed)
    frames = 2 if kind == "instructblipvideo" else 1
    places = torch.full((rows, frames * model.config.num_query_tokens), IMAGE_TOKEN)
    batch: dict = {"pixel_values": clips(rows, 2, seed) if kind == "instructblipvideo" else pixels(rows, seed)}
    if model.config.text_config.is_encoder_decoder:
        batch |= {"input_ids": torch.cat([places, words[:, :3]], 1), "labels": words[:, 3:].clone()}
    else:
        ids = torch.cat([places, words], 1)
        batch |= {"input_ids": ids, "labels": ids.masked_fill(torch.arange(ids.shape[1]) < places.shape[1] + 3, -100)}
    if kind != "blip-2":
        batch["qformer_input_ids"] = _words(1, 4, seed + 1).expand(rows, -1)
        batch["qformer_attention_mask"] = torch.ones(rows, 4, dtype=torch.long)
    return batch | {"attention_mask": torch.ones_like(batch["input_ids"])}


def _mixed_batch(words: torch.Tensor, rows: int, seed: int) -> dict:
    """Pictures and a clip in one batch; the last row has the clip."""
    images, frames, patches = rows - 1, 2, 4
    ids = torch.full((rows, frames * (patches + 1) + words.shape[1]), 1)
    mask = torch.zeros_like(ids)
    for row in range(rows):
        token, count = (VIDEO_TOKEN, frames * (patches + 1)) if row == images else (IMAGE_TOKEN, patches)
        line = torch.cat([torch.full((count,), token), words[row]])
        ids[row, : len(line)], mask[row, : len(line)] = line, 1
    labels = ids.masked_fill((mask == 0) | (ids == IMAGE_TOKEN) | (ids == VIDEO_TOKEN), -100)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "pixel_values_images": pixels(images, seed),
        "pixel_values_videos": clips(1, frames, seed),
    }


def stage_of(name: str, **options):
    """A fresh stage and a batch for it, by the names of CASES."""
    torch.manual_seed(0)
    if name == "pretraining":
        return Blip2Pretraining(retrieval_model(), **options), pairs_batch()
    build = CASES[name]
    stage = build(options)
    return stage, language_batch(stage.model)


CASES = {
    "pretraining": None,
    "blip2-opt": lambda options: Blip2Generative(blip2("opt"), **options),
    "blip2-t5": lambda options: Blip2Generative(blip2("t5"), **options),
    "blip2-t5-prefix": lambda options: Blip2Generative(blip2("t5"), prefix_lm=True, **options),
    "instructblip-llama": lambda options: InstructionTuning(instructblip("llama", is_video=False), **options),
    "instructblipvideo-t5": lambda options: InstructionTuning(instructblip("t5"), **options),
    "instructblipvideo-opt": lambda options: InstructionTuning(instructblip("opt"), **options),
    "video-llava-1": lambda options: VideoLlavaProjector(video_llava(), **options),
    "video-llava-2": lambda options: VideoLlavaTuning(video_llava(), **options),
}
