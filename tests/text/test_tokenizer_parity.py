"""The tokenizer gives what transformers gives, on folders that transformers saved."""

from __future__ import annotations

import itertools
import json
import logging

import numpy as np
import pytest
import torch
import transformers

from onlooker.text import Tokenizer
from tests.text.trained import PROBES, SAVED, TEXTS


@pytest.fixture(scope="session", params=SAVED)
def folder(request, tmp_path_factory):
    return SAVED[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture
def reference(folder):
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def ours(folder):
    return Tokenizer.from_pretrained(folder)


def as_lists(batch):
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in batch.items()}


def test_every_text_gives_the_same_ids(ours, reference):
    for text in PROBES:
        assert as_lists(ours(text)) == dict(reference(text)), text
        assert as_lists(ours(text, add_special_tokens=False)) == dict(reference(text, add_special_tokens=False)), text
        assert ours.encode(text) == reference.encode(text)
        assert ours.tokenize(text) == reference.tokenize(text)
    assert as_lists(ours(PROBES)) == dict(reference(PROBES))


def test_pairs_give_the_same_ids(ours, reference):
    assert as_lists(ours(TEXTS[0], TEXTS[1])) == dict(reference(TEXTS[0], TEXTS[1]))
    assert as_lists(ours(TEXTS[:3], TEXTS[3:])) == dict(reference(TEXTS[:3], TEXTS[3:]))
    options = {"truncation": True, "max_length": 12, "return_token_type_ids": True}
    assert as_lists(ours(TEXTS[:3], TEXTS[3:], **options)) == dict(reference(TEXTS[:3], TEXTS[3:], **options))


@pytest.mark.parametrize(
    "options",
    [
        {"padding": True},
        {"padding": "longest", "padding_side": "left"},
        {"padding": "max_length", "max_length": 90, "padding_side": "right"},
        {"padding": "max_length", "max_length": 8, "truncation": True},
        {"padding": True, "pad_to_multiple_of": 16},
        {"padding": True, "truncation": "only_first", "max_length": 16, "pad_to_multiple_of": 8},
        {"truncation": True, "max_length": 3},
        {"truncation": True, "max_length": 6, "add_special_tokens": False},
        {"padding": True, "return_attention_mask": False, "return_token_type_ids": True},
        {"padding": True, "return_special_tokens_mask": True, "return_length": True, "return_offsets_mapping": True},
        {"padding": True, "truncation": True, "max_length": 9, "stride": 2, "return_overflowing_tokens": True},
    ],
    ids=str,
)
def test_padding_and_truncation_are_the_same(ours, reference, options):
    for side, cut_side in itertools.product(("left", "right"), repeat=2):
        for tokenizer in (ours, reference):
            tokenizer.padding_side, tokenizer.truncation_side = side, cut_side
        expected = dict(reference(PROBES, **options))
        assert as_lists(ours(PROBES, **options)) == expected
        for kind, array_type in (("pt", torch.Tensor), ("np", np.ndarray)):
            if options.get("padding"):
                batch = ours(PROBES, **options, return_tensors=kind)
                assert all(isinstance(value, array_type) for value in batch.values())
                assert as_lists(batch) == as_lists(reference(PROBES, **options, return_tensors=kind))
    single = ours(TEXTS[0], return_tensors="pt")
    assert single.input_ids.shape[0] == 1 and single.input_ids.dtype == torch.int64
    assert as_lists(single) == as_lists(reference(TEXTS[0], return_tensors="pt"))


def test_decoding_is_the_same(ours, reference):
    for text in PROBES:
        ids = reference.encode(text)
        for skip, clean in itertools.product((False, True), (None, False, True)):
            expected = reference.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=clean)
            for given in (ids, np.array(ids, dtype=np.int64), torch.tensor(ids, dtype=torch.int64)):
                assert ours.decode(given, skip_special_tokens=skip, clean_up_tokenization_spaces=clean) == expected
    rows = reference(TEXTS, padding=True, return_tensors="pt")["input_ids"]
    for batch in (rows, rows.numpy(), rows.tolist(), list(rows)):
        assert ours.batch_decode(batch, skip_special_tokens=True) == reference.batch_decode(
            batch, skip_special_tokens=True
        )
    assert ours.decode(5) == reference.decode(5)


