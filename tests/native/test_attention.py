"""The compiled attention gives what float32 gives, within what bfloat16 can tell."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from onlooker.native import library
from onlooker.native.attention import attention
from onlooker.nn.attend import attend

needs_bf16 = pytest.mark.skipif(not library.has_bf16(), reason="no compiler, or no AVX512-BF16")
POSITIONS = [1, 2, 7, 12, 13, 33]


def random(*shape: int) -> Tensor:
    return torch.randn(shape).bfloat16()


def exact(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """[B, T, H, K] in float64."""
    k, v = (each.double().repeat_interleave(q.shape[1] // k.shape[1], 1) for each in (k, v))
    mask = None if mask is None else mask.double()
    return F.scaled_dot_product_attention(q.double(), k, v, mask, scale=scale).transpose(1, 2)


def assert_close(found: Tensor, wanted: Tensor, largest_value: float) -> None:
    """One position: rounded once. More of them: weights of values are rounded too, half a step of bfloat16 each."""
    assert found.shape == wanted.shape
    room = 2**-8 * wanted.abs() + 1e-5 + (2**-8 * largest_value if found.shape[1] > 1 else 0)
    assert ((found.double() - wanted).abs() <= room).all()
    assert (found.double() - wanted).norm() <= 4e-3 * wanted.norm() + 1e-3


def check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float = 0.2) -> None:
    found = attention(q, k, v, mask, scale)
    assert_close(found, exact(q, k, v, mask, scale), float(v.abs().max()))


@needs_bf16
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 31, 33, 100, 1100])
@pytest.mark.parametrize(
    ("rows", "heads", "kv_heads", "width"), [(1, 4, 4, 128), (3, 4, 2, 64), (2, 6, 1, 80), (2, 2, 2, 8)]
)
def test_any_length_width_and_groups(
    positions: int, length: int, rows: int, heads: int, kv_heads: int, width: int
) -> None:
    torch.manual_seed(length)
    k, v = (random(rows, kv_heads, length, width) for _ in range(2))
    check(random(rows, heads, positions, width), k, v, scale=width**-0.5)


@needs_bf16
@pytest.mark.parametrize("positions", [1, 5])
@pytest.mark.parametrize("width", [1, 2, 31, 33, 63, 64, 65, 88, 96, 127, 129, 192, 200, 256, 300])
def test_widths_that_fill_no_register(positions: int, width: int) -> None:
    torch.manual_seed(width)
    check(*(random(2, 3, length, width) for length in (positions, 21, 21)))


@needs_bf16
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(2, 4, 2), (1, 4, 2), (2, 1, 2), (1, 1, 2), (2, 1, 1), (1, 4, 1)])
def test_masks_and_biases_are_added(positions: int, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    rows, heads, each = shape
    mask = torch.randn(rows, heads, positions if each == 2 else 1, 37).to(dtype)
    mask[..., :5] = torch.finfo(dtype).min
    mask[..., 9] = -torch.inf
    check(random(2, 4, positions, 64), random(2, 2, 37, 64), random(2, 2, 37, 64), mask.expand(2, 4, positions, 37))
    q, k, v = random(2, 4, positions, 64), random(2, 2, 37, 64), random(2, 2, 37, 64)
    whole = attention(q, k, v, mask.expand(2, 4, positions, 37), 0.2)
    assert torch.equal(attention(q, k, v, mask, 0.2), whole)


@needs_bf16
@pytest.mark.parametrize(("positions", "length"), [(2, 2), (12, 12), (13, 13), (40, 40), (70, 70), (5, 40), (1, 9)])
def test_causal_positions_see_what_is_before_them(positions: int, length: int) -> None:
    torch.manual_seed(0)
    q, k, v = random(2, 4, positions, 32), random(2, 2, length, 32), random(2, 2, length, 32)
    hidden = torch.full((positions, length), -torch.inf).triu(length - positions + 1)
    found = attention(q, k, v, None, 0.2, is_causal=True)
    assert_close(found, exact(q, k, v, hidden[None, None], 0.2), float(v.abs().max()))
    k[:, :, -1], v[:, :, -1] = 99, 1e30  # seen by the last one alone
    assert torch.equal(attention(q, k, v, None, 0.2, is_causal=True)[:, :-1], found[:, :-1])


@needs_bf16
@pytest.mark.parametrize("positions", [1, 9])
def test_a_cache_with_room_and_turned_heads_are_read_where_they_are(positions: int) -> None:
    torch.manual_seed(0)
    turned = random(2, positions, 4, 64).transpose(1, 2)
    check(turned, random(2, 4, 50, 64)[:, :, :30], random(2, 30, 4, 64).transpose(1, 2))


@needs_bf16
@pytest.mark.parametrize("positions", [1, 9])
def test_large_scores_do_not_overflow(positions: int) -> None:
    q, k = (torch.full((1, 1, length, 64), 300.0).bfloat16() for length in (positions, 9))
    check(q, k, random(1, 1, 9, 64), scale=1.0)


@needs_bf16
@pytest.mark.parametrize("positions", [1, 9])
def test_a_position_that_sees_nothing_gets_zeros(positions: int) -> None:
    q, k, v = (random(1, 2, length, 16) for length in (positions, 5, 5))
    mask = torch.full((1, 1, 1, 5), -torch.inf)
    assert torch.equal(attention(q, k, v, mask, 1.0), torch.zeros(1, positions, 2, 16).bfloat16())


@needs_bf16
@pytest.mark.parametrize("positions", [1, 9])
def test_threads_share_heads_and_change_nothing(positions: int) -> None:
    q, k, v = (random(3, 8, length, 64) for length in (positions, 70, 70))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = attention(q, k, v, None, 0.1)
        for count in (2, 3, 7):
            torch.set_num_threads(count)
            for _ in range(20):
                assert torch.equal(attention(q, k, v, None, 0.1), one)
    finally:
        torch.set_num_threads(before)


@needs_bf16
def test_a_row_is_the_same_alone_and_among_others() -> None:
    q, k, v = (random(3, 4, length, 64) for length in (20, 50, 50))
    together = attention(q, k, v, None, 0.1)
    for row in range(3):
        part = slice(row, row + 1)
        assert torch.equal(attention(q[part], k[part], v[part], None, 0.1), together[part])
    for few in (1, 5, 13):  # more or fewer positions at a time
        found = attention(q[:, :, :few], k, v, None, 0.1)
        assert (found - together[:, :few]).norm() <= 4e-3 * found.norm()


@pytest.mark.parametrize("positions", [1, 6])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attend_gives_the_same_with_it_and_without(dtype: torch.dtype, positions: int) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, length, 64).to(dtype) for heads, length in ((4, positions), (2, 33), (2, 33)))
    mask = torch.randn(2, 1, 1, 33).to(dtype)
    with torch.no_grad():
        found = attend(q, k, v, mask=mask)[0]
        with library.disabled():
            without = attend(q, k, v, mask=mask)[0]
    wanted = exact(q, k, v, mask.expand(2, 4, positions, 33), 64**-0.5).flatten(2)
    for each in (found, without):
        assert (each.double() - wanted).norm() <= 1e-2 * wanted.norm()


def test_gradients_go_through_torch() -> None:
    for positions in (1, 4):
        leaves = q, k, v, mask = (
            *(random(1, 2, length, 16).requires_grad_() for length in (positions, 5, 5)),
            random(1, 2, positions, 5).requires_grad_(),
        )
        attend(q, k, v, mask=mask)[0].float().square().sum().backward()
        assert all(leaf.grad is not None and leaf.grad.abs().sum() > 0 for leaf in leaves)


@needs_bf16
@pytest.mark.parametrize("positions", [1, 9])
@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (1, 4, -1, 1), (-1, 37), (4, -1, 37), (37,), (1, 1, -1, 37), ()])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_mask_may_lack_any_side(positions: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = (random(2, 4, length, 16) for length in (positions, 37, 37))
    mask = torch.randn([positions if side < 0 else side for side in shape]).bfloat16().to(dtype)
    check(q, k, v, mask.expand(2, 4, positions, 37))
    assert torch.equal(attention(q, k, v, mask, 0.2), attention(q, k, v, mask.expand(2, 4, positions, 37).clone(), 0.2))


@needs_bf16
@pytest.mark.parametrize("positions", [1, 9])
def test_a_mask_is_read_by_any_strides(positions: int) -> None:
    torch.manual_seed(0)
    q, k, v = (random(2, 4, length, 16) for length in (positions, 37, 37))
    for mask in (
        torch.randn(2, positions, 37, 4).permute(0, 3, 1, 2),  # T5's bias
        torch.randn(2, 4, positions, 80)[..., 3:40],
        torch.randn(2, 4, positions, 74)[..., ::2],
        torch.randn(1, 4, 3 * positions, 37)[:, :, ::3].expand(2, -1, -1, -1),
    ):
        assert torch.equal(attention(q, k, v, mask, 0.2), attention(q, k, v, mask.contiguous(), 0.2))


@needs_bf16
@pytest.mark.parametrize("positions", [1, 9])
def test_rows_and_heads_may_lie_in_one_place(positions: int) -> None:
    q, k, v = (random(1, 1, length, 16).expand(3, 4, -1, -1) for length in (positions, 7, 7))
    check(q, k, v)
    check(
        q.clone(),
        random(2, 1, 16)[:, None].expand(-1, 2, 30, -1).repeat(2, 1, 1, 1)[:3],
        v.repeat(1, 1, 5, 1)[:, :2, :30],
    )


@needs_bf16
@pytest.mark.parametrize("positions", [1, 9])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", range(3))
def test_what_is_no_number_is_not_hidden(positions: int, bad: float, place: int) -> None:
    torch.manual_seed(0)
    tensors = [random(1, 2, length, 16).abs() for length in (positions, 40, 40)]
    tensors[place][0, 1, -1, 3] = bad
    found, wanted = attention(*tensors, None, 0.2), exact(*tensors, None, 0.2)
    assert torch.equal(found.isnan(), wanted.isnan()) and torch.equal(found.isinf(), wanted.isinf())


@pytest.mark.parametrize("positions", [1, 9])
def test_sizes_that_do_not_fit_are_left_to_torch(positions: int) -> None:
    q, k = random(2, 4, positions, 16), random(2, 4, 7, 16)
    assert attend(q, k[:1], k[:1])[0].shape == (2, positions, 64)  # torch broadcasts rows
    assert attend(q, k, k[..., :8])[0].shape == (2, positions, 32)  # and takes narrower values
    for keys, values in ((k[:, :3],) * 2, (random(2, 8, 7, 16),) * 2, (k[..., :8],) * 2):
        with pytest.raises(RuntimeError):
            attend(q, keys, values)


@pytest.mark.parametrize("positions", [1, 9])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_what_back_ends_would_understand_differently_is_refused(positions: int, implementation: str) -> None:
    q, k = random(1, 2, positions, 16), random(1, 2, 8, 16)
    with pytest.raises(ValueError, match="boolean"):
        attend(q, k, k, mask=torch.ones(1, 1, positions, 8, dtype=torch.bool), implementation=implementation)
    with pytest.raises(ValueError, match=f"{positions} queries, 8 keys and no mask"):
        attend(q, k, k, is_causal=True, implementation=implementation)
    with pytest.raises(ValueError, match="and a mask"):
        attend(q, q, q, mask=torch.zeros(1, 1, 1, positions).bfloat16(), is_causal=True, implementation=implementation)


@needs_bf16
def test_memory_that_is_not_there_ends_nothing() -> None:
    """So many keys, all in one place, that their scores alone would be larger than what can be addressed."""
    k = random(1, 1, 1, 16).expand(1, 16, 1 << 45, 16)
    before = torch.get_num_threads()
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            for positions in (1, 9):
                with pytest.raises(MemoryError, match=f"{positions} positions"):
                    attention(random(1, 16, positions, 16), k, k, None, 0.2)
    finally:
        torch.set_num_threads(before)
    check(*(random(2, 3, 5, 16) for _ in range(3)))


def test_traced_attention_answers_for_other_tensors() -> None:
    q, k, v, other = (random(1, 2, 5, 16) for _ in range(4))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(lambda *tensors: attend(*tensors)[0], (q, k, v), check_trace=False)
        found = traced(other, v, k)
        assert (found - attend(other, v, k)[0]).norm() <= 1e-2 * found.norm()
