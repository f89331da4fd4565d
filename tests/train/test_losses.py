"""The first stage's losses against the equations, written out once more in NumPy."""

import numpy as np
import pytest
import torch

from onlooker.train import losses
from onlooker.train.attention_masks import bidirectional, multimodal_causal, uni_modal
from onlooker.train.pretraining import Blip2Pretraining
from tests.compare import assert_close
from tests.train.small import pairs_batch, retrieval_model

GENERATOR = np.random.default_rng(0)


def unit(*shape):
    x = GENERATOR.normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def numpy_itc(images, texts, temperature, smoothing, positives):
    """Equations of LAVIS' BLIP-2: the best query of each picture, smoothed targets, both directions."""
    rows, total = len(images), 0.0
    scores = np.array([[(image @ text).max() for text in texts] for image in images]) / temperature
    for i in range(rows):
        share = [positives[i][j] / sum(positives[i]) for j in range(rows)]
        target = [(1 - smoothing) * s + smoothing / rows for s in share]
        total -= sum(t * p for t, p in zip(target, log_softmax(scores)[i]))
        total -= sum(t * p for t, p in zip(target, log_softmax(scores.T)[i]))
    return total / (2 * rows)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shared", [False, True])
def test_contrast_is_the_papers_equation(smoothing, shared):
    images, texts = unit(5, 3, 8), unit(5, 8)
    positives = np.eye(5, dtype=bool)
    if shared:
        positives[1, 3] = positives[3, 1] = True
    scores = losses.similarities(*map(torch.from_numpy, (images, texts, images, texts)), torch.tensor(0.07))
    ours = losses.contrastive_loss(*scores, torch.from_numpy(positives), smoothing)
    assert abs(ours.item() - numpy_itc(images, texts, 0.07, smoothing, positives)) < 1e-4
    if not shared:  # with one positive a row it is plain smoothed cross-entropy
        labels = torch.arange(5)
        both = [torch.nn.functional.cross_entropy(s, labels, label_smoothing=smoothing) for s in scores]
        assert_close(ours, sum(both) / 2)


def test_matching_is_cross_entropy_over_pairs_that_exist():
    logits = GENERATOR.normal(size=(6, 2)).astype(np.float32)
    labels = np.array([1, 1, 0, 0, -100, 0])
    expected = -np.mean([log_softmax(logits)[i, labels[i]] for i in range(6) if labels[i] >= 0])
    assert abs(losses.matching_loss(torch.from_numpy(logits), torch.from_numpy(labels)).item() - expected) < 1e-5


def test_generation_scores_each_word_from_the_position_before():
    logits = GENERATOR.normal(size=(2, 4, 7)).astype(np.float32)
    ids, mask = np.array([[6, 3, 2, 0], [6, 1, 5, 2]]), np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    terms, right = [], []
    for row in range(2):
        for t in range(1, 4):
            if mask[row, t]:
                chances = log_softmax(logits[row, t - 1])
                terms.append(-0.9 * chances[ids[row, t]] - 0.1 * chances.mean())
                right.append(chances.argmax() == ids[row, t])
    loss, accuracy = losses.generation_loss(*map(torch.from_numpy, (logits, ids, mask)))
    assert abs(loss.item() - np.mean(terms)) < 1e-5
    assert abs(accuracy.item() - np.mean(right)) < 1e-6


def test_negatives_are_drawn_by_similarity_and_never_belong_together():
    scores = torch.tensor([[9.0, 2.0, 1.0, 0.0], [0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 0.0, 9.0]])
    positives = torch.eye(4, dtype=torch.bool)
    positives[2, 3] = positives[3, 2] = True
    torch.manual_seed(0)
    drawn = torch.stack([losses.mine_negatives(scores, positives) for _ in range(4000)])
    assert not any(positives[row, drawn[:, row]].any() for row in range(4))
    seen = torch.bincount(drawn[:, 0], minlength=4) / 4000
    expected = np.exp([2.0, 1.0, 0.0])
    assert_close(seen[1:].float(), torch.tensor(expected / expected.sum()).float(), tolerance=0.04)


def test_a_row_that_matches_all_has_no_negative():
    drawn = losses.mine_negatives(torch.zeros(2, 2), torch.tensor([[True, True], [False, True]]))
    assert drawn.tolist() == [-100, 0]


def test_the_three_masks_are_those_of_the_paper():
    text = torch.tensor([[1, 1, 0]])
    assert bidirectional(2, text)[0].tolist() == [[1, 1, 1, 1, 0]] * 5
    queries, words = [1, 1, 0, 0, 0], [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0]]
    assert multimodal_causal(2, text)[0].tolist() == [queries, queries, *words]
    assert uni_modal(2, text)[0].tolist() == [queries, queries] + [[0, 0, 1, 1, 0]] * 3


# -- the whole stage ------------------------------------------------------------------------------------------------


def evaluated(**options):
    stage = Blip2Pretraining(retrieval_model(), **options).eval()
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return stage


def test_contrast_of_the_stage_is_that_of_the_retrieval_model():
    stage, batch = evaluated(), pairs_batch()
    images = stage.model.vision_model(batch["pixel_values"]).last_hidden_state
    alone = stage.model.contrast(images, batch["input_ids"], batch["attention_mask"], return_dict=True)
    expected = numpy_itc(
        alone.image_embeds.detach().numpy(),
        alone.text_embeds.detach().numpy(),
        stage.temperature.item(),
        0.1,
        np.eye(4, dtype=bool),
    )
    assert abs(stage(**batch)["itc"].item() - expected) < 1e-4


