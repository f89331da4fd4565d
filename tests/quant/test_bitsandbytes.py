"""BitsAndBytesConfig means what it means in transformers: the same modules, the same outputs."""

from __future__ import annotations

import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import onlooker
from onlooker.quant.bnb import BitsAndBytesConfig
from tests.tiny import blip2_config, pixels, prompt, randomize, vision_config

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.filterwarnings("ignore")  # bitsandbytes and the reference warn of many things

EIGHT = {"load_in_8bit": True}
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
FP4 = {"load_in_4bit": True}
DOUBLE = {**NF4, "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": "bfloat16"}
# The CPU kernels of bitsandbytes want widths of 64.
WIDE = {"hidden_size": 64, "intermediate_size": 128}
TEXT = {
    "opt": {"hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 128, "vocab_size": 64, "init_std": 0.02},
    "t5": {"d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 128, "vocab_size": 64, "feed_forward_proj": "gated-gelu"},
}


@pytest.fixture(scope="module", params=["opt", "t5"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    values = blip2_config(3, request.param)
    values["vision_config"].update(WIDE)
    values["qformer_config"].update(WIDE, position_embedding_type="absolute")
    values["text_config"].update(TEXT[request.param])
    model = transformers.Blip2ForConditionalGeneration(transformers.Blip2Config(**values)).eval()
    randomize(model, 3, std=0.1)
    model.tie_weights()
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return request.param, folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision tower alone."""
    folder = tmp_path_factory.mktemp("vision")
    values = {**vision_config(random.Random(0)), **WIDE}
    onlooker.Blip2VisionModel(onlooker.Blip2VisionConfig(**values)).save_pretrained(folder)
    return folder


def load(package: Any, folder: Path, options: dict[str, Any], **more: Any) -> Any:
    config = package.BitsAndBytesConfig(**options)
    return package.Blip2ForConditionalGeneration.from_pretrained(folder, quantization_config=config, **more)


def quantized(model: torch.nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if type(module).__module__.startswith("bitsandbytes")}


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    ids = prompt(model.config, 2, 5)
    more = {"decoder_input_ids": torch.tensor([[0, 5, 6], [0, 7, 8]])} if model.config.is_encoder_decoder else {}
    if not more and model.config.text_config.model_type == "t5":
        more = {"decoder_input_ids": torch.tensor([[0, 5, 6], [0, 7, 8]])}
    return model(pixel_values=pixels(2), input_ids=ids, **more).logits


@pytest.mark.parametrize(
    ("options", "dtype"),
    [(EIGHT, torch.float32), (NF4, torch.float32), (FP4, torch.float32), (DOUBLE, torch.bfloat16), (EIGHT, None)],
    ids=["8bit", "nf4", "fp4", "double", "8bit-default"],
)
def test_the_same_modules_and_outputs_as_the_reference(checkpoint, options: dict[str, Any], dtype) -> None:
    text, folder = checkpoint
    if text == "t5" and "load_in_4bit" in options:
        # There the reference casts activations to uint8 in front of `wo`: it is left out on both sides.
        options = {**options, "llm_int8_skip_modules": ["lm_head", "wo"]}
    ours, theirs = load(onlooker, folder, options, dtype=dtype), load(transformers, folder, options, dtype=dtype)
    assert quantized(ours) == quantized(theirs)
    dtypes = {name: parameter.dtype for name, parameter in theirs.named_parameters()}
    assert {name: parameter.dtype for name, parameter in ours.named_parameters()} == dtypes
    # In 16 bits attention rounds in other places, quantised or not.
    wanted = logits(theirs).float()
    tolerance = 1e-6 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(
        logits(ours).float(), wanted, atol=tolerance * max(1.0, wanted.abs().max().item()), rtol=0
    )


def test_the_head_and_the_qformer_are_never_quantised(checkpoint) -> None:
    _, folder = checkpoint
    names = quantized(load(onlooker, folder, FP4))
    assert any(name.startswith("vision_model.") for name in names)
    assert "language_projection" in names
    assert not any("lm_head" in name or name.startswith("qformer") for name in names)


def test_t5_in_4_bits_stays_near_the_full_model(checkpoint) -> None:
    text, folder = checkpoint
    full = onlooker.Blip2ForConditionalGeneration.from_pretrained(folder)
    four = load(onlooker, folder, NF4, dtype=torch.float32)
    if text == "t5":
        assert any(name.endswith(".wo") for name in quantized(four))
    cosine = torch.cosine_similarity(logits(full).flatten(), logits(four).flatten(), dim=0)
    assert cosine > 0.9


def test_the_short_keywords_mean_the_default_config(checkpoint) -> None:
    _, folder = checkpoint
    cls = onlooker.Blip2ForConditionalGeneration
    for short in ("load_in_8bit", "load_in_4bit"):
        model = cls.from_pretrained(folder, **{short: True})
        assert torch.equal(logits(model), logits(load(onlooker, folder, {short: True})))
        assert getattr(model, f"is_{short.replace('load', 'loaded')}")
    with pytest.raises(ValueError, match="not both"):
        cls.from_pretrained(folder, load_in_4bit=True, quantization_config=BitsAndBytesConfig(load_in_4bit=True))


def test_a_quantised_model_generates_and_refuses_to_be_saved(checkpoint, tmp_path: Path) -> None:
    _, folder = checkpoint
    model = load(onlooker, folder, NF4, dtype=torch.float32)
    ids = prompt(model.config, 1, 4)
    assert model.generate(pixel_values=pixels(1), input_ids=ids, max_new_tokens=3).shape[0] == 1
    with pytest.raises(ValueError, match="save the original"):
        model.save_pretrained(tmp_path)


def test_skip_modules_replace_the_default_choice(checkpoint) -> None:
    _, folder = checkpoint
    model = load(onlooker, folder, {**FP4, "llm_int8_skip_modules": ["vision_model", "lm_head"]})
    assert not any(name.startswith("vision_model") for name in quantized(model))
    with pytest.raises(ValueError, match="No linear layer is left"):
        everything = ["vision_model", "language_model", "language_projection"]
        load(onlooker, folder, {**FP4, "llm_int8_skip_modules": everything})


def test_a_part_without_a_head_can_be_quantised(small: Path) -> None:
    model = onlooker.Blip2VisionModel.from_pretrained(small, load_in_8bit=True, dtype=torch.float32)
    assert len(quantized(model)) == 4 * model.config.num_hidden_layers
    assert torch.isfinite(model(pixels(1)).last_hidden_state).all()


def test_fields_and_defaults_are_those_of_the_reference() -> None:
    for options in ({}, EIGHT, NF4, DOUBLE, {**FP4, "bnb_4bit_quant_storage": torch.bfloat16}):
        theirs = transformers.BitsAndBytesConfig(**options)
        wanted = {name: value for name, value in theirs.to_dict().items() if not name.startswith("_")}
        ours = BitsAndBytesConfig(**options)
        assert ours.to_dict() == wanted
        assert ours.quantization_method() == theirs.quantization_method()
        assert ours.is_quantizable() == theirs.is_quantizable()
        assert BitsAndBytesConfig.from_dict(theirs.to_dict()).to_dict() == wanted
    assert BitsAndBytesConfig(**NF4).to_diff_dict() == {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"load_in_8bit": True, "load_in_4bit": True}, ValueError),
        ({"load_in_8bit": 1}, TypeError),
        ({"llm_int8_threshold": 6}, TypeError),
        ({"llm_int8_skip_modules": "lm_head"}, TypeError),
        ({"bnb_4bit_compute_dtype": "float15"}, ValueError),
        ({"bnb_4bit_quant_storage": "int4"}, ValueError),
        ({"bnb_4bit_typo": True}, TypeError),
    ],
)
def test_wrong_fields_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        BitsAndBytesConfig(**options)


def test_without_bitsandbytes_the_error_says_what_to_type(small: Path) -> None:
    code = f"""
import sys
sys.modules["bitsandbytes"] = None
import onlooker
onlooker.BitsAndBytesConfig(load_in_4bit=True)
onlooker.Blip2VisionModel.from_pretrained({str(small)!r}, load_in_4bit=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert "bitsandbytes is not installed" in last
    assert "pip install 'onlooker[quant]'" in last


def test_loading_without_quantisation_does_not_import_bitsandbytes(small: Path) -> None:
    code = f"""
import sys, onlooker
onlooker.Blip2VisionModel.from_pretrained({str(small)!r})
assert not {{"bitsandbytes", "accelerate", "transformers", "huggingface_hub"}} & set(sys.modules), "imported"
"""
    with warnings.catch_warnings():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
