"""Modules called plainly do what they do, and whatever hangs on their calls still happens."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onlooker.nn.plain import plain
from tests.language.test_language_models import begin, llama_pair, opt_pair, t5_pair, words


@pytest.fixture(params=[opt_pair, llama_pair, t5_pair])
def model(request):
    return request.param(3)[0]


def test_a_plain_model_gives_the_same_numbers_with_the_same_weights(model):
    ids = words(2, 5)
    options = {"decoder_input_ids": ids} if hasattr(model, "encoder") else {}
    assert torch.equal(plain(model).forward(ids, **options).logits, model(ids, **options).logits)
    before = len(model.state_dict())
    assert len(list(plain(model).parameters())) == len(list(model.parameters()))
    assert len(model.state_dict()) == before
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    assert torch.equal(plain(model).forward(ids, **options).logits, model(ids, **options).logits)


def test_hooks_see_every_step(model):
    name, layer = next((name, part) for name, part in model.named_modules() if name.endswith(("fc1", "up_proj", "wo")))
    seen = []
    if hasattr(model, "encoder"):
        layer = model.decoder.block[0].layer[-1].DenseReluDense.wo
    layer.register_forward_hook(lambda *_: seen.append(1))
    decoding = begin(model, words(1, 4), None, 4)
    for step in range(3):
        decoding.step(words(1, 1, step)[0])
    assert len(seen) == 4, name


def test_a_forward_put_on_a_module_and_a_module_of_another_kind_are_called(model):
    ids = words(1, 4)
    want = begin(model, ids, None, 2).logits

    class Doubled(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return 2 * self.inner(x)

    head = model.lm_head
    model.lm_head = Doubled(head)
    torch.testing.assert_close(begin(model, ids, None, 2).logits, 2 * want)
    model.lm_head = head
    head.forward = lambda x: 3 * type(head).forward(head, x)
    torch.testing.assert_close(begin(model, ids, None, 2).logits, 3 * want)
