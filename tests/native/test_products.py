"""The compiled products give what torch gives, whatever the sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from onlooker.native import library, products

needs_bf16 = pytest.mark.skipif(not library.has_bf16(), reason="no compiler, or no AVX512-BF16")
needs_vnni = pytest.mark.skipif(not library.has_integers(), reason="no compiler, or no AVX512-VNNI")

SIZES = [
    (1, 1),
    (3, 5),
    (16, 32),
    (17, 33),
    (31, 127),
    (64, 128),
    (5, 200),
    (130, 129),
    (70, 1408),
    (1, 300),
    (9, 2048),
]


def codes_of(weight: torch.Tensor) -> torch.Tensor:
    """[N, bytes] -> [N, 2 * bytes], by the rule that the C++ source states."""
    chunks = weight.view(len(weight), -1, 64)
    return torch.cat([chunks & 15, chunks >> 4], -1).flatten(1)


@needs_bf16
@pytest.mark.parametrize("rows", [*range(1, 10), 13, 36, 48])
@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_bfloat16_is_rounded_once_from_the_exact_sum(rows: int, outputs: int, inputs: int) -> None:
    torch.manual_seed(rows)
    x, weight = torch.randn(rows, inputs).bfloat16(), torch.randn(outputs, inputs).bfloat16()
    for bias in (None, torch.randn(outputs).bfloat16()):
        exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
        room = 2**-8 * exact.abs() + 1e-5 * inputs**0.5  # half a step of bfloat16, and float32 sums
        assert ((products.bf16(x, weight, bias).double() - exact).abs() <= room).all()


def rounded(x: torch.Tensor) -> torch.Tensor:
    """[M, K] in 8 bits for every 64 inputs, and back."""
    groups = F.pad(x, (0, -x.shape[1] % 64)).view(len(x), -1, 64)
    scale = groups.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
    return ((groups / scale).round() * scale).flatten(1)[:, : x.shape[1]]


@needs_vnni
@pytest.mark.parametrize("rows", [*range(1, 10), 12, 17, 41, 270])
@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_int8_rounds_activations_for_every_64_inputs_and_nothing_else(rows: int, outputs: int, inputs: int) -> None:
    torch.manual_seed(rows)
    x, weight = torch.randn(rows, inputs) + 0.5, torch.randint(-128, 128, (outputs, inputs), dtype=torch.int8)
    scale, bias = (torch.rand(outputs, -(-inputs // 64)) + 0.1).bfloat16(), torch.randn(outputs)
    values = weight.double() * scale.double().repeat_interleave(64, 1)[:, :inputs]
    exact = F.linear(rounded(x).double(), values, bias.double())
    found = products.int8(x, weight, scale, bias)
    assert found is not None
    # A tie may be rounded to either side: one step of one input.
    room = x.abs().amax() / 127 * values.abs().amax(1) * 1.01 + 1e-3
    assert ((found - exact).abs() <= room).all()
    assert (found - exact).norm() <= 1e-4 * exact.norm() + 1e-3


@needs_vnni
@pytest.mark.parametrize("group", [64, 128])
@pytest.mark.parametrize("rows", [*range(1, 10), 12, 17, 41, 270])
@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_int4_rounds_activations_far_below_its_weights(rows: int, outputs: int, inputs: int, group: int) -> None:
    torch.manual_seed(rows)
    padded = -(-inputs // 128) * 128
    x, weight = torch.randn(rows, inputs), torch.randint(0, 256, (outputs, padded // 2), dtype=torch.uint8)
    scale = (torch.rand(outputs, padded // group) + 0.1).bfloat16()
    zero, bias = (torch.randn(outputs, padded // group) * 0.1).bfloat16(), torch.randn(outputs)
    values = (codes_of(weight).double() - 8) * scale.double().repeat_interleave(group, 1)
    values = (values + zero.double().repeat_interleave(group, 1))[:, :inputs]
    found = products.int4(x, weight, scale, zero, bias, group)
    assert found is not None
    exact = F.linear(rounded(x).double(), values, bias.double())
    # A tie may be rounded to either side: one step of one input.
    room = x.abs().amax() / 127 * values.abs().amax(1) * 1.01 + 1e-3
    assert ((found - exact).abs() <= room).all()
    assert (found - exact).norm() <= 1e-4 * exact.norm() + 1e-3


@needs_vnni
@pytest.mark.parametrize("rows", [3, 30])
def test_integers_take_and_give_bfloat16_as_they_do_float32(rows: int) -> None:
    x, weight = torch.randn(rows, 200).bfloat16(), torch.randint(-127, 127, (37, 200), dtype=torch.int8)
    scale, bias = torch.rand(37, 4).bfloat16(), torch.randn(37)
    exact = products.int8(x.float(), weight, scale, bias)
    assert exact is not None
    assert torch.equal(products.int8(x, weight, scale, bias), exact.bfloat16())
    codes = torch.randint(0, 256, (37, 128), dtype=torch.uint8)
    exact = products.int4(x.float(), codes, scale, scale, bias, 64)
    assert exact is not None
    assert torch.equal(products.int4(x, codes, scale, scale, bias, 64), exact.bfloat16())
    assert products.int8(x.half(), weight, scale, bias).dtype == torch.float16


@needs_vnni
@needs_bf16
def test_the_layout_of_the_rows_does_not_matter() -> None:
    torch.manual_seed(0)
    wide = torch.randn(4, 2, 256).bfloat16()
    weight = torch.randn(40, 128).bfloat16()
    for x in (wide[:, 1, ::2], wide[:, :, :128], wide[0, 0, :128], wide.transpose(0, 1)[..., 128:]):
        assert torch.equal(products.bf16(x, weight, None), products.bf16(x.contiguous(), weight, None))
        assert products.bf16(x, weight, None).shape == (*x.shape[:-1], 40)


@needs_vnni
@needs_bf16
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_left_to_torch_or_pass_through(bad: float) -> None:
    x, weight = torch.randn(2, 96), torch.randint(-9, 9, (8, 96), dtype=torch.int8)
    x[1, 5] = bad
    assert products.int8(x, weight, torch.ones(8, 2).bfloat16(), None) is None
    assert products.int8(x.repeat(9, 1), weight, torch.ones(8, 2).bfloat16(), None) is None
    empty = torch.zeros(8, 2, dtype=torch.bfloat16)
    assert products.int4(x, torch.zeros(8, 64, dtype=torch.uint8), empty, empty, None, 64) is None
    halves = weight.bfloat16()
    torch.testing.assert_close(products.bf16(x.bfloat16(), halves, None), x.bfloat16() @ halves.T, equal_nan=True)


@needs_vnni
@pytest.mark.parametrize("rows", [3, 30])
def test_rows_of_zeros_give_the_bias(rows: int) -> None:
    x, bias = torch.zeros(rows, 70), torch.randn(5)
    weight = torch.randint(-127, 127, (5, 70), dtype=torch.int8)
    assert torch.equal(products.int8(x, weight, torch.ones(5, 2).bfloat16(), bias), bias.expand(rows, 5))


@needs_vnni
def test_a_row_is_the_same_alone_and_among_others() -> None:
    """To the bit as long as rows are few or many; from few to many, sums are added in another order."""
    x = torch.randn(29, 320) * torch.logspace(-3, 3, 29)[:, None]
    weight, scale = torch.randint(-127, 127, (33, 320), dtype=torch.int8), torch.rand(33, 5).bfloat16()

    def product(rows: torch.Tensor) -> torch.Tensor:
        found = products.int8(rows, weight, scale, None)
        assert found is not None
        return found

    together, alone = product(x), torch.cat([product(row[None]) for row in x])
    assert torch.equal(together[:7], product(x[:7]))
    assert torch.equal(alone[:4], product(x[:4]))
    room = 1e-6 * x.norm(dim=1)[:, None] * weight.float().norm(dim=1)
    assert ((together - alone).abs() <= room).all()


@needs_vnni
@pytest.mark.parametrize("rows", [2, 40])
def test_threads_share_integers_and_change_nothing(rows: int) -> None:
    x, weight = torch.randn(rows, 256), torch.randint(-127, 127, (1003, 256), dtype=torch.int8)
    scale, before = torch.rand(1003, 4).bfloat16(), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = products.int8(x, weight, scale, None)
        for count in (2, 3, 2, 7):
            torch.set_num_threads(count)
            for _ in range(10):
                assert torch.equal(products.int8(x, weight, scale, None), one)
    finally:
        torch.set_num_threads(before)


@needs_bf16
def test_threads_share_the_work_and_change_nothing() -> None:
    x, weight = torch.randn(3, 256).bfloat16(), torch.randn(1000, 256).bfloat16()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = products.bf16(x, weight, None)
        for count in (2, 3, 2, 7):
            torch.set_num_threads(count)
            for _ in range(30):
                assert torch.equal(products.bf16(x, weight, None), one)
    finally:
        torch.set_num_threads(before)


@needs_bf16
@needs_vnni
def test_a_bias_may_lie_anywhere() -> None:
    x, weight, codes = (
        torch.randn(3, 128),
        torch.randn(8, 128).bfloat16(),
        torch.randint(-9, 9, (8, 128)).to(torch.int8),
    )
    scale, packed = torch.ones(8, 2).bfloat16(), torch.randint(0, 255, (8, 64), dtype=torch.uint8)
    for bias in (torch.randn(8, 3)[:, 1], torch.randn(1).expand(8)):
        half = bias.bfloat16() if bias.stride(0) else bias[:1].bfloat16().expand(8)
        assert torch.equal(products.bf16(x.bfloat16(), weight, half), products.bf16(x.bfloat16(), weight, half.clone()))
        for found, wanted in (
            (products.int8(x, codes, scale, bias), products.int8(x, codes, scale, bias.contiguous())),
            (
                products.int4(x, packed, scale, scale, bias, 64),
                products.int4(x, packed, scale, scale, bias.contiguous(), 64),
            ),
        ):
            assert found is not None and wanted is not None and torch.equal(found, wanted)
