"""The tokenizer's own promises: what can be set, what is refused, what is warned of."""

from __future__ import annotations

import json
import threading
import warnings

import numpy as np
import pytest
import torch
from tokenizers import AddedToken

from onlooker.errors import CheckpointError
from onlooker.text import Tokenizer
from onlooker.text.cleanup import clean_up, safe_length
from tests.text.trained import SAVED, TEXTS, slow_opt, spiece, write


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return SAVED["opt"](tmp_path_factory.mktemp("opt"))


@pytest.fixture
def tokenizer(folder):
    return Tokenizer.from_pretrained(folder)


# What can be set.


def test_roles_are_set_by_token_or_by_id(tokenizer):
    tokenizer.pad_token_id = 0
    assert tokenizer.pad_token == "<s>" and tokenizer(TEXTS[:2], padding=True)["input_ids"][0][-1] == 0
    tokenizer.eos_token = "<pad>"
    assert tokenizer.eos_token_id == 1 and tokenizer.special_tokens_map["eos_token"] == "<pad>"
    tokenizer.mask_token = AddedToken("<s>", lstrip=True)
    assert (tokenizer.mask_token, tokenizer.mask_token_id) == ("<s>", 0)
    tokenizer.pad_token = None
    assert tokenizer.pad_token_id is None
    tokenizer.additional_special_tokens_ids = [0, 1]
    assert tokenizer.additional_special_tokens == ["<s>", "<pad>"]
    assert set(tokenizer.all_special_ids) == {0, 1, 2}


def test_roles_set_to_nonsense_are_refused(tokenizer):
    with pytest.raises(ValueError, match="pad_token must be a string, not 3; to set it by number use pad_token_id"):
        tokenizer.pad_token = 3
    with pytest.raises(ValueError, match="eos_token_id is 9999, but the vocabulary has 400 tokens"):
        tokenizer.eos_token_id = 9999
    with pytest.raises(ValueError, match="'tail_token' is no role"):
        tokenizer.add_special_tokens({"tail_token": "<t>"})
    with pytest.raises(AttributeError, match="Tokenizer has no attribute 'image_token'"):
        _ = tokenizer.image_token


def test_settings_may_be_overridden_on_loading(folder):
    given = {"padding_side": "left", "truncation_side": "left", "model_max_length": 5, "pad_token": "<s>"}
    tokenizer = Tokenizer.from_pretrained(folder, **given)
    assert {name: getattr(tokenizer, name) for name in given} == given
    batch = tokenizer(TEXTS[:2], padding="max_length", truncation=True)
    assert [len(row) for row in batch["input_ids"]] == [5, 5]
    for name in ("padding_side", "truncation_side"):
        with pytest.raises(ValueError, match=f"{name} is 'top'"):
            Tokenizer.from_pretrained(folder, **{name: "top"})


def test_family_tokens_of_newer_files_are_roles(folder, tmp_path):
    tokenizer = Tokenizer.from_pretrained(folder, extra_special_tokens={"image_token": "<image>"})
    assert (tokenizer.image_token, tokenizer.image_token_id) == ("<image>", 400)
    tokenizer.save_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path).image_token_id == 400
    as_list = Tokenizer.from_pretrained(folder, extra_special_tokens=["<image>", "<x>"])
    assert as_list.additional_special_tokens == ["<image>", "<x>"]


def test_several_chat_templates_are_kept(tokenizer, tmp_path):
    for number, template in enumerate(("{{ messages }}", {"default": "a", "tools": "b"})):
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path / str(number))
        assert Tokenizer.from_pretrained(tmp_path / str(number)).chat_template == template


def test_settings_not_known_here_are_written_back(folder, tmp_path):
    Tokenizer.from_pretrained(folder, colour="blue").save_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path).init_kwargs["colour"] == "blue"


# What is refused.


@pytest.mark.parametrize("text", [None, 3, [3], [["a", 3]], b"bytes", {"a": "b"}], ids=str)
def test_what_is_no_text_is_refused(tokenizer, text):
    with pytest.raises(ValueError, match="a string or a list of strings is wanted"):
        tokenizer(text)


def test_pairs_must_match(tokenizer):
    with pytest.raises(ValueError, match="text is a list of 2, but text_pair is 1 texts"):
        tokenizer(["a", "b"], ["c"])
    with pytest.raises(ValueError, match="text_pair is one string"):
        tokenizer(["a", "b"], "c")


def test_padding_without_a_pad_token_says_how_to_get_one(tokenizer):
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="no pad_token. Set one: tokenizer.pad_token = tokenizer.eos_token"):
        tokenizer(TEXTS, padding=True)
    assert tokenizer(TEXTS)["input_ids"], "and it goes on working"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "left"}, "padding is 'left'; it may be one of"),
        ({"truncation": "middle"}, "truncation is 'middle'; it may be one of"),
        ({"padding": True, "padding_side": "up"}, "padding_side is 'up'"),
        ({"truncation": True, "max_length": -1}, "max_length is -1"),
        ({"padding": True, "truncation": True, "max_length": 9, "pad_to_multiple_of": 8}, "9 is not a multiple of"),
        ({"return_tensors": "pt"}, "input_ids has rows of .* padding=True"),
        ({"padding": True, "return_tensors": "tf"}, "return_tensors is 'tf'"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        tokenizer(TEXTS, **options)


def test_decoding_labels_or_several_rows_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"-100 is not a token id.*replace it by tokenizer.pad_token_id"):
        tokenizer.decode([5, -100])
    for rows in ([[5, 6]], np.array([[5, 6]]), torch.tensor([[5, 6]])):
        with pytest.raises(ValueError, match="Use batch_decode"):
            tokenizer.decode(rows)


