"""Names by content: the same bytes give the same name, and anything that could change an answer gives another."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import nn

from onlooker.reuse.fingerprint import ModelIdentity, digest_file, digest_values


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(40, 50), nn.Linear(50, 10))


def name_of(made: nn.Module, *about: str) -> str:
    return ModelIdentity(*about).of(made)


def test_files_and_values_are_named_by_all_their_bytes():
    data = bytes(range(256)) * 9000
    assert digest_file(io.BytesIO(data)) == digest_file(io.BytesIO(data))
    assert digest_file(io.BytesIO(data)) != digest_file(io.BytesIO(data[:-1] + b"x"))
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert digest_values(values, "image") == digest_values(np.asfortranarray(values), "image")
    others = [values.reshape(3, 2, 4), values.astype(np.float64), values + 1e-6]
    assert len({digest_values(each, "image") for each in (values, *others)} | {digest_values(values, "video")}) == 5


def test_the_same_weights_have_the_same_name_in_every_process():
    assert name_of(model()) == name_of(model())
    changed = [name_of(model(1)), name_of(model().half()), name_of(model(), "another name")]
    assert len({name_of(model()), *changed}) == 4
    merged = model()
    with torch.no_grad():
        merged[0].weight += 1e-3 * torch.randn(50, 2) @ torch.randn(2, 40)
    assert name_of(merged) != name_of(model())


def test_a_write_is_seen_whatever_it_changes():
    made, identity = model(), ModelIdentity()
    before = identity.of(made)
    assert identity.of(made) == before
    with torch.no_grad():
        made[0].weight[17, 23] += 1.0  # not among the values that are looked at
    assert identity.of(made) != before


def test_a_swapped_module_is_seen():
    made, identity = model(), ModelIdentity()
    before = identity.of(made)
    made[1] = nn.Linear(50, 10)
    assert identity.of(made) != before


def test_weights_that_lie_elsewhere_are_named_by_what_is_known():
    with torch.device("meta"):
        made = nn.Linear(4, 4)
    assert len(name_of(made)) == 64
