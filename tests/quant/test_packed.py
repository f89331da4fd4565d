"""A packed linear is the nn.Linear it was: same weights, same names, same precision, trained and saved as ever."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from onlooker.language.t5_layers import Float32Linear
from onlooker.native import library
from onlooker.quant import packed
from onlooker.quant.packed import PackedLinear, pack


@pytest.fixture(params=["native", "torch"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways of multiplying; torch's packs at once here."""
    monkeypatch.setattr(packed, "LEAST_WEIGHTS", 1)
    monkeypatch.setattr(packed, "USES_BEFORE_PACKING", 1)
    if request.param == "torch":
        with library.disabled():
            yield request.param
    else:
        yield request.param


def pair(inputs: int = 65, outputs: int = 30, bias: bool = True) -> tuple[nn.Linear, nn.Module]:
    torch.manual_seed(0)
    plain = nn.Linear(inputs, outputs, bias=bias).bfloat16()
    fast = nn.Sequential(copy.deepcopy(plain))
    assert pack(fast) == ["0"]
    return plain, fast[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(65,), (1, 65), (3, 65), (2, 4, 65), (9, 65), (0, 65), (2, 0, 65), (40, 65)])
@torch.no_grad()
def test_products_are_those_of_the_plain_linear_within_rounding(shape: tuple[int, ...], bias: bool) -> None:
    plain, fast = pair(bias=bias)
    x = torch.randn(shape).bfloat16()
    for _ in range(3):
        torch.testing.assert_close(fast(x), plain(x), rtol=2**-7, atol=1e-5)


@torch.no_grad()
def test_strided_rows_and_bad_values_behave_as_in_torch() -> None:
    plain, fast = pair()
    wide = torch.randn(3, 4, 130).bfloat16()
    for x in (wide[:, -1, ::2], wide[:, :, :65], wide.transpose(0, 1)[:, :1, 65:]):
        # torch rounds twice here: the product, and the sum with the bias
        torch.testing.assert_close(fast(x), plain(x), rtol=2**-7, atol=2**-8)
    x = torch.randn(2, 65).bfloat16()
    x[0, 3], x[1, 4] = torch.nan, torch.inf
    torch.testing.assert_close(fast(x), plain(x), equal_nan=True)
    with pytest.raises(RuntimeError, match="shapes"):
        fast(torch.randn(1, 64).bfloat16())


def test_names_identity_and_ties_stay() -> None:
    model = nn.Module()
    model.embed, model.head = nn.Embedding(40, 16), nn.Linear(16, 40, bias=False)
    model.head.weight = model.embed.weight
    model.bfloat16()
    head, before = model.head, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert pack(model) == ["head"]
    assert model.head is head and isinstance(head, nn.Linear) and model.head.weight is model.embed.weight
    for _ in range(3):
        with torch.no_grad():
            model.head(torch.randn(1, 16).bfloat16())
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_it_trains_and_sees_every_change_of_its_weight() -> None:
    plain, fast = pair()
    x = torch.randn(2, 65).bfloat16()
    with torch.no_grad():
        first = fast(x)
    for layer in (plain, fast):
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        layer(x).float().square().sum().backward()
        optimizer.step()
    assert torch.equal(fast.weight, plain.weight)
    with torch.no_grad():
        assert not torch.equal(fast(x), first)
        torch.testing.assert_close(fast(x), plain(x), rtol=2**-7, atol=1e-3)
        fast.load_state_dict({"weight": torch.zeros(30, 65), "bias": torch.ones(30)})
        assert torch.equal(fast(x), torch.ones(2, 30).bfloat16())
        fast.weight = nn.Parameter(torch.ones(30, 65).bfloat16())
        assert not torch.equal(fast(x), torch.ones(2, 30).bfloat16())


def test_gradients_reach_inputs_and_weights() -> None:
    plain, fast = pair()
    x = torch.randn(2, 65).bfloat16().requires_grad_()
    (wanted,) = torch.autograd.grad(plain(x).sum(), x)
    (found,) = torch.autograd.grad(fast(x).sum(), x)
    assert torch.equal(found, wanted)
    assert fast(x.detach()).requires_grad


@torch.no_grad()
def test_casts_copies_and_pickles_go_on_as_plain_linears_do() -> None:
    plain, fast = pair()
    x = torch.randn(2, 65)
    fast(x.bfloat16())
    for layer in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        torch.testing.assert_close(layer(x.bfloat16()), plain(x.bfloat16()), rtol=2**-7, atol=1e-5)
    torch.testing.assert_close(fast.float()(x), plain.float()(x))
    assert fast.to("meta")(x.to("meta")).shape == (2, 30)


def test_inference_tensors_are_fine() -> None:
    with torch.inference_mode():
        layer = nn.Sequential(nn.Linear(64, 32).bfloat16())
        pack(layer)
        x = torch.randn(1, 64).bfloat16()
        for _ in range(3):
            torch.testing.assert_close(layer(x), F.linear(x, layer[0].weight, layer[0].bias), rtol=2**-7, atol=1e-5)


@torch.no_grad()
def test_a_subclass_keeps_what_it_does_beside_the_product() -> None:
    model = nn.Sequential(Float32Linear(64, 32, bias=False).bfloat16())
    assert pack(model) == ["0"] and isinstance(model[0], (PackedLinear, Float32Linear))
    x = torch.randn(2, 64)
    torch.testing.assert_close(model[0](x), model[0](x.bfloat16()))
    assert model.half()[0].weight.dtype == torch.float32


def test_only_large_bfloat16_linears_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LEAST_WEIGHTS", 100)

    class Other(nn.Linear):
        """Of somebody else, who may do anything in forward."""

    model = nn.Sequential(nn.Linear(20, 20), nn.Linear(9, 9).bfloat16(), Other(20, 20).bfloat16(), nn.Linear(20, 20))
    model[3].bfloat16()
    assert pack(model) == ["3"]
    assert pack(model) == []


@torch.no_grad()
def test_memory_that_is_not_there_is_not_taken(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fast = pair()
    monkeypatch.setattr(packed, "_has_room", lambda size: False)
    x = torch.randn(1, 65).bfloat16()
    torch.testing.assert_close(fast(x), plain(x), rtol=2**-7, atol=1e-5)
    assert fast._packed is None


@torch.no_grad()
def test_torch_packs_only_what_was_used_often(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine == "native":
        pytest.skip("nothing is packed there")
    monkeypatch.setattr(packed, "USES_BEFORE_PACKING", 3)
    _, fast = pair()
    x = torch.randn(1, 65).bfloat16()
    for _ in range(2):
        fast(x), fast(x.expand(50, 65))
        assert fast._packed is None
    fast(x)
    assert fast._packed is not None and torch.equal(fast._packed[0].to_dense(), fast.weight)