def test_slow_files_of_a_class_we_do_not_know_are_refused(tmp_path):
    slow_opt(tmp_path, tokenizer_class="RobertaTokenizer")
    with pytest.raises(CheckpointError, match="no tokenizer.json, and how a RobertaTokenizer splits text"):
        Tokenizer.from_pretrained(tmp_path)
    spiece(tmp_path / "b")
    write(tmp_path / "b" / "tokenizer_config.json", {"tokenizer_class": "CamembertTokenizer"})
    with pytest.raises(CheckpointError, match="how a CamembertTokenizer splits text"):
        Tokenizer.from_pretrained(tmp_path / "b")


def test_damaged_tokenizer_file_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(CheckpointError, match=r"tokenizer.json cannot be read"):
        Tokenizer.from_pretrained(tmp_path)


# What is warned of.


def test_cuts_that_were_not_asked_for_are_warned_of(tokenizer):
    with pytest.warns(UserWarning, match="max_length=4 was given without truncation: texts are cut"):
        assert len(tokenizer(TEXTS[0], max_length=4)["input_ids"]) == 4
    with pytest.warns(UserWarning, match="max_length=4 has no effect with padding=True"):
        assert len(tokenizer(TEXTS[0], max_length=4, padding=True)["input_ids"]) > 4
    with pytest.warns(UserWarning, match="does not know one: nothing is padded to it or cut"):
        assert tokenizer(TEXTS[0], padding="max_length", truncation=True) == tokenizer(TEXTS[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer(TEXTS[0], max_length=4, verbose=False)
        tokenizer(TEXTS[0], max_length=4, truncation=False)


# How it behaves.


def test_no_text_gives_integers(tokenizer):
    batch = tokenizer("", add_special_tokens=False, return_tensors="pt")
    assert batch.input_ids.shape == (1, 0) and batch.input_ids.dtype == torch.int64
    assert tokenizer.decode([]) == "" and tokenizer([])["input_ids"] == []


def test_one_call_leaves_nothing_behind_for_the_next(tokenizer):
    plain = tokenizer(TEXTS)
    tokenizer(TEXTS, padding="max_length", truncation=True, max_length=7, padding_side="left", pad_to_multiple_of=7)
    assert tokenizer(TEXTS) == plain


def test_threads_do_not_mix_their_options(tokenizer):
    options = {"padding": "max_length", "truncation": True}
    expected = {length: tokenizer(TEXTS, **options, max_length=length) for length in (4, 90)}
    wrong: list[str] = []

    def work(length: int) -> None:
        for _ in range(60):
            try:
                batch = tokenizer(TEXTS, **options, max_length=length)
            except RuntimeError as error:
                wrong.append(str(error))
            else:
                if batch != expected[length]:
                    wrong.append(f"length {length}")

    threads = [threading.Thread(target=work, args=(length,)) for length in (4, 90, 4, 90)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "text",
    ["a . b ? c !", "do n't , I 'm here ' s", "a ' b 's ' ' re", " ' ", "x ' n't ' 've", "' ' ' '", "a  .  ' '. 's "],
)
def test_text_may_be_cleaned_up_in_pieces(text):
    for end in range(len(text) + 1):
        cut = safe_length(text[:end])
        assert clean_up(text[:cut]) + clean_up(text[cut:]) == clean_up(text), (text[:cut], text[cut:])


# Newer files, which leave out what tokenizer.json holds.


def rewrite(folder, **changes):
    """As newer versions write it: no special_tokens_map.json, no added tokens, fewer settings."""
    (folder / "special_tokens_map.json").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    left_out = {"added_tokens_decoder", "additional_special_tokens", *(name for name in changes if not changes[name])}
    settings = {name: value for name, value in (settings | changes).items() if name not in left_out}
    write(folder / "tokenizer_config.json", settings)


@pytest.mark.parametrize("kind", ["opt", "t5", "bert", "generic"])
def test_newer_files_give_the_same_ids(tmp_path, kind):
    SAVED[kind](tmp_path)
    before = Tokenizer.from_pretrained(tmp_path)
    names = {"opt": "GPT2Tokenizer", "t5": "T5Tokenizer", "bert": "BertTokenizer", "generic": "TokenizersBackend"}
    rewrite(tmp_path, tokenizer_class=names[kind], do_lower_case=None, add_bos_token=None, backend="tokenizers")
    after = Tokenizer.from_pretrained(tmp_path)
    assert after(TEXTS)["input_ids"] == before(TEXTS)["input_ids"]
    assert after.all_special_ids == before.all_special_ids and len(after) == len(before)
    assert ("token_type_ids" in after.model_input_names) == (kind == "bert")
    after.save_pretrained(tmp_path / "again")
    again = Tokenizer.from_pretrained(tmp_path / "again")
    assert again(TEXTS) == after(TEXTS)


def test_start_and_end_of_newer_llama_files_are_those_of_the_pipeline(tmp_path):
    SAVED["llama"](tmp_path, add_bos_token=False, add_eos_token=True)
    before = Tokenizer.from_pretrained(tmp_path)
    rewrite(tmp_path, add_bos_token=None, add_eos_token=None)
    assert Tokenizer.from_pretrained(tmp_path)(TEXTS) == before(TEXTS)
    assert before.encode("a")[-1] == before.eos_token_id != before.encode("a")[0]
