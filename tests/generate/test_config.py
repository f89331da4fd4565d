"""Options: defaults, files, and refusals that say what to do."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import transformers

from onlooker.errors import ModelNotFoundError
from onlooker.generate.config import GenerationConfig
from onlooker.generate.options import DEFAULTS
from onlooker.generate.validate import check_supported


def test_names_and_defaults_are_the_documented_ones():
    documented = transformers.GenerationConfig()
    for name, default in DEFAULTS.items():
        assert getattr(documented, name) == default, name


def test_unknown_keys_survive_a_round_trip_through_a_folder(tmp_path):
    config = GenerationConfig(num_beams=3, eos_token_id=[1, 2], something_new={"a": 1}, sequence_bias={(3, 4): -1.0})
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert written["something_new"] == {"a": 1} and "top_k" not in written
    again = GenerationConfig.from_pretrained(tmp_path, num_beams=2)
    assert (again.num_beams, again.eos_token_id, again.something_new) == (2, [1, 2], {"a": 1})
    assert again.sequence_bias == [[[3, 4], -1.0]]


def test_the_reference_reads_our_file_and_we_read_theirs(tmp_path):
    GenerationConfig(num_beams=3, repetition_penalty=1.5, max_new_tokens=7).save_pretrained(tmp_path)
    theirs = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert (theirs.num_beams, theirs.repetition_penalty, theirs.max_new_tokens) == (3, 1.5, 7)
    theirs.save_pretrained(tmp_path)
    ours = GenerationConfig.from_pretrained(tmp_path)
    assert (ours.num_beams, ours.repetition_penalty, ours.max_new_tokens) == (3, 1.5, 7)


def test_a_folder_without_the_file_is_named(tmp_path):
    with pytest.raises(ModelNotFoundError, match="generation_config.json"):
        GenerationConfig.from_pretrained(tmp_path)


def test_a_text_config_gives_its_generation_fields_but_not_the_flags_of_forward():
    text = {"eos_token_id": 50118, "pad_token_id": 1, "max_length": 20, "num_beams": 5, "output_attentions": True}
    config = GenerationConfig.from_model_config({**text, "hidden_size": 8, "bos_token_id": None})
    assert (config.eos_token_id, config.pad_token_id, config.num_beams) == (50118, 1, 5)
    assert config.output_attentions is False and not hasattr(config, "hidden_size")
    assert config.new_tokens(33) == (20, 0), "a default max_length in an old file means 20 new tokens"


def test_lengths_count_the_prompt_and_new_token_options_win():
    config = GenerationConfig()
    assert config.new_tokens(30) == (20, 0)
    assert config.with_options(max_length=40, min_length=33).new_tokens(30) == (10, 3)
    assert config.with_options(max_length=20).new_tokens(12) == (8, 0), "20 in the call itself is meant"
    assert config.with_options(max_length=40, max_new_tokens=3, min_length=9, min_new_tokens=2).new_tokens(30) == (3, 2)
    with pytest.raises(ValueError, match="max_length 30 leaves no room.*30 positions.*max_new_tokens"):
        config.with_options(max_length=30).new_tokens(30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0, "do_sample": True}, "temperature is 0.0.*do_sample False"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"top_p": 1.5}, "top_p is 1.5.*at most 1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"typical_p": 2}, "typical_p is 2"),
        ({"min_p": -0.1}, "min_p is -0.1.*between 0 and 1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0.*above 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0.*at least 1"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"early_stopping": "always"}, "early_stopping is 'always'.*'never'"),
        ({"bad_words_ids": [5]}, r"bad_words_ids is \[5\].*list of non-empty lists"),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences 3 is more than num_beams 2"),
        ({"num_return_sequences": 2}, "copies of one answer"),
        ({"penalty_alpha": 0.6, "num_beams": 2}, "contrastive search and num_beams=2"),
        ({"penalty_alpha": 0.6, "do_sample": True}, "contrastive search and do_sample=True"),
        ({"exponential_decay_length_penalty": 3}, "a pair"),
    ],
)
def test_values_out_of_range_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        GenerationConfig(**options)
    with pytest.raises(ValueError, match=message):
        GenerationConfig().with_options(**options)


def test_an_unknown_option_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="no option 'max_new_token'; did you mean max_new_tokens"):
        GenerationConfig().with_options(max_new_token=3)
    with pytest.raises(ValueError, match="no option 'zzz'; known options: bad_words_ids"):
        GenerationConfig().with_options(zzz=3)


def test_arguments_of_generate_do_not_hide_in_a_config():
    with pytest.raises(ValueError, match="streamer is no part of a GenerationConfig"):
        GenerationConfig(streamer=object())


@pytest.mark.parametrize("option", [{"guidance_scale": 1.5}, {"num_beam_groups": 2}, {"output_attentions": True}])
def test_what_cannot_be_honoured_loads_but_does_not_run(option):
    config = GenerationConfig(**option)
    with pytest.raises(ValueError, match=f"does not do {next(iter(option))}"):
        check_supported(config)
    check_supported(GenerationConfig(guidance_scale=1.0, num_beam_groups=1))


def test_an_option_without_effect_is_mentioned_once(caplog, monkeypatch):
    monkeypatch.setattr("onlooker.generate.validate._warned", set())
    for _ in range(2):
        check_supported(GenerationConfig(top_p=0.9))
    assert [record.getMessage() for record in caplog.records] == ["top_p=0.9 has no effect without do_sample=True"]


def test_changing_a_copy_leaves_the_original():
    config = GenerationConfig(eos_token_id=[1])
    copy = config.with_options(num_beams=2)
    copy.eos_token_id.append(2)
    assert config.num_beams == 1 and config.eos_token_id == [1] and copy != config
    assert config.update(num_beams=4, unheard_of=1) == {"unheard_of": 1} and config.num_beams == 4


def test_the_config_needs_no_torch():
    code = "import sys, onlooker.generate.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
