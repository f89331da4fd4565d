"""The stages of the recipes: what learns, what stays, and that each learns one batch by heart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import onlooker
from onlooker.train.optimizer import MuonAdamW, set_learning_rate
from onlooker.train.stages import Stage
from recipes import conversations, language, queries, spoken, tiny, towers, watching

Batch = dict[str, torch.Tensor]


def first_rows(rows: Any, collate: Any, count: int) -> Batch:
    return collate([rows[number] for number in range(count)])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def decoder() -> onlooker.LlamaForCausalLM:
    model = onlooker.LlamaForCausalLM(onlooker.LlamaConfig(**tiny.llama()))
    language.prepare_lookups(model)
    return model


def tower(folder: Path) -> tuple[Stage, Batch]:
    model = onlooker.Blip2VisionModel(onlooker.Blip2VisionConfig(**tiny.eva()))
    return towers.DenseLabels(model, whiten=True), first_rows(towers.Frames(4), towers.collate, 4)


def listening(folder: Path) -> tuple[Stage, Batch]:
    rows = conversations.Unseen("train", 4, still_share=0.5)
    return language.Listening(decoder()), first_rows(rows, language.Hearing(tiny.tokenizer("llama", folder)), 4)


def retelling(folder: Path) -> tuple[Stage, Batch]:
    model = onlooker.T5ForConditionalGeneration(onlooker.T5Config(**tiny.t5()))
    return language.Text(model), first_rows(language.Stories(4), language.Retelling(tiny.tokenizer("t5", folder)), 4)


def watched(folder: Path) -> tuple[Stage, Batch]:
    model = onlooker.VideoLlavaForConditionalGeneration(tiny.video_llava())
    watching.begin(model)
    watching.put_on_top(model, decoder())
    collate = watching.Collate(tiny.tokenizer("llama", folder))
    return watching.Watching(model), first_rows(watching.Watched(3), collate, 3)


def imitation(folder: Path) -> tuple[Stage, Batch]:
    model = onlooker.InstructBlipVideoForConditionalGeneration(tiny.instructblip())
    teacher = onlooker.VideoLlavaForConditionalGeneration(tiny.video_llava())
    return queries.Imitation(model, teacher), first_rows(queries.Frames(6), queries.collate, 6)


@pytest.mark.parametrize(
    ("make", "share"), [(tower, 0.6), (listening, 0.5), (retelling, 0.6), (watched, 0.6), (imitation, 0.7)]
)
def test_each_stage_learns_one_batch(make: Any, share: float, tmp_path: Path) -> None:
    stage, batch = make(tmp_path)
    optimizer = MuonAdamW(stage)
    set_learning_rate(optimizer, 3e-3)
    first = stage(**batch)["loss"].item()
    for _ in range(30):
        loss = stage(**batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert stage(**batch)["loss"].item() < share * first


def test_only_the_projector_and_the_lowest_layers_watch(tmp_path: Path) -> None:
    stage, batch = watched(tmp_path)
    stage(**batch)["loss"].backward()
    learning = {name for name, parameter in stage.model.named_parameters() if parameter.grad is not None}
    assert learning and all(
        "multi_modal_projector" in name or ".layers.0." in name or ".layers.1." in name for name in learning
    )


def test_watching_layers_change_nothing_at_first(tmp_path: Path) -> None:
    model = onlooker.VideoLlavaForConditionalGeneration(tiny.video_llava())
    below = decoder().eval()
    watching.begin(model)
    watching.put_on_top(model, below)
    ids = torch.randint(9, len(tiny.words()), (2, 7))
    with torch.no_grad():
        stacked = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        alone = below(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(stacked, alone)


def test_words_that_pass_unchanged_cost_nothing(tmp_path: Path) -> None:
    stage, batch = watched(tmp_path)
    assert stage(**batch)["kept"].item() == 0.0


def test_tokens_find_their_like_before_anything_is_learnt() -> None:
    """A token attends most to the tokens that say the same: the first values of a decoder are made for lookups."""
    model = decoder().eval()
    ids = torch.randperm(len(tiny.words()) - 9)[:20] + 9
    ids = torch.cat([ids, ids[4:5]])[None]
    with torch.no_grad():
        weights = model(input_ids=ids, output_attentions=True).attentions[0]  # [1, heads, T, T]
    assert weights[0, :, -1, :-1].mean(0).argmax() == 4


def test_a_clip_loses_no_patch_that_says_something(tmp_path: Path) -> None:
    rows = conversations.Unseen("train", 20)
    hearing = language.Hearing(tiny.tokenizer("llama", tmp_path))
    for scene, turns in (rows[number] for number in range(20)):
        said, _ = spoken.say(scene, spoken.guess_shares(scene))
        batch = hearing([(scene, turns)])
        answered = batch["labels"][0] != -100
        visual = (batch["position_ids"] >= 3) & (batch["position_ids"] < 3 + said[..., 0].size)
        assert int((batch["said"][visual] > 0).any(-1).sum()) == int((said > 0).any(-1).sum())
        heard = " ".join(tiny.words()[n] for n in batch["said"][0, answered, 0])
        assert heard.count("</s>") == len(turns)
        assert (batch["position_ids"][0].diff() > 0).all()
