"""Tiny vocabularies of every kind, trained on a few sentences in a moment, as transformers saves them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "a photo of a cat",
    "Question: how many cats are there? Answer: two cats, lying on a couch.",
    "Don't worry, it's what we've got; they're 'quoted' here!",
    "Ünïcödé naïve café 你好世界 🙂🙂 mixed  spaces\tand\nlines",
    "USER: What do you see in this video? ASSISTANT: a baby reading a book.",
    "3.14159 + 2 = 5.14159; e-mail: someone@example.org",
]
CORPUS = TEXTS * 20
# What tokenizers trip over: nothing, spaces at either end, characters outside the vocabulary, special tokens inside.
PROBES = [
    *TEXTS,
    "",
    " ",
    " leading and trailing ",
    "zebra 한국어 ∑",
    "two  spaces   three",
    "hello</s>world",
    "a\u00a0b",
]


def byte_level(folder: Path, **settings: object) -> Path:
    """GPT-2's kind, saved by GPT2TokenizerFast."""
    vocab, merges = slow_byte_level(folder / "slow")
    tokenizer = transformers.GPT2TokenizerFast(
        str(vocab), str(merges), unk_token="</s>", bos_token="</s>", eos_token="</s>", pad_token="<pad>", **settings
    )
    tokenizer.save_pretrained(folder)
    return folder


def opt(folder: Path, **settings: object) -> Path:
    """OPT's: the start token in front, as the published BLIP-2 folders hold it (tokenizer.json)."""
    slow_opt(folder / "slow", **settings)
    transformers.AutoTokenizer.from_pretrained(folder / "slow").save_pretrained(folder)
    return folder


def slow_byte_level(folder: Path) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.model.save(str(folder))
    return folder / "vocab.json", folder / "merges.txt"


def slow_opt(folder: Path, **settings: object) -> Path:
    """OPT's vocabulary with no tokenizer.json, as facebook/opt-* have it."""
    slow_byte_level(folder)
    token = {"add_prefix_space": False, "add_bos_token": True, "errors": "replace", "tokenizer_class": "GPT2Tokenizer"}
    flags = {"__type": "AddedToken", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    roles = {role: {**flags, "content": "</s>"} for role in ("bos_token", "eos_token", "unk_token")}
    write(folder / "tokenizer_config.json", {**token, **roles, "pad_token": "<pad>", **settings})
    write(folder / "special_tokens_map.json", dict.fromkeys(roles, "</s>") | {"pad_token": "<pad>"})
    return folder


def t5(folder: Path, **settings: object) -> Path:
    """T5's sentencepiece unigram vocabulary, saved by T5TokenizerFast."""
    transformers.T5TokenizerFast(str(spiece(folder / "slow")), **settings).save_pretrained(folder)
    (folder / "spiece.model").unlink(missing_ok=True)
    return folder


def spiece(folder: Path) -> Path:
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=95, model_type="unigram", pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, minloglevel=2, user_defined_symbols=["<sep>"],
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(model.getvalue())
    return folder / "spiece.model"


def llama(folder: Path, **settings: object) -> Path:
    """LLaMA's sentencepiece BPE vocabulary with byte tokens, saved by LlamaTokenizerFast."""
    path = llama_model(folder / "slow")
    options = {"legacy": True, "pad_token": "<unk>", **settings}
    transformers.LlamaTokenizerFast(str(path), **options).save_pretrained(folder)
    (folder / "tokenizer.model").unlink(missing_ok=True)
    return folder


def llama_model(folder: Path) -> Path:
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=450, model_type="bpe", byte_fallback=True,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, normalization_rule_name="identity", remove_extra_whitespaces=False,
        split_digits=True, character_coverage=0.98, minloglevel=2, allow_whitespace_only_pieces=True,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return folder / "tokenizer.model"


def bert(folder: Path, **settings: object) -> Path:
    """BERT's word pieces, saved by BertTokenizerFast."""
    transformers.BertTokenizerFast(str(word_pieces(folder / "slow")), **settings).save_pretrained(folder)
    (folder / "vocab.txt").unlink(missing_ok=True)
    return folder


def word_pieces(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=220, special_tokens=special, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    backend.model.save(str(folder))
    return folder / "vocab.txt"


def generic(folder: Path, **settings: object) -> Path:
    """A pipeline of nobody's family, saved by PreTrainedTokenizerFast."""
    backend = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.Fuse()
    special = ["[UNK]", "<s>", "</s>", "<pad>"]
    backend.train_from_iterator(CORPUS, trainers.WordLevelTrainer(special_tokens=special, show_progress=False))
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    roles = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "[UNK]", **settings}
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **roles).save_pretrained(folder)
    return folder


SAVED = {"gpt2": byte_level, "opt": opt, "t5": t5, "llama": llama, "bert": bert, "generic": generic}


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
