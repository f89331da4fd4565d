"""Contrastive search against the paper's formula in a few lines of NumPy."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from tests.generate.borrowed import FAMILIES, PAD, Recomputed, ours, prompts, reference


def by_the_formula(family, row, steps, alpha, k, banned=()):
    """argmax over the k likeliest v of (1 - alpha) p(v) - alpha max_j cos(h_v, h_j), everything run anew."""
    start = torch.tensor([[PAD]]) if family == "t5" else row

    def run(new):
        ids = torch.cat([start, torch.tensor([new], dtype=torch.long)], dim=1)
        state = Recomputed(reference(family), ids, None, row if family == "t5" else None)
        return state.logits[0].double().numpy().copy(), state.hidden_all[0].double().numpy()

    new = []
    with torch.no_grad():
        for _ in range(steps):
            logits, context = run(new)
            logits[list(banned)] = -np.inf
            p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
            best, best_value = None, -np.inf
            for v in np.argsort(-p, kind="stable")[:k]:
                h = run([*new, int(v)])[1][-1]
                cosine = context @ h / np.linalg.norm(context, axis=1) / np.linalg.norm(h)
                value = (1 - alpha) * p[v] - alpha * cosine.max()
                if value > best_value and p[v] > 0:
                    best, best_value = int(v), value
            new.append(best)
    return new


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("alpha", "k"), [(0.6, 4), (0.9, 6), (0.2, 2)])
def test_every_token_is_the_formulas(family, alpha, k):
    ids, mask = prompts(family, random.Random(f"{family}{k}"), batch=2)
    got = ours(family, ids, mask, penalty_alpha=alpha, top_k=k, max_new_tokens=7, eos_token_id=None, pad_token_id=PAD)
    for row in range(len(ids)):
        want = by_the_formula(family, ids[row : row + 1, mask[row].bool()], 7, alpha, k)
        assert got[row, -7:].tolist() == want


def test_it_differs_from_greedy_and_a_forbidden_token_cannot_win():
    row = torch.tensor([[8, 7, 9]])
    greedy = ours("gpt2", row, max_new_tokens=7, eos_token_id=None)
    free = ours("gpt2", row, max_new_tokens=7, eos_token_id=None, penalty_alpha=0.9, top_k=6)
    assert free.tolist() != greedy.tolist()
    banned = [i for i in range(40) if i not in (3, 4)]  # fewer are left than are tried
    some = ours("gpt2", row, max_new_tokens=7, eos_token_id=None, penalty_alpha=0.9, top_k=6, suppress_tokens=banned)
    assert set(some[0, 3:].tolist()) <= {3, 4}
    assert some[0, 3:].tolist() == by_the_formula("gpt2", row, 7, 0.9, 6, banned)
