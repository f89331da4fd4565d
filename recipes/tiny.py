"""The shapes of the small models, their tokenizers and their processors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import onlooker
from onlooker.train.world import vocabulary

SIZE, PATCH, FRAMES, QUERIES = 56, 14, 8, 8
VIDEO_QUERIES = 1 + (SIZE // PATCH) ** 2  # of InstructBLIP for each frame: one for each feature of the tower
WIDTH, HEADS = 128, 4
TALKING = 4  # layers of a decoder that has seen nothing yet
WATCHING = 2  # layers that Video-LLaVA's decoder has below those of the language model it starts from
# One vocabulary for all: the language models and the Q-Former read the same words.
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "[CLS]", "[SEP]", "[DEC]", "<image>", "<video>")
# What prompts hold beside the words of the world: roles, and the requests for a caption.
MARKS = ("user", "assistant", "question", "answer", ":", "describe", "image", "video", "short", "description", "photo")


def words() -> list[str]:
    """The vocabulary, special tokens first."""
    return [*SPECIAL, *sorted({*vocabulary(), *MARKS})]


def tokenizer(kind: str, folder: Path) -> Any:
    """Write a tokenizer of whole words into a folder, and load it.

    Args:
        kind: "llama" writes `<s>` in front, "t5" `</s>` behind, "matching" [CLS] and [SEP] around.
    """
    numbers = {word: number for number, word in enumerate(words())}
    made = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    american = [normalizers.Replace("colour", "color")]
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), *american])
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    made.add_special_tokens(list(SPECIAL))
    around = {"llama": "<s> $A", "t5": "$A </s>", "matching": "[CLS] $A [SEP]"}[kind]
    used = [(token, numbers[token]) for token in around.split() if token in numbers]
    made.post_processor = processors.TemplateProcessing(single=around, special_tokens=used)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    roles = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if kind == "matching":
        roles = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **roles}
    settings |= {"model_max_length": 1024, "model_input_names": ["input_ids", "attention_mask"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return onlooker.AutoTokenizer.from_pretrained(folder)


def llama(num_hidden_layers: int = TALKING) -> dict[str, Any]:
    """The decoder before it has seen anything; with the watching layers below, the one of the video models."""
    return {
        "vocab_size": len(words()),
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": 1024,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def t5() -> dict[str, Any]:
    """The encoder-decoder of BLIP-2."""
    return {
        "vocab_size": len(words()),
        "d_model": WIDTH,
        "d_kv": WIDTH // HEADS,
        "d_ff": 2 * WIDTH,
        "num_layers": 3,
        "num_heads": HEADS,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
        "pad_token_id": 0,
        "bos_token_id": 2,  # what generate() begins from without a prompt: the same as an empty prompt, as in FLAN-T5
        "eos_token_id": 2,
        "decoder_start_token_id": 0,
        "tie_word_embeddings": False,
    }


def eva() -> dict[str, Any]:
    """The vision tower of the BLIP families."""
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": HEADS,
        "image_size": SIZE,
        "patch_size": PATCH,
        "initializer_range": 0.02,
    }


def clip() -> dict[str, Any]:
    """The vision tower of Video-LLaVA: the same sizes, so that it can start from the other one."""
    return {**eva(), "model_type": "clip_vision_model", "projection_dim": WIDTH, "hidden_act": "gelu"}


def video_llava() -> onlooker.VideoLlavaConfig:
    """Video-LLaVA of these parts."""
    return onlooker.VideoLlavaConfig(
        vision_config=clip(),
        text_config={"model_type": "llama", **llama(WATCHING + TALKING)},
        image_token_index=SPECIAL.index("<image>"),
        video_token_index=SPECIAL.index("<video>"),
        vision_feature_layer=-1,
        image_seq_length=(SIZE // PATCH) ** 2,
        video_seq_length=FRAMES * ((SIZE // PATCH) ** 2 + 1),
    )


def video_llava_processor(folder: Path) -> onlooker.VideoLlavaProcessor:
    """Its processor; the tokenizer is written into the folder."""
    square = {"height": SIZE, "width": SIZE}
    pixels = onlooker.VideoLlavaImageProcessor(size={"shortest_edge": SIZE}, crop_size=square)
    return onlooker.VideoLlavaProcessor(pixels, None, tokenizer("llama", folder), patch_size=PATCH)


def qformer() -> dict[str, Any]:
    """The Q-Former; every layer looks at the picture."""
    return {
        "vocab_size": len(words()),
        "hidden_size": WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * WIDTH,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 64,
        "cross_attention_frequency": 1,
        "encoder_hidden_size": WIDTH,
        "use_qformer_text_input": True,
    }


def pictures() -> dict[str, Any]:
    """How the BLIP families resize."""
    return {"size": {"height": SIZE, "width": SIZE}}


def blip2(text: dict[str, Any] | None) -> onlooker.Blip2Config:
    """BLIP-2 of these parts; without a language model, the one that compares pictures with texts."""
    config = onlooker.Blip2Config(
        vision_config=eva(),
        qformer_config={**qformer(), "use_qformer_text_input": text is None},
        text_config=None if text is None else {"model_type": "t5", **text},
        num_query_tokens=QUERIES,
        image_text_hidden_size=WIDTH,
        image_token_index=SPECIAL.index("<image>"),
    )
    return config


def blip2_processor(kind: str, folder: Path) -> onlooker.Blip2Processor:
    """Its processor: "t5" for the one that writes, "matching" for the one that compares."""
    pixels = onlooker.BlipImageProcessor(**pictures())
    return onlooker.Blip2Processor(pixels, tokenizer(kind, folder), num_query_tokens=QUERIES)


def instructblip(
    num_query_tokens: int = VIDEO_QUERIES, layers: int = WATCHING + TALKING
) -> onlooker.InstructBlipVideoConfig:
    """InstructBLIP for clips, with the decoder of Video-LLaVA, or the one without watching layers."""
    return onlooker.InstructBlipVideoConfig(
        vision_config=eva(),
        qformer_config=qformer(),
        text_config={"model_type": "llama", **llama(layers)},
        num_query_tokens=num_query_tokens,
        video_token_index=SPECIAL.index("<video>"),
    )


def instructblip_processor(folder: Path, num_query_tokens: int = VIDEO_QUERIES) -> onlooker.InstructBlipVideoProcessor:
    """Its processor, with a tokenizer for each of its two readers."""
    pixels = onlooker.InstructBlipVideoImageProcessor(**pictures(), num_frames=FRAMES)
    reader = tokenizer("matching", folder / "qformer_tokenizer")
    return onlooker.InstructBlipVideoProcessor(
        pixels, tokenizer("llama", folder), reader, num_query_tokens=num_query_tokens
    )