def test_under_the_uni_modal_mask_one_pass_gives_what_two_give():
    stage, batch = evaluated(), pairs_batch()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    patches = stage.model.vision_model(batch["pixel_values"]).last_hidden_state
    queries, text = stage._join(patches, ids, uni_modal(3, mask))
    assert_close(queries, stage.model.query(patches, return_dict=True).last_hidden_state)
    alone = stage.model.qformer(stage.model.embeddings(ids), query_length=0, attention_mask=mask)
    assert_close(text, alone.last_hidden_state, keep=mask)


def test_matching_of_the_stage_scores_right_and_wrong_pairs_as_the_model_does():
    stage, batch = evaluated(), pairs_batch(rows=2)  # of two, the wrong one is the other one
    ids, mask = batch["input_ids"], batch["attention_mask"]
    patches = stage.model.vision_model(batch["pixel_values"]).last_hidden_state

    def score(pictures, rows):
        return stage.model.match(patches[pictures], ids[rows], mask[rows], return_dict=True).logits_per_image

    logits = torch.cat([score([0, 1], [0, 1]), score([1, 0], [0, 1]), score([0, 1], [1, 0])]).detach().numpy()
    expected = -np.mean([log_softmax(logits)[i, int(i < 2)] for i in range(6)])
    assert abs(stage(**batch)["itm"].item() - expected) < 1e-5


def test_a_word_is_written_from_the_picture_and_the_words_before_it_alone():
    stage, batch = evaluated(), pairs_batch()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    patches = stage.model.vision_model(batch["pixel_values"]).last_hidden_state

    def states(ids, patches=patches):
        return stage._join(patches, ids, multimodal_causal(3, mask))

    queries, text = states(ids)
    changed = ids.clone()
    changed[1, 4] = 7
    other_queries, other_text = states(changed)
    assert_close(queries, other_queries, tolerance=0)
    assert_close(text[1, :4], other_text[1, :4], tolerance=1e-6)
    assert (text[1, 4:] - other_text[1, 4:]).abs().max() > 1e-3
    assert (text[1] - states(ids, patches.flip(0))[1][1]).abs().max() > 1e-4
    # and one word more at a time gives the same as all at once
    short = stage._join(patches[1:2], ids[1:2, :3], multimodal_causal(3, mask[1:2, :3]))[1]
    assert_close(short[0], text[1, :3])


def test_generation_of_the_stage_starts_from_dec_and_ends_with_the_end():
    stage, batch = evaluated(start_token_id=37), pairs_batch()
    ids = batch["input_ids"].clone()
    ids[:, 0] = 37
    patches = stage.model.vision_model(batch["pixel_values"]).last_hidden_state
    text = stage._join(patches, ids, multimodal_causal(3, batch["attention_mask"]))[1]
    logits = stage.text_head(text, stage.model.embeddings.word_embeddings.weight).detach().numpy()
    terms = []
    for row in range(4):
        for t in range(1, int(batch["attention_mask"][row].sum())):
            chances = log_softmax(logits[row, t - 1])
            terms.append(-0.9 * chances[ids[row, t]] - 0.1 * chances.mean())
    assert abs(stage(**batch)["itg"].item() - np.mean(terms)) < 1e-4


def test_the_terms_make_the_loss_and_padding_does_not_change_it():
    stage, batch = evaluated(), pairs_batch(rows=2)
    terms = stage(**batch)
    assert_close(terms["loss"], terms["itc"] + terms["itm"] + terms["itg"])
    padded = {
        "input_ids": torch.nn.functional.pad(batch["input_ids"], (2, 1)),
        "attention_mask": torch.nn.functional.pad(batch["attention_mask"], (2, 1)),
    }
    again = stage(**(batch | padded))
    for name in ("itc", "itm", "itg"):
        assert_close(terms[name], again[name])


def test_rows_with_one_caption_or_one_group_are_no_negatives_of_each_other():
    batch = pairs_batch()
    batch["input_ids"][2], batch["attention_mask"][2] = batch["input_ids"][1], batch["attention_mask"][1]
    ids, mask = batch["input_ids"], batch["attention_mask"]
    stage = evaluated()
    same = torch.eye(4, dtype=torch.bool)
    same[1, 2] = same[2, 1] = True
    assert torch.equal(stage._positives(ids, mask, None), same)
    grouped = evaluated(equal_texts_match=False)._positives(ids, mask, torch.tensor([5, 6, 7, 5]))
    assert grouped.nonzero().tolist() == [[0, 0], [0, 3], [1, 1], [2, 2], [3, 0], [3, 3]]


def test_fresh_queries_get_values_so_that_they_may_differ():
    model = retrieval_model()
    assert not model.query_tokens.any()
    assert Blip2Pretraining(model).model.query_tokens.std() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [({"pixel_values": torch.zeros(3, 3, 20, 20)}, "3 pictures and 4 texts"), ({}, "2 rows or more")],
)
def test_a_batch_without_pairs_or_without_negatives_is_refused(change, message):
    batch = pairs_batch() | change if change else {k: v[:1] for k, v in pairs_batch().items()}
    with pytest.raises(ValueError, match=message):
        evaluated()(**batch)


def test_the_first_stage_goes_on_from_what_it_saved(tmp_path):
    stage, batch = evaluated(), pairs_batch(rows=2)
    stage.save(tmp_path)
    model = type(stage.model).from_pretrained(tmp_path)
    other = Blip2Pretraining(model).eval()
    other.load_extra(tmp_path)
    assert_close(stage(**batch)["loss"], other(**batch)["loss"])