def test_attributes_are_the_same(ours, reference):
    names = [f"{role}_token" for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]
    names += [f"{name}_id" for name in names]
    names += ["padding_side", "truncation_side", "model_max_length", "vocab_size", "clean_up_tokenization_spaces"]
    names += ["special_tokens_map", "all_special_tokens", "all_special_ids", "additional_special_tokens", "is_fast"]
    names += ["additional_special_tokens_ids", "model_input_names", "added_tokens_encoder"]
    for name in names:
        assert getattr(ours, name) == getattr(reference, name), name
    assert repr(ours.special_tokens_map_extended) == repr(reference.special_tokens_map_extended)
    assert len(ours) == len(reference)
    assert ours.get_vocab() == reference.get_vocab()
    assert {n: repr(t) for n, t in ours.added_tokens_decoder.items()} == {
        n: repr(t) for n, t in reference.added_tokens_decoder.items()
    }
    assert ours.get_added_vocab() == reference.get_added_vocab()
    assert ours.num_special_tokens_to_add() == reference.num_special_tokens_to_add()
    assert ours.num_special_tokens_to_add(pair=True) == reference.num_special_tokens_to_add(pair=True)


def test_tokens_and_ids_convert_alike(ours, reference):
    ids = reference.encode(TEXTS[1])
    tokens = reference.convert_ids_to_tokens(ids)
    assert ours.convert_ids_to_tokens(ids) == tokens
    assert ours.convert_ids_to_tokens(torch.tensor(ids), skip_special_tokens=True) == reference.convert_ids_to_tokens(
        ids, skip_special_tokens=True
    )
    assert ours.convert_tokens_to_ids(tokens) == reference.convert_tokens_to_ids(tokens)
    assert ours.convert_tokens_to_ids("no such token") == reference.convert_tokens_to_ids("no such token")
    assert ours.convert_tokens_to_string(tokens) == reference.convert_tokens_to_string(list(tokens))


def test_added_tokens_act_alike(folder):
    ours, reference = Tokenizer.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)
    for tokenizer in (ours, reference):
        image = transformers.AddedToken("<image>", normalized=False, special=True)
        assert tokenizer.add_tokens([image], special_tokens=True) == 1
        assert tokenizer.add_tokens(["Kittens", transformers.AddedToken("[LS]", lstrip=True)]) == 2
        assert tokenizer.add_special_tokens({"sep_token": "<sep2>", "additional_special_tokens": ["<x>", "<y>"]}) == 3
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.sep_token
    for text in ("<image><image> Kittens kittens", "one [LS] two <x><y>", "<IMAGE> <sep2>", "<image> a <image>b"):
        assert as_lists(ours(text)) == dict(reference(text)), text
        ids = reference.encode(text)
        assert ours.decode(ids, skip_special_tokens=True) == reference.decode(ids, skip_special_tokens=True)
    assert len(ours) == len(reference)
    assert ours.special_tokens_map == reference.special_tokens_map
    assert ours(TEXTS, padding=True)["input_ids"] == reference(TEXTS, padding=True)["input_ids"]


def test_saved_folder_gives_transformers_the_same_ids(ours, folder, tmp_path):
    ours.add_tokens([transformers.AddedToken("<image>", normalized=False, special=True)], special_tokens=True)
    ours.padding_side = "left"
    ours(TEXTS, padding="max_length", truncation=True, max_length=4)  # leaves no trace in the files
    ours.save_pretrained(tmp_path)
    theirs, again = transformers.AutoTokenizer.from_pretrained(tmp_path), Tokenizer.from_pretrained(tmp_path)
    assert type(theirs) is type(transformers.AutoTokenizer.from_pretrained(folder))
    for text in [*PROBES, "<image> here<image>"]:
        assert dict(theirs(text)) == as_lists(ours(text)) == as_lists(again(text)), text
    assert theirs.padding_side == again.padding_side == "left"
    assert theirs.special_tokens_map == again.special_tokens_map == ours.special_tokens_map
    assert theirs.model_max_length == again.model_max_length == ours.model_max_length
    assert theirs(TEXTS, padding=True)["input_ids"] == ours(TEXTS, padding=True)["input_ids"]


def test_a_token_with_a_role_is_special_whatever_its_record_says(tmp_path):
    SAVED["opt"](tmp_path)
    path = tmp_path / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["added_tokens_decoder"]["400"] = settings["added_tokens_decoder"]["1"] | {"content": "<new>"}
    for number in ("1", "400"):
        settings["added_tokens_decoder"][number] |= {"special": False}
    settings["mask_token"] = "<new>"
    path.write_text(json.dumps(settings))
    ours, reference = Tokenizer.from_pretrained(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = reference.encode("a <new><pad> b")
    assert ours.encode("a <new><pad> b") == ids and ours.mask_token_id == reference.mask_token_id == 400
    assert ours.decode(ids, skip_special_tokens=True) == reference.decode(ids, skip_special_tokens=True) == "a  b"
