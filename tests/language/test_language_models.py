"""OPT, LLaMA and T5 against transformers on tiny configurations, and against themselves: cached, padded, batched."""

import random

import pytest
import torch
import transformers

from onlooker.language.config import LlamaConfig, OPTConfig, T5Config
from onlooker.language.llama import LlamaLanguageModel
from onlooker.language.opt import OPTLanguageModel
from onlooker.language.t5 import T5LanguageModel
from tests.compare import assert_close, assert_records_close
from tests.tiny import VOCAB, llama_config, opt_config, randomize, t5_config

SEEDS = range(8)


def opt_pair(seed: int, **overrides):
    values = opt_config(random.Random(seed), **overrides)
    theirs = transformers.OPTForCausalLM(transformers.OPTConfig(**values, attn_implementation="eager")).eval()
    randomize(theirs, seed)
    ours = OPTLanguageModel(OPTConfig(**values)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def t5_pair(seed: int, **overrides):
    values = t5_config(random.Random(seed), **overrides)
    theirs = transformers.T5ForConditionalGeneration(
        transformers.T5Config(**values, attn_implementation="eager")
    ).eval()
    randomize(theirs, seed)
    ours = T5LanguageModel(T5Config(**values)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def llama_pair(seed: int, **overrides):
    values = llama_config(random.Random(seed), **overrides)
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values, attn_implementation="eager")).eval()
    randomize(theirs, seed)
    ours = LlamaLanguageModel(LlamaConfig(**values)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


DECODERS = {"opt": opt_pair, "llama": llama_pair}


def words(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(4, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", DECODERS)
def test_decoders_give_the_logits_states_and_weights_of_the_reference(kind, seed):
    ours, theirs = DECODERS[kind](seed)
    ids = words(3, 7, seed)
    options = {"labels": ids, "output_hidden_states": True, "output_attentions": True}
    names = ("loss", "logits", "hidden_states", "attentions")
    assert_records_close(ours(ids, **options), theirs(ids, **options), names)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", DECODERS)
def test_decoders_under_left_padding_give_the_logits_of_the_reference(kind, seed):
    ours, theirs = DECODERS[kind](seed)
    ids, mask = words(2, 7, seed), torch.ones(2, 7, dtype=torch.long)
    mask[1, :3] = 0
    # The reference counts LLaMA's positions over pads in a plain forward; here they follow the mask.
    options = {} if kind == "opt" else {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    assert_close(ours(ids, mask).logits, theirs(ids, attention_mask=mask, **options).logits, keep=mask)


SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 2.5},
    "older key": {"type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "yarn, scaled": {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.4, "beta_fast": 8},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
}


@pytest.mark.parametrize("name", SCALINGS)
def test_stretched_positions_of_llama_match_the_reference(name):
    shape = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 24}
    ours, theirs = llama_pair(1, rope_scaling=SCALINGS[name], **shape)
    plain, _ = llama_pair(1, **shape)
    ids = words(2, 40)
    assert_close(ours(ids).logits, theirs(ids).logits)
    assert (ours(ids).logits - plain(ids).logits).abs().max() > 1e-3


def test_unknown_stretches_are_refused():
    with pytest.raises(ValueError, match="rope_type 'spiral'; known are default, linear"):
        LlamaLanguageModel(LlamaConfig(**llama_config(random.Random(0), rope_scaling={"rope_type": "spiral"})))
    with pytest.raises(ValueError, match="needs a factor"):
        LlamaLanguageModel(LlamaConfig(**llama_config(random.Random(0), rope_scaling={"rope_type": "linear"})))


def test_newer_files_hold_the_rope_settings_together():
    config = LlamaConfig(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 7.0})
    assert config.rope_theta == 7.0
    assert config.rope_scaling == {"rope_type": "linear", "factor": 2.0}


def test_opt_with_narrow_embeddings_and_no_final_norm_matches_the_reference():
    ours, theirs = opt_pair(
        1, hidden_size=16, num_attention_heads=4, word_embed_proj_dim=8, _remove_final_layer_norm=True
    )
    assert ours.model.decoder.final_layer_norm is None
    ids = words(2, 5)
    assert_close(ours(ids).logits, theirs(ids).logits)


@pytest.mark.parametrize("seed", SEEDS)
def test_t5_gives_the_logits_states_and_weights_of_the_reference(seed):
    ours, theirs = t5_pair(seed)
    ids, mask, labels = words(3, 9, seed), torch.ones(3, 9, dtype=torch.long), words(3, 5, seed + 1)
    mask[2, 6:], labels[0, 3:] = 0, -100
    options = {"attention_mask": mask, "labels": labels, "output_hidden_states": True, "output_attentions": True}
    names = (
        "loss",
        "logits",
        "decoder_hidden_states",
        "decoder_attentions",
        "cross_attentions",
        "encoder_last_hidden_state",
        "encoder_hidden_states",
        "encoder_attentions",
    )
    assert_records_close(ours(ids, **options), theirs(ids, **options), names)


def test_a_t5_file_may_say_apart_from_the_tie_whether_scores_are_scaled():
    ours, _ = t5_pair(2, tie_word_embeddings=True)
    hidden = torch.randn(2, 3, ours.config.d_model)
    scaled = ours.head(hidden)
    ours.config.scale_decoder_outputs = False  # as transformers 5 writes beside tie_word_embeddings: true
    assert_close(ours.head(hidden), scaled * ours.config.d_model**0.5)


def test_t5_distances_beyond_the_last_bucket_match_the_reference():
    ours, theirs = t5_pair(3, relative_attention_num_buckets=8, relative_attention_max_distance=20)
    ids, start = words(1, 60), words(1, 40, 1)
    assert_close(ours(ids, decoder_input_ids=start).logits, theirs(ids, decoder_input_ids=start).logits)


MASKS = {
    "right": [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]],
    "left": [[1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]],
    "between": [[1, 1, 1, 1, 1, 1], [1, 0, 0, 1, 0, 1]],
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_padded_row_has_the_logits_and_the_loss_of_the_row_alone(decoder, kind, seed):
    ours, _ = DECODERS[decoder](seed)
    mask, ids = torch.tensor(MASKS[kind]), words(2, 6, seed)
    kept = mask[1].bool()
    alone = ours(ids[1:, kept], labels=ids[1:, kept])
    batch = ours(ids, mask)
    assert_close(batch.logits[1][kept], alone.logits[0])
    # Random labels at the pads must not count either.
    assert_close(ours(ids[1:], mask[1:], labels=ids[1:]).loss, alone.loss)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_padded_t5_row_has_the_logits_of_the_row_alone(kind, seed):
    ours, _ = t5_pair(seed)
    mask, ids, start = torch.tensor(MASKS[kind]), words(2, 6, seed), words(2, 6, seed + 1)
    kept = mask[1].bool()
    alone = ours(ids[1:, kept], decoder_input_ids=start[1:, kept]).logits[0]
    batch = ours(ids, mask, decoder_input_ids=start, decoder_attention_mask=mask).logits[1][kept]
    assert_close(batch, alone)


def begin(model, ids, mask, count, use_cache=True):
    options = {}
    if isinstance(model, T5LanguageModel):
        options["decoder_input_ids"] = torch.zeros(len(ids), 1, dtype=torch.long)
    return model.begin(model.get_input_embeddings()(ids), mask, count, use_cache, **options)


@pytest.mark.parametrize("kind", [None, *MASKS])
@pytest.mark.parametrize("pair", [opt_pair, llama_pair, t5_pair])
def test_steps_with_a_cache_equal_steps_without_under_reordering(pair, kind):
    model, _ = pair(2)
    ids, mask = words(2, 6), None if kind is None else torch.tensor(MASKS[kind])
    cached, plain = begin(model, ids, mask, 6), begin(model, ids, mask, 6, use_cache=False)
    # as beams do: repeat rows, swap them, drop some
    for rows in ([0, 0, 1, 1], [1, 0, 3, 2], [3, 3, 0, 1], [2, 1], [0, 1]):
        assert_close(cached.logits, plain.logits)
        real = torch.arange(cached.hidden.shape[1]) < cached.lengths[:, None]
        assert_close(cached.hidden, plain.hidden, keep=real)
        for decoding in (cached, plain):
            decoding.select(torch.tensor(rows))
        tokens = words(len(rows), 1, len(rows))[:, 0]
        assert_close(cached.step(tokens), plain.step(tokens))


@pytest.mark.parametrize("pair", [opt_pair, llama_pair, t5_pair])
def test_the_rows_of_a_padded_batch_step_as_the_rows_alone(pair):
    model, _ = pair(4)
    ids, mask = words(2, 6), torch.tensor(MASKS["between"])
    batch, alone = begin(model, ids, mask, 4), begin(model, ids[1:, mask[1].bool()], None, 4)
    for step in range(4):
        assert_close(batch.logits[1:], alone.logits)
        tokens = words(2, 1, step)[:, 0]
        batch.step(tokens)
        alone.step(tokens[1:])


@pytest.mark.parametrize("split", [1, 3, 6])
@pytest.mark.parametrize("kind", DECODERS)
def test_decoders_continue_from_past_key_values_at_any_split(kind, split):
    model, _ = DECODERS[kind](5)
    ids, mask = words(2, 7), torch.ones(2, 7, dtype=torch.long)
    mask[1, :2] = 0
    whole = model(ids, mask).logits
    first = model(ids[:, :split], mask[:, :split], use_cache=True)
    second = model(ids[:, split:], mask, past_key_values=first.past_key_values)
    assert_close(second.logits, whole[:, split:], keep=mask[:, split:])


def test_eager_and_sdpa_agree():
    for model in (opt_pair(6)[0], llama_pair(6)[0], t5_pair(6)[0]):
        ids = words(2, 6)
        options = {"decoder_input_ids": ids} if isinstance(model, T5LanguageModel) else {}
        sdpa = model(ids, **options).logits
        for module in model.modules():
            if hasattr(module, "attn_implementation"):
                module.attn_implementation = "eager"
        assert_close(model(ids, **options).logits, sdpa)


def test_t5_feed_forward_output_stays_float32_when_cast_to_float16_and_follows_other_casts():
    model, _ = t5_pair(7)
    wo = model.encoder.block[0].layer[-1].DenseReluDense.wo
    before = wo.weight.detach().clone()
    for cast in (model.half, lambda: model.to(torch.float16)):
        cast()
        assert model.shared.weight.dtype == torch.float16
        assert wo.weight.dtype == torch.float32
        assert torch.equal(wo.weight, before)
    assert torch.isfinite(model(words(1, 4), decoder_input_ids=words(1, 3)).logits).all()
    model.to(torch.bfloat16)
    assert wo.weight.dtype == torch.bfloat16


def test_a_t5_activation_of_another_form_is_refused():
    for form in ("gated", "gated-gelu-new", "", "silu-gelu"):
        with pytest.raises(ValueError, match="feed_forward_proj"):
            T5Config(feed_forward_proj=form)
    assert T5Config(feed_forward_proj="gated-gelu").dense_act_fn == "gelu_new"
    assert T5Config(feed_forward_proj="gated-gelu", dense_act_fn="gelu").dense_act_fn == "gelu"


def test_a_row_without_any_attended_token_is_refused():
    model, _ = opt_pair(0)
    with pytest.raises(ValueError, match="row 1 .* no attended token"):
        begin(model, words(2, 3), torch.tensor([[1, 1, 1], [0, 0, 0]]), 2)


def test_a_mask_of_another_length_is_refused():
    model, _ = opt_pair(0)
    with pytest.raises(ValueError, match=r"attention_mask has shape \(2, 2\); wanted \(2, 3\)"):
        model(words(2, 3), torch.ones(2, 2))
