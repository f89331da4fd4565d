"""Writes a small BLIP-2 checkpoint with random weights: everything a published folder has, but nothing learned."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import onlooker

# What the small vocabularies are made from.
SENTENCES = [
    "a photo of a cat sitting on a chair",
    "Question: What is in the picture? Answer: a cup of coffee on a wooden table.",
    "Question: How many cats are there? Answer: two",
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
        kind: "opt" or "t5" for a checkpoint that writes, "matching" for one that compares images with texts.
        has_image_token: False leaves out the placeholder, as files of the older layout do.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
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
    torch.manual_seed(seed)
    name = "Blip2ForImageTextRetrieval" if kind == "matching" else "Blip2ForConditionalGeneration"
    model = getattr(onlooker, name)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2) if parameter.dim() > 1 else parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder


def _config(
    kind: str, tokenizer: Tokenizer, vocab_size: int, image_size: int, num_query_tokens: int
) -> onlooker.Blip2Config:
    vision = onlooker.Blip2VisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=image_size
    )
    qformer = onlooker.Blip2QFormerConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=vocab_size,
        use_qformer_text_input=kind == "matching",
    )
    newline = tokenizer.token_to_id("\u010a")  # the byte-level spelling of a line break, which ends OPT's answers
    text = {
        "opt": lambda: onlooker.OPTConfig(
            vocab_size=vocab_size,
            hidden_size=32,
            word_embed_proj_dim=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=512,
            eos_token_id=newline,
        ),
        "t5": lambda: onlooker.T5Config(
            vocab_size=vocab_size,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            bos_token_id=1,
            decoder_start_token_id=0,
            tie_word_embeddings=False,
        ),
        "matching": lambda: None,
    }[kind]()
    return onlooker.Blip2Config.from_vision_qformer_text_configs(
        vision, qformer, text, num_query_tokens=num_query_tokens, image_text_hidden_size=16
    )


def _save_tokenizer(tokenizer: Tokenizer, folder: Path, kind: str) -> Path:
    import json

    roles = {
        "opt": {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"},
        "t5": {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
        "matching": {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"},
    }[kind]
    names = {"opt": "GPT2Tokenizer", "t5": "T5Tokenizer", "matching": "BertTokenizer"}
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
