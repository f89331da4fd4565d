"""Older vocabulary files, with no tokenizer.json, give the ids of transformers' slow tokenizers."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

import pytest
import transformers
from tokenizers import AddedToken

from onlooker.errors import CheckpointError, ModelNotFoundError
from onlooker.text import Tokenizer
from tests.text.trained import (
    PROBES,
    TEXTS,
    llama_model,
    slow_byte_level,
    slow_opt,
    spiece,
    word_pieces,
    write,
)

logging.getLogger("transformers").setLevel(logging.ERROR)


def agree(folder: Path, slow_class: type) -> tuple[Tokenizer, object]:
    """Ours equals the slow class on ordinary text, and everywhere the fast class that is made from it.

    Those two differ among themselves about spaces at the ends of a text and around added tokens.
    """
    ours, slow = Tokenizer.from_pretrained(folder), slow_class.from_pretrained(folder)
    fast = getattr(transformers, f"{slow_class.__name__}Fast").from_pretrained(folder)
    for theirs, texts in ((slow, TEXTS), (fast, PROBES)):
        for text in texts:
            ids = theirs.encode(text)
            assert ours.encode(text) == ids, text
            assert ours.encode(text, add_special_tokens=False) == theirs.encode(text, add_special_tokens=False), text
            assert ours.decode(ids) == fast.decode(ids), text
            options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": True}
            assert ours.decode(ids, **options) == theirs.decode(ids, **options), text
    assert ours.encode(TEXTS[0], TEXTS[1]) == slow.encode(TEXTS[0], TEXTS[1])
    assert len(ours) == len(slow) == len(fast)
    assert ours.get_vocab() == slow.get_vocab()
    for role in ("bos", "eos", "unk", "pad", "sep", "cls", "mask"):
        assert getattr(ours, f"{role}_token") == getattr(slow, f"{role}_token"), role
        assert getattr(ours, f"{role}_token_id") == getattr(slow, f"{role}_token_id"), role
    assert ours.model_input_names == slow.model_input_names
    assert ours.padding_side == fast.padding_side
    return ours, slow


def test_opt_folder_writes_the_start_token_in_front(tmp_path):
    slow_opt(tmp_path)
    ours, _ = agree(tmp_path, transformers.GPT2Tokenizer)
    assert ours.encode("a cat")[0] == ours.encode("")[0] == ours.bos_token_id == 2
    assert ours.decode(ours.encode(TEXTS[3]), skip_special_tokens=True) == TEXTS[3]


def test_gpt2_folder_without_any_settings(tmp_path):
    slow_byte_level(tmp_path)
    ours, _ = agree(tmp_path, transformers.GPT2Tokenizer)
    assert ours.eos_token == "<|endoftext|>"


def test_gpt2_prefix_space_is_honoured(tmp_path):
    slow_opt(tmp_path, add_prefix_space=True)
    agree(tmp_path, transformers.GPT2Tokenizer)


@pytest.mark.parametrize("legacy", [True, False])
def test_t5_model_file(tmp_path, legacy):
    transformers.T5Tokenizer(str(spiece(tmp_path / "made")), legacy=legacy).save_pretrained(tmp_path / "saved")
    folder = tmp_path / "saved"
    assert not (folder / "tokenizer.json").exists()
    ours, slow = agree(folder, transformers.T5Tokenizer)
    for text in ("fill <extra_id_0> in", "<extra_id_1>", "a <extra_id_5>, b"):
        assert ours.encode(text) == slow.encode(text), text


def test_t5_model_file_alone(tmp_path):
    spiece(tmp_path)
    ours, slow = agree(tmp_path, transformers.T5Tokenizer)
    for text in ("fill <extra_id_0> in", "a <extra_id_5>, b", "<extra_id_0> <extra_id_1>"):
        assert ours.encode(text) == slow.encode(text), text
    for number, token in slow.added_tokens_decoder.items():
        if "extra_id" in token.content:
            assert repr(ours.added_tokens_decoder[number]) == repr(token)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("ends", [{}, {"add_bos_token": False, "add_eos_token": True}], ids=str)
def test_llama_model_file(tmp_path, legacy, ends):
    made = transformers.LlamaTokenizer(str(llama_model(tmp_path / "made")), legacy=legacy, **ends)
    made.save_pretrained(tmp_path / "saved")
    agree(tmp_path / "saved", transformers.LlamaTokenizer)


def test_llama_model_file_with_renamed_ends_and_an_added_pad(tmp_path):
    """As Vicuna in InstructBLIP: </s> in every role, [PAD] added behind the vocabulary."""
    llama_model(tmp_path)
    roles = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "[PAD]"}
    write(tmp_path / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "legacy": True, **roles})
    write(tmp_path / "added_tokens.json", {"[PAD]": 450})
    ours, _ = agree(tmp_path, transformers.LlamaTokenizer)
    assert (ours.encode("a")[0], ours.pad_token_id) == (2, 450)


@pytest.mark.parametrize("lower", [True, False])
def test_bert_vocabulary(tmp_path, lower):
    transformers.BertTokenizer(str(word_pieces(tmp_path / "made")), do_lower_case=lower).save_pretrained(tmp_path / "s")
    ours, slow = agree(tmp_path / "s", transformers.BertTokenizer)
    assert ours(TEXTS[0], TEXTS[1])["token_type_ids"] == slow(TEXTS[0], TEXTS[1])["token_type_ids"]


def test_added_tokens_file_keeps_its_ids(tmp_path):
    word_pieces(tmp_path)
    size = len(Tokenizer.from_pretrained(tmp_path))
    write(tmp_path / "added_tokens.json", {"[DEC]": size, "kittens": size + 1})
    write(tmp_path / "special_tokens_map.json", {"bos_token": "[DEC]", "sep_token": {"content": "[SEP]"}})
    ours, slow = agree(tmp_path, transformers.BertTokenizer)
    assert (ours.bos_token_id, ours.convert_tokens_to_ids("kittens")) == (size, size + 1)
    assert ours.encode("[DEC] two kittens") == slow.encode("[DEC] two kittens")


def test_saved_from_a_slow_vocabulary_transformers_gives_the_same_ids(tmp_path):
    kinds = {"opt": slow_opt, "t5": spiece, "llama": llama_model, "bert": word_pieces}
    for name, make in kinds.items():
        make(tmp_path / name)
        if name == "t5":  # the slow class writes this setting, and readers take it as a wish to rebuild
            slow = transformers.T5Tokenizer(str(tmp_path / name / "spiece.model"), legacy=True)
            slow.save_pretrained(tmp_path / name)
        ours = Tokenizer.from_pretrained(tmp_path / name)
        ours.add_tokens([AddedToken("<image>", normalized=False, special=True)], special_tokens=True)
        ours.save_pretrained(tmp_path / f"{name}_saved")
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / f"{name}_saved")
        for text in [*PROBES, "<image>a <image>"]:
            assert ours.encode(text) == theirs.encode(text), (name, text)


def test_no_optional_package_is_needed_for_model_files(tmp_path, monkeypatch):
    spiece(tmp_path)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    assert Tokenizer.from_pretrained(tmp_path).encode("a cat")


def test_damaged_files_are_named(tmp_path):
    path = spiece(tmp_path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=r"spiece.model is not a sentencepiece model, or it is cut short"):
        Tokenizer.from_pretrained(tmp_path)
    shutil.rmtree(tmp_path)
    _, merges = slow_byte_level(tmp_path)
    merges.write_text(merges.read_text() + "q zz\n")
    with pytest.raises(CheckpointError, match=r"merges.txt joins 'q \+ zz'"):
        Tokenizer.from_pretrained(tmp_path)
    write(tmp_path / "tokenizer_config.json", [1])
    with pytest.raises(CheckpointError, match="holds a list where a JSON object was expected"):
        Tokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        Tokenizer.from_pretrained(tmp_path)


def test_a_folder_without_a_tokenizer_says_what_was_looked_for(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"has no tokenizer: looked for tokenizer.json, vocab.json"):
        Tokenizer.from_pretrained(tmp_path)
