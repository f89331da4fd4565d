"""Writes a small checkpoint of any family with random weights: a whole folder, but nothing learned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import onlooker

# What the small vocabularies are made from.
SENTENCES = [
    "a photo of a cat sitting on a chair",
    "Question: What is in the picture? Answer: a cup of coffee on a wooden table.",
    "Question: How many cats are there? Answer: two",
    "USER: Why is this video funny? ASSISTANT: A short image description.",
    "Is it raining? yes, no, maybe; it's sunny\nand warm",
]


def write_checkpoint(
    folder: str | Path,
    kind: str = "opt",
    *,
    image_size: int = 224,
    num_query_tokens: int = 32,
    has_image_token: bool = True,
    seed: int = 0,
) -> Path:
    """Write config, weights, tokenizer and processor files.

    Args:
        kind: "opt" or "t5" for a BLIP-2 that writes, "matching" for one that compares images with texts;
            "instructblip-opt", "instructblip-t5" or "instructblip-llama" as they are published, for pictures;
            "video-llava".
        has_image_token: False leaves out the placeholder, as files of the older layout do.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "video-llava":
        return _finished(_video_llava(folder, image_size), folder, seed)
    if kind.startswith("instructblip-"):
        language = kind.removeprefix("instructblip-")
        return _finished(_instructblip(folder, language, image_size, num_query_tokens), folder, seed)
    tokenizer = {"opt": _byte_level, "t5": _unigram, "matching": _word_pieces}[kind]()
    tokenizer_folder = _save_tokenizer(tokenizer, folder, kind)
    size = {"height": image_size, "width": image_size}
    processor = onlooker.Blip2Processor(
        onlooker.BlipImageProcessor(size=size),
        onlooker.AutoTokenizer.from_pretrained(tokenizer_folder),
        num_query_tokens=num_query_tokens if has_image_token and kind != "matching" else None,
    )
    processor.save_pretrained(folder)
    vocab_size = len(processor.tokenizer)
    config = _config(kind, tokenizer, vocab_size, image_size, num_query_tokens)
    if has_image_token and kind != "matching":
        config.image_token_index = processor.tokenizer.convert_tokens_to_ids("<image>")
    name = "Blip2ForImageTextRetrieval" if kind == "matching" else "Blip2ForConditionalGeneration"
    return _finished(lambda: getattr(onlooker, name)(config), folder, seed)


def _finished(build: Callable[[], Any], folder: Path, seed: int) -> Path:
    """Make the model, fill it with random numbers, and write it."""
    torch.manual_seed(seed)
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2) if parameter.dim() > 1 else parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder


def _instructblip(folder: Path, language: str, image_size: int, num_query_tokens: int) -> Callable[[], Any]:
    """A checkpoint for pictures, as the published ones are; the classes for clips load it, too."""
    made = {"opt": _byte_level, "t5": _unigram, "llama": _sentence_pieces}[language]()
    tokenizer = onlooker.AutoTokenizer.from_pretrained(_save_tokenizer(made, folder, language))
    reader = folder / "qformer_tokenizer"
    reader.mkdir(exist_ok=True)
    words = onlooker.AutoTokenizer.from_pretrained(_save_tokenizer(_word_pieces(), reader, "matching"))
    size = {"height": image_size, "width": image_size}
    pixels = onlooker.BlipImageProcessor(size=size)
    processor = onlooker.InstructBlipProcessor(pixels, tokenizer, words, num_query_tokens=num_query_tokens)
    processor.save_pretrained(folder)
    vision, qformer = _vision(image_size), _qformer(len(words), reads_text=True)
    text = _text(language, len(tokenizer), made.token_to_id("\u010a"))
    config = onlooker.InstructBlipConfig(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict() | {"model_type": "instructblip_qformer"},
        text_config=text.to_dict(),
        num_query_tokens=num_query_tokens,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return lambda: onlooker.InstructBlipForConditionalGeneration(config)


def _video_llava(folder: Path, image_size: int) -> Callable[[], Any]:
    tokenizer = onlooker.AutoTokenizer.from_pretrained(_save_tokenizer(_sentence_pieces(), folder, "llama"))
    tokenizer.add_tokens(["<image>", "<video>"], special_tokens=True)
    crop = {"height": image_size, "width": image_size}
    pixels = onlooker.VideoLlavaImageProcessor(size={"shortest_edge": image_size}, crop_size=crop)
    onlooker.VideoLlavaProcessor(pixels, None, tokenizer, patch_size=14).save_pretrained(folder)
    vision = onlooker.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=image_size,
        patch_size=14,
    )
    config = onlooker.VideoLlavaConfig(
        vision_config=vision.to_dict(),
        text_config=_text("llama", len(tokenizer), None).to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
    )
    return lambda: onlooker.VideoLlavaForConditionalGeneration(config)


