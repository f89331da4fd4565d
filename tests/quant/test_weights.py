"""Weights of 8 and 4 bits: small errors on every path, chosen by an explicit list, saved and loaded as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import onlooker
from onlooker.errors import CheckpointError
from onlooker.native import library
from onlooker.quant.linears import Int4Linear, Int8Linear, QuantizedLinear
from onlooker.quant.rounding import dequantize_int4, dequantize_int8, quantize_int4, quantize_int8
from onlooker.quant.weights import WeightQuantization
from tests.tiny import blip2_config, pixels, prompt, randomize

# The 16 values of nf4 (arXiv:2305.14314, appendix E), for blocks of 64 that are scaled to -1..1.
NF4 = [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0]
NF4 += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0]


@pytest.fixture(params=["native", "torch"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    with nullcontext() if request.param == "native" else library.disabled():
        yield request.param


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def nf4(weight: torch.Tensor) -> torch.Tensor:
    blocks = weight.reshape(-1, 64)
    largest = blocks.abs().amax(1, keepdim=True)
    table = torch.tensor(NF4)
    return (table[((blocks / largest)[..., None] - table).abs().argmin(-1)] * largest).view_as(weight)


def draw(kind: str, shape: tuple[int, int]) -> torch.Tensor:
    torch.manual_seed(0)
    draws = {
        "normal": torch.randn,
        "heavy": torch.distributions.StudentT(5.0).sample,
        "laplace": torch.distributions.Laplace(0.0, 1.0).sample,
        "uniform": torch.rand,
    }
    return (draws[kind](shape) - (0.5 if kind == "uniform" else 0)) * 0.02


# -- rounding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "heavy", "laplace", "uniform"])
def test_int4_is_nearer_than_nf4(kind: str) -> None:
    weight = draw(kind, (64, 1024))
    found = dequantize_int4(*quantize_int4(weight, 64), 1024, torch.float32)
    assert error(found, weight) < error(nf4(weight), weight)


@pytest.mark.parametrize("kind", ["normal", "heavy", "laplace", "uniform"])
@pytest.mark.parametrize("inputs", [768, 4096, 11008])
def test_int8_weights_are_within_one_percent(kind: str, inputs: int) -> None:
    weight = draw(kind, (32, inputs))
    assert error(dequantize_int8(*quantize_int8(weight), torch.float32), weight) < 0.008


@pytest.mark.parametrize("group", [64, 128])
@pytest.mark.parametrize("shape", [(1, 2), (3, 100), (5, 128), (4, 300)])
def test_weights_that_fit_the_grid_come_back(shape: tuple[int, int], group: int) -> None:
    torch.manual_seed(0)
    whole = torch.randint(-8, 8, shape).float()
    whole[:, ::64], whole[:, 1::64] = -8, 7
    assert torch.equal(dequantize_int4(*quantize_int4(whole, group), shape[1], torch.float32), whole)
    whole = torch.randint(-127, 128, shape).float()
    whole[:, ::64] = 127
    torch.testing.assert_close(dequantize_int8(*quantize_int8(whole), torch.float32), whole)


@pytest.mark.parametrize("value", [0.0, 1e-20, 3.0, -1e4])
def test_constant_and_empty_rows_are_kept(value: float) -> None:
    weight = torch.full((3, 130), value)
    weight[1] = 0
    for found in (
        dequantize_int8(*quantize_int8(weight), torch.float32),
        dequantize_int4(*quantize_int4(weight, 64), 130, torch.float32),
    ):
        torch.testing.assert_close(found, weight, rtol=0.01, atol=1e-12)


def test_weights_that_are_not_finite_are_refused() -> None:
    weight = torch.ones(4, 128)
    weight[2, 3] = torch.nan
    for quantize in (quantize_int8, lambda each: quantize_int4(each, 64)):
        with pytest.raises(ValueError, match="NaN or infinite"):
            quantize(weight)


# -- linears -------------------------------------------------------------------------------------------------------


def layer(kind: str, inputs: int, outputs: int, bias: bool = True) -> QuantizedLinear:
    torch.manual_seed(1)
    more = torch.randn(outputs) if bias else None
    made = Int8Linear(inputs, outputs, more) if kind == "int8" else Int4Linear(inputs, outputs, more)
    made.store(torch.randn(outputs, inputs) * 0.02, torch.device("cpu"))
    return made


SIZES = [(128, 64), (256, 48), (130, 33), (50, 7), (64, 1), (1, 5), (320, 16)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 2, 5, 9, 13, 30, 60])
@pytest.mark.parametrize("kind", ["int8", "int4"])
@torch.no_grad()
def test_every_path_multiplies_the_stored_weights(engine: str, kind: str, rows: int, dtype: torch.dtype) -> None:
    for inputs, outputs in SIZES:
        linear = layer(kind, inputs, outputs)
        x = torch.randn(rows, inputs).to(dtype)
        wanted = F.linear(x.double(), linear.dequantize(torch.float32).double(), linear.bias.double())
        found = linear(x)
        assert found.dtype == dtype and found.shape == wanted.shape
        room = x.double().norm(dim=1)[:, None] * linear.dequantize(torch.float32).double().norm(dim=1) * 0.03
        assert ((found - wanted).abs() <= room + wanted.abs() * 2**-7).all()
        assert torch.equal(linear(x.view(1, rows, inputs)), found[None])


@pytest.mark.parametrize("rows", [1, 8, 96])
@pytest.mark.parametrize("draws", ["normal", "heavy"])
@torch.no_grad()
def test_int8_errs_by_less_than_one_percent(engine: str, draws: str, rows: int) -> None:
    """Product against product of what was stored, whoever multiplies: one row, a few, a prompt."""
    weight, x = draw(draws, (128, 4096)), torch.randn(96, 4096)
    linear = Int8Linear(4096, 128)
    linear.store(weight, torch.device("cpu"))
    found = torch.cat([linear(each) for each in x.split(rows)])
    assert error(found, F.linear(x, weight)) < 0.01


@pytest.mark.parametrize("rows", [8, 96])
@pytest.mark.parametrize("draws", ["normal", "heavy", "laplace", "uniform"])
@torch.no_grad()
def test_int4_errs_by_less_than_nf4(engine: str, draws: str, rows: int) -> None:
    weight, x = draw(draws, (128, 4096)), torch.randn(96, 4096).bfloat16()
    linear = Int4Linear(4096, 128)
    linear.store(weight, torch.device("cpu"))
    exact = F.linear(x.float(), weight)
    found = torch.cat([linear(each) for each in x.split(rows)])
    assert error(found, exact) < error(F.linear(x.float(), nf4(weight)), exact)


@pytest.mark.parametrize("rows", [1, 40, 70])
@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@torch.no_grad()
def test_a_bad_row_spoils_only_itself(engine: str, kind: str, rows: int, bad: float) -> None:
    linear = layer(kind, 128, 64)
    x = torch.randn(rows + 1, 128).bfloat16()
    clean = linear(x)[1:]
    x[0, 7] = bad
    found = linear(x)
    assert not torch.isfinite(found[0]).any()
    torch.testing.assert_close(found[1:], clean, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_gradients_flow_through_to_the_input(kind: str) -> None:
    linear = layer(kind, 128, 64)
    x = torch.randn(3, 128, requires_grad=True)
    (found,) = torch.autograd.grad(linear(x).sum(), x)
    torch.testing.assert_close(found, linear.dequantize(torch.float32).sum(0).expand(3, 128))
    assert not list(filter(lambda each: each.requires_grad, linear.parameters()))


@pytest.mark.parametrize("kind", ["int8", "int4"])
@torch.no_grad()
def test_casts_leave_codes_and_scales(kind: str) -> None:
    linear, x = layer(kind, 128, 64), torch.randn(2, 128)
    before = {name: tensor.clone() for name, tensor in linear.named_buffers()}
    wanted = linear(x)
    linear.half().bfloat16().float()
    for name, tensor in linear.named_buffers():
        assert tensor.dtype == before[name].dtype and torch.equal(tensor, before[name])
    torch.testing.assert_close(linear(x), wanted, rtol=0, atol=0.02)  # the bias was rounded
    assert linear.to("meta").weight.is_meta


@pytest.mark.parametrize("made", [Tensor.float, Tensor.half, lambda scale: scale.t().contiguous().t()])
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_scales_of_other_dtypes_or_strides_may_be_assigned(kind: str, made: Callable[[Tensor], Tensor]) -> None:
    linear, x = layer(kind, 128, 8), torch.randn(2, 128)
    wanted = linear(x)
    state = {name: made(value) if "scale" in name else value for name, value in linear.state_dict().items()}
    linear.load_state_dict(state, assign=True)
    assert torch.equal(linear(x), wanted)


# -- models --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["opt", "t5"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = onlooker.Blip2ForConditionalGeneration(onlooker.Blip2Config(**blip2_config(3, request.param))).eval()
    randomize(model, 3, std=0.1)
    model.tie_weights()
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return folder


def load(folder: Path, **options: Any) -> Any:
    return onlooker.Blip2ForConditionalGeneration.from_pretrained(folder, **{"dtype": torch.float32, **options})


def kinds(model: torch.nn.Module) -> dict[str, str]:
    return {path: module.kind for path, module in model.named_modules() if isinstance(module, QuantizedLinear)}


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    more = {"decoder_input_ids": torch.tensor([[0, 5, 6]])} if model.config.text_config.model_type == "t5" else {}
    return model(pixel_values=pixels(1), input_ids=prompt(model.config, 1, 5), **more).logits


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_the_layers_of_the_language_model_and_nothing_else(checkpoint: Path, kind: str) -> None:
    model = load(checkpoint, quantization=kind)
    found = kinds(model)
    linears = [path for path, module in load(checkpoint).named_modules() if isinstance(module, torch.nn.Linear)]
    wanted = {path for path in linears if path.startswith("language_model.") and not path.endswith("lm_head")}
    assert set(found) == wanted - {path for path in wanted if "project_" in path}
    assert set(found.values()) == {kind}
    assert model.config.quantization_config == {"quant_method": "onlooker", **vars(WeightQuantization(language=kind))}


def test_vision_and_qformer_are_quantised_when_asked(checkpoint: Path) -> None:
    model = load(checkpoint, quantization={"language": "int4", "vision": "int8", "qformer": "int8"})
    parts = {path.split(".")[0]: kind for path, kind in kinds(model).items()}
    assert parts == {"language_model": "int4", "vision_model": "int8", "qformer": "int8"}
    full = logits(load(checkpoint))
    assert torch.cosine_similarity(logits(model).flatten(), full.flatten(), dim=0) > 0.9


@pytest.mark.parametrize("quantization", ["int8", "int4", {"language": "int4", "vision": "int8", "group_size": 128}])
def test_saved_and_loaded_again_it_is_the_same_model(checkpoint: Path, quantization: Any, tmp_path: Path) -> None:
    model = load(checkpoint, quantization=quantization)
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert kinds(again) == kinds(model)
    state, other = model.state_dict(), again.state_dict()
    assert list(state) == list(other)
    assert all(torch.equal(state[name], other[name]) and state[name].dtype == other[name].dtype for name in state)
    assert torch.equal(logits(again), logits(model))
    stored = load_file(tmp_path / "model.safetensors")
    assert {stored[f"{path}.weight"].dtype for path in kinds(model)} <= {torch.int8, torch.uint8}
    again.save_pretrained(tmp_path / "twice")
    assert (tmp_path / "twice" / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_a_cast_while_loading_leaves_codes_and_scales(checkpoint: Path, tmp_path: Path) -> None:
    load(checkpoint, quantization="int8").save_pretrained(tmp_path)
    model = load(tmp_path, dtype=torch.bfloat16)
    linear = next(module for module in model.modules() if isinstance(module, Int8Linear))
    assert linear.weight_scale.dtype == torch.bfloat16
    assert model.dtype == torch.bfloat16


def test_weights_are_rounded_from_what_is_stored(checkpoint: Path) -> None:
    """Not from a cast of it: the codes do not depend on the dtype that the rest is loaded in."""
    one, other = (load(checkpoint, quantization="int4", dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    for path in kinds(one):
        assert torch.equal(one.get_submodule(path).weight, other.get_submodule(path).weight)


def test_a_part_of_a_quantised_checkpoint_loads(checkpoint: Path, tmp_path: Path) -> None:
    load(checkpoint, quantization={"language": "int8", "vision": "int8"}).save_pretrained(tmp_path)
    whole = load(tmp_path)
    tower = onlooker.Blip2VisionModel.from_pretrained(tmp_path, dtype=torch.float32)
    assert set(kinds(tower).values()) == {"int8"}
    assert torch.equal(tower(pixels(1)).last_hidden_state, whole.vision_model(pixels(1)).last_hidden_state)
    assert not kinds(onlooker.Blip2QFormerModel.from_pretrained(tmp_path, dtype=torch.float32))


def test_it_generates(checkpoint: Path) -> None:
    model = load(checkpoint, quantization="int4", dtype=None)
    ids = model.generate(pixel_values=pixels(1), input_ids=prompt(model.config, 1, 4), max_new_tokens=3, num_beams=2)
    assert len(ids) == 1


def test_wrong_options_say_what_is_wrong(checkpoint: Path, tmp_path: Path) -> None:
    for wrong, words in (
        ("int3", "it may be 'int8', 'int4'"),
        ({"eyes": "int8"}, "parts are language, vision, qformer"),
        ({"language": "int4", "group_size": 32}, "64 or 128"),
    ):
        with pytest.raises(ValueError, match=words):
            load(checkpoint, quantization=wrong)
    with pytest.raises(ValueError, match="exclude each other"):
        load(checkpoint, quantization="int8", load_in_4bit=True)
    with pytest.raises(ValueError, match="has no linears"):
        onlooker.Blip2VisionModel.from_pretrained(checkpoint, quantization="int8")
    load(checkpoint, quantization="int8").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="stored quantised"):
        load(tmp_path, quantization="int4")
    assert kinds(load(tmp_path, quantization="int8"))


def test_checkpoints_of_other_quantisers_are_still_refused(checkpoint: Path, tmp_path: Path) -> None:
    model = load(checkpoint)
    model.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="saved quantised"):
        load(tmp_path)


def test_the_report_names_dtype_bytes_and_kernel_of_every_linear(checkpoint: Path) -> None:
    model = load(checkpoint, quantization={"language": "int4", "vision": "int8"})
    report = {each.path: each for each in onlooker.weight_report(model)}
    for path, kind in kinds(model).items():
        module = model.get_submodule(path)
        assert report[path].dtype == kind and report[path].shape == (module.out_features, module.in_features)
        assert report[path].bytes == sum(tensor.nbytes for tensor in module.state_dict().values())
        assert report[path].kernel in ("native", "torch packed")
    eyes = SimpleNamespace(model=model)  # what an `Onlooker` has
    assert onlooker.weight_report(eyes) == list(report.values())
    assert report["language_projection"].dtype == "float32" and report["language_projection"].kernel == "torch"
