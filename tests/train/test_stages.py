"""Every stage of every family: what learns, what stays, and that it can learn a batch by heart."""

import pytest
import torch
import transformers

import onlooker
from onlooker.errors import CheckpointError
from onlooker.train.assemble import take_part
from onlooker.train.optimizer import MuonAdamW, adamw, learning_rate, parameter_groups, set_learning_rate
from onlooker.train.prefix import split_prefix
from onlooker.train.stages import Blip2Generative, InstructionTuning, VideoLlavaTuning
from tests.compare import assert_close
from tests.train.small import (
    CASES,
    blip2,
    instructblip,
    language_batch,
    pairs_batch,
    retrieval_model,
    stage_of,
    video_llava,
)

LEARNS = {
    "pretraining": {"query_tokens", "qformer", "embeddings", "vision_projection", "text_projection", "itm_head"},
    "blip2": {"query_tokens", "qformer", "language_projection"},
    "instructblip": {"query_tokens", "qformer", "language_projection"},
    "instructblipvideo": {"query_tokens", "qformer", "language_projection"},
    "video-llava-1": {"multi_modal_projector"},
    "video-llava-2": {"multi_modal_projector", "language_model", "lm_head"},
}


def fit(stage, batch, steps=60, rate=1e-2):
    """Losses of the first and the last of some updates."""
    optimizer = adamw(stage, weight_decay=0.0)
    set_learning_rate(optimizer, rate)
    losses = []
    for _ in range(steps):
        losses.append(stage(**batch)["loss"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    return losses[0].item(), losses[-1].item()


@pytest.mark.parametrize("name", CASES)
def test_a_stage_learns_one_batch_by_heart_and_leaves_frozen_parts_alone(name):
    stage, batch = stage_of(name)
    if name != "pretraining":  # a language model that listens to pictures; then the pictures change places
        steps = 120 if "t5" in name else 60
        again = {"prefix_lm": True} if name.endswith("prefix") else {}
        fit(type(stage)(stage.model, [".*"]), batch, steps)
        stage = type(stage)(stage.model, **again)
        key = "pixel_values" if "pixel_values" in batch else "pixel_values_images"
        batch[key] = batch[key].flip(0)
    before = {key: p.detach().clone() for key, p in stage.model.named_parameters()}
    first, last = fit(stage, batch, 120 if "t5" in name else 60)
    # Smoothed targets have a floor, and where a text is cut is left to chance.
    assert last < {"pretraining": 0.8, "blip2-t5-prefix": 0.75}.get(name, 0.3) * first
    expected = LEARNS.get(name) or LEARNS[name.split("-")[0]]
    moved = set()
    for key, parameter in stage.model.named_parameters():
        part = key.removeprefix("model.").split(".")[0]
        if torch.equal(parameter, before[key]):
            assert part in expected or (not parameter.requires_grad and parameter.grad is None), key
        else:
            moved.add(part)
    assert moved == expected


@pytest.mark.parametrize("name", CASES)
def test_all_that_learns_gets_a_gradient(name):
    """Data parallelism waits for every one of them."""
    stage, batch = stage_of(name)
    stage(**batch)["loss"].backward()
    silent = [key for key, p in stage.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent


def test_frozen_parts_stay_in_eval_mode_and_so_without_dropout():
    stage = Blip2Generative(blip2("opt"))
    for _ in range(2):
        stage.train()
        assert not any(m.training for m in stage.model.language_model.modules())
        assert not any(m.training for m in stage.model.vision_model.modules())
        assert stage.model.qformer.encoder.layer[0].attention.output.training
        stage.eval()
        assert not any(m.training for m in stage.modules())


@pytest.mark.parametrize("text", ["opt", "t5"])
def test_the_gradient_of_the_second_stage_is_the_references(text):
    torch.manual_seed(0)
    ours = blip2(text, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    stage = Blip2Generative(ours)
    config = transformers.Blip2Config(**ours.config.to_dict(), attn_implementation="eager")
    theirs = transformers.Blip2ForConditionalGeneration(config).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    batch = language_batch(ours)
    stage(**batch)["loss"].backward()
    theirs(**batch).loss.backward()
    reference = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            assert_close(parameter.grad, reference[name].grad, tolerance=1e-5)


def test_gradient_checkpointing_reaches_the_frozen_language_model_and_changes_nothing(monkeypatch):
    import onlooker.nn.recompute as recompute

    runs = []
    real = recompute.checkpoint
    monkeypatch.setattr(
        recompute, "checkpoint", lambda layer, *a, **k: runs.append(type(layer).__name__) or real(layer, *a, **k)
    )
    gradients = []
    for enabled in (False, True):
        stage = Blip2Generative(blip2("opt", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
        if enabled:
            stage.model.gradient_checkpointing_enable()
        stage(**language_batch(stage.model))["loss"].backward()
        gradients.append(stage.model.query_tokens.grad)
    assert_close(*gradients, tolerance=1e-6)
    assert {"OPTLayer", "QFormerLayer"} <= set(runs)


def test_pictures_and_clips_share_a_batch():
    stage = VideoLlavaTuning(video_llava())
    batch = language_batch(stage.model)
    full = stage(**batch)["loss"]
    rows = []
    for row in range(3):
        own = {key: batch[key][row : row + 1] for key in ("input_ids", "attention_mask", "labels")}
        is_clip = row == 2
        own |= (
            {"pixel_values_videos": batch["pixel_values_videos"]}
            if is_clip
            else {"pixel_values_images": batch["pixel_values_images"][row : row + 1]}
        )
        rows.append(stage(**own)["loss"])
    assert_close(full, sum(rows) / 3, tolerance=1e-4)  # as many words in each


@pytest.mark.parametrize("name", ["blip2-opt", "blip2-t5", "instructblipvideo-t5", "instructblip-llama"])
def test_rows_may_share_a_medium_that_is_looked_at_once(name):
    stage, batch = stage_of(name)
    stage.eval()
    batch["pixel_values"] = batch["pixel_values"][[1, 0, 1]]
    shared = batch | {"pixel_values": batch["pixel_values"][:2], "media_rows": torch.tensor([0, 1, 0])}
    looked = []
    stage.model.vision_model.register_forward_hook(lambda module, inputs, output: looked.append(len(inputs[0])))
    assert_close(stage(**shared)["loss"], stage(**batch)["loss"])
    assert looked[0] * 3 == looked[1] * 2


def test_a_prefix_moves_words_from_the_decoder_to_the_encoder():
    ids, mask = torch.tensor([[0, 8, 9], [7, 8, 9]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    labels = torch.tensor([[11, 12, 13, 1], [21, 1, -100, -100]])
    seen = set()
    torch.manual_seed(0)
    for _ in range(60):
        split = split_prefix(ids, mask, labels, pad_token_id=0)
        read = [row[m.bool()].tolist() for row, m in zip(split["input_ids"], split["attention_mask"])]
        written = [row[row != -100].tolist() for row in split["labels"]]
        assert read[0] + written[0] == [8, 9, 11, 12, 13, 1] and read[1] + written[1] == [7, 8, 9, 21, 1]
        assert len(written[0]) >= 2 and len(written[1]) == 2
        seen.add(len(written[0]))
    assert seen == {2, 3, 4}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Blip2Generative(video_llava()), "'blip2-stage2' trains blip-2; this model is 'video_llava'"),
        (lambda: Blip2Generative(blip2(), ["head"]), "no parameter's name begins with 'head'"),
        (lambda: Blip2Generative(blip2("opt"), prefix_lm=True), "wants an encoder-decoder"),
        (
            lambda: InstructionTuning(instructblip())(input_ids=torch.ones(1, 2)),
            "has no pixel_values, qformer_input_ids",
        ),
    ],
)
def test_what_does_not_fit_is_said(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_other_parts_learn_when_asked():
    stage = Blip2Generative(blip2(), [r"language_model\.", "query_tokens"])
    assert {name.split(".")[0] for name in stage.learns} == {"language_model", "query_tokens"}


# -- optimiser -----------------------------------------------------------------------------------------------------


def test_norms_and_biases_do_not_decay_and_parts_may_learn_slower():
    stage = Blip2Generative(blip2())
    groups = parameter_groups(stage, 0.05, {"qformer": 0.1})
    names = {id(p): name for name, p in stage.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            is_vector = "LayerNorm" in name or name.endswith("bias") or "layernorm" in name
            assert (group["weight_decay"] == 0.0) == is_vector, name
            assert (group["scale"] == 0.1) == ("qformer" in name), name
    assert sum(len(group["params"]) for group in groups) == len(stage.learns)


def test_the_learning_rate_rises_and_then_falls_along_a_cosine():
    rates = [learning_rate(step, 101, 1.0, 0.1, warmup=1 + 20) for step in range(101)]
    assert rates[20] == 1.0 and abs(rates[9] - 10 / 21) < 1e-9 and abs(rates[100] - 0.1) < 1e-9
    assert abs(rates[60] - (0.1 + 0.45 * (1 + torch.cos(torch.tensor(39 / 79 * torch.pi)).item()))) < 1e-6


# -- parts of other models ------------------------------------------------------------------------------------------


def test_the_second_stage_takes_the_q_former_of_the_first(tmp_path):
    first = retrieval_model()
    torch.nn.init.normal_(first.query_tokens)
    first.save_pretrained(tmp_path)
    second = blip2(seed=1)
    for part, source in (("qformer", first), ("query_tokens", tmp_path), ("vision_model", tmp_path)):
        take_part(second, part, source)
    pictures = pairs_batch()["pixel_values"]
    queries = first.eval().look(pictures)[1].last_hidden_state
    assert_close(second.eval().look(pictures)[1].last_hidden_state, queries)
    instructed = instructblip(is_video=False, seed=2)
    take_part(instructed, "qformer", tmp_path)
    assert torch.equal(instructed.qformer.embeddings.layernorm.weight, first.qformer.layernorm.weight)
    assert torch.equal(instructed.qformer.embeddings.word_embeddings.weight, first.embeddings.word_embeddings.weight)


def test_a_language_model_comes_from_its_own_folder(tmp_path):
    second = blip2()
    alone = onlooker.OPTForCausalLM(second.config.text_config)
    alone.save_pretrained(tmp_path)
    take_part(second, "language_model", tmp_path)
    assert torch.equal(
        second.language_model.model.decoder.layers[0].fc1.weight, alone.model.decoder.layers[0].fc1.weight
    )
    llava = video_llava()
    llama = onlooker.LlamaForCausalLM(llava.config.text_config)
    llama.save_pretrained(tmp_path / "llama")
    for part in ("model.language_model", "lm_head"):
        take_part(llava, part, tmp_path / "llama")
    assert torch.equal(llava.lm_head.weight, llama.lm_head.weight)
    assert torch.equal(llava.language_model.norm.weight, llama.model.norm.weight)
    with pytest.raises(CheckpointError, match="is no source for qformer"):
        take_part(second, "qformer", tmp_path)
    with pytest.raises(ValueError, match="the parts are query_tokens, vision_model"):
        take_part(second, "nose", tmp_path)


def test_muon_takes_the_matrices_of_layers_and_adamw_the_rest():
    stage = Blip2Generative(blip2("opt"), trains=[".*"])
    optimizer = MuonAdamW(stage, weight_decay=0.05)
    muon, rest = ({id(p) for group in part.param_groups for p in group["params"]} for part in optimizer.parts)
    named = {name: id(p) for name, p in stage.named_parameters() if p.requires_grad}
    assert not muon & rest and muon | rest == set(named.values())
    assert named["model.qformer.encoder.layer.0.attention.attention.query.weight"] in muon
    for name in (
        "model.query_tokens",
        "model.language_model.model.decoder.embed_tokens.weight",
        "model.qformer.layernorm.weight",
    ):
        assert named[name] in rest, name
    set_learning_rate(optimizer, 0.25)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


def test_an_update_of_muon_is_as_long_in_every_direction():
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(24, 24, bias=False))
    optimizer = MuonAdamW(layer, weight_decay=0.0)
    set_learning_rate(optimizer, 1.0)
    before = layer[0].weight.detach().clone()
    (layer(torch.randn(64, 24)) @ torch.diag(torch.logspace(-1, 1, 24))).square().sum().backward()
    optimizer.step()
    lengths = torch.linalg.svdvals(before - layer[0].weight.detach())
    steep = torch.linalg.svdvals(layer[0].weight.grad)
    assert lengths[0] / lengths[10] < 2 < 10 < steep[0] / steep[10]