def _config(
    kind: str, tokenizer: Tokenizer, vocab_size: int, image_size: int, num_query_tokens: int
) -> onlooker.Blip2Config:
    newline = tokenizer.token_to_id("\u010a")  # the byte-level spelling of a line break, which ends OPT's answers
    text = None if kind == "matching" else _text(kind, vocab_size, newline)
    vision, qformer = _vision(image_size), _qformer(vocab_size, reads_text=kind == "matching")
    return onlooker.Blip2Config.from_vision_qformer_text_configs(
        vision, qformer, text, num_query_tokens=num_query_tokens, image_text_hidden_size=16
    )


def _vision(image_size: int) -> onlooker.Blip2VisionConfig:
    return onlooker.Blip2VisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=image_size
    )


def _qformer(vocab_size: int, *, reads_text: bool) -> onlooker.Blip2QFormerConfig:
    return onlooker.Blip2QFormerConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=vocab_size,
        use_qformer_text_input=reads_text,
    )


def _text(kind: str, vocab_size: int, newline: int | None) -> Any:
    """A small language model; OPT's answers end with a line break, as in the published files."""
    if kind == "opt":
        return onlooker.OPTConfig(
            vocab_size=vocab_size,
            hidden_size=32,
            word_embed_proj_dim=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=512,
            eos_token_id=newline,
        )
    if kind == "t5":
        return onlooker.T5Config(
            vocab_size=vocab_size,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            bos_token_id=1,
            decoder_start_token_id=0,
            tie_word_embeddings=False,
        )
    return onlooker.LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )


def _save_tokenizer(tokenizer: Tokenizer, folder: Path, kind: str) -> Path:
    import json

    roles = {
        "opt": {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"},
        "t5": {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
        "llama": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"},
        "matching": {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"},
    }[kind]
    names = {"opt": "GPT2Tokenizer", "llama": "LlamaTokenizer", "t5": "T5Tokenizer", "matching": "BertTokenizer"}
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": names[kind], "add_prefix_space": False, "add_bos_token": True, **roles}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return folder


def _byte_level() -> Tokenizer:
    """OPT's kind: bytes, with `</s>` in front of every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    return tokenizer


def _unigram() -> Tokenizer:
    """T5's kind: pieces of words, with `</s>` behind every text."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(SENTENCES * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def _sentence_pieces() -> Tokenizer:
    """LLaMA's kind: pieces with bytes for what is not among them, and `<s>` in front of every text."""
    special = ["<unk>", "<s>", "</s>"]
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[*special, *pieces], show_progress=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")  # while training: no piece spans words
    tokenizer.train_from_iterator(SENTENCES * 5, trainer)
    tokenizer.pre_tokenizer = None  # type: ignore[assignment]
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def _word_pieces() -> Tokenizer:
    """BERT's kind: lower-case pieces of words between [CLS] and [SEP]."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES * 5, trainer)
    ends = [("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]"))]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer
