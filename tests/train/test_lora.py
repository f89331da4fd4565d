"""Adapters: where they go, that peft and the reference read them, and that merged is the same."""

import json

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

import onlooker
from onlooker.errors import ModelNotFoundError
from onlooker.pretrained.adapter import load_adapter, merge_adapter, peft_of
from onlooker.train.loop import train
from onlooker.train.lora import add_lora, preset
from onlooker.train.stages import Blip2Generative, InstructionTuning, VideoLlavaTuning, wake_queries
from tests.compare import assert_close
from tests.train.small import blip2, instructblip, language_batch, video_llava
from tests.train.test_loop import rows_of, settings, stack
from tests.train.test_stages import fit

FAMILIES = {
    "blip2-opt": (lambda: blip2("opt"), Blip2Generative, "language"),
    "blip2-t5": (lambda: blip2("t5"), Blip2Generative, "all"),
    "instructblip-llama": (lambda: instructblip("llama"), InstructionTuning, "language"),
    "instructblip-qformer": (lambda: instructblip("t5"), InstructionTuning, "qformer"),
    "video-llava": (video_llava, VideoLlavaTuning, "language"),
}


def base_of(name: str):
    """The same model each time; its queries have values already."""
    model = FAMILIES[name][0]()
    wake_queries(model)
    return model


def adapted(name: str, **options):
    _, stage_class, where = FAMILIES[name]
    model = add_lora(base_of(name), where, rank=4, **options)
    return stage_class(model), language_batch(model)


@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_learn_and_nothing_else_does(name):
    stage, batch = adapted(name)
    before = {key: p.detach().clone() for key, p in stage.model.named_parameters()}
    first, last = fit(stage, batch, steps=12)
    assert last < first
    moved = {key for key, p in stage.model.named_parameters() if not torch.equal(p, before[key])}
    assert moved and all("lora_" in key or "modules_to_save" in key for key in moved)
    assert any("modules_to_save" in key for key in moved)
    towers = [key for key in moved if "tower" in key or "vision_model" in key or "lm_head" in key]
    assert not towers
    assert any("qformer" in key for key in moved) == (FAMILIES[name][2] != "language")
    assert any("language_model" in key for key in moved) == (FAMILIES[name][2] != "qformer")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_adapter_on_a_fresh_model_answers_as_the_trained_one(name, tmp_path):
    stage, batch = adapted(name)
    fit(stage, batch, steps=5)
    stage.save(tmp_path)
    stage.eval()
    trained = stage(**batch)["loss"]
    beside, merged = load_adapter(base_of(name), tmp_path, merge=False), load_adapter(base_of(name), tmp_path)
    plain = type(stage)(base_of(name)).eval()
    assert (plain(**batch)["loss"] - trained).abs() > 1e-3
    assert peft_of(merged) is None and not any("lora_" in key for key in merged.state_dict())
    for model in (beside, merged):
        model.eval()
        assert_close(model(**batch, use_cache=False).loss, trained, tolerance=1e-5)
    merge_adapter(stage.model)
    assert set(stage.model.state_dict()) == set(base_of(name).state_dict())
    assert_close(stage(**batch)["loss"], trained, tolerance=1e-5)


def test_the_reference_with_peft_reads_the_adapter_under_published_names(tmp_path):
    stage, batch = adapted("video-llava", base="LanguageBind/Video-LLaVA-7B-hf")
    fit(stage, batch, steps=3)
    stage.save(tmp_path)
    names = load_file(tmp_path / "adapter_model.safetensors")
    assert "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight" in names
    assert "base_model.model.model.multi_modal_projector.linear_1.weight" in names
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == "LanguageBind/Video-LLaVA-7B-hf" and written["r"] == 4
    values = stage.model.config.to_dict()
    theirs = transformers.VideoLlavaForConditionalGeneration(
        transformers.VideoLlavaConfig(**values, attn_implementation="eager")
    )
    theirs.load_state_dict(video_llava().state_dict(), strict=True)
    theirs = peft.PeftModel.from_pretrained(theirs, str(tmp_path)).eval()
    stage.eval()
    mask = batch["attention_mask"].bool()
    with torch.no_grad():
        ours = stage.model(**{k: v for k, v in batch.items() if k != "labels"}, use_cache=False).logits
        assert_close(
            ours, theirs(**{k: v for k, v in batch.items() if k != "labels"}).logits, keep=mask, tolerance=1e-4
        )


def test_a_run_with_adapters_resumes_and_ends_with_an_adapter(tmp_path):
    ends = []
    for name in ("whole", "parts"):
        for minutes in [None] if name == "whole" else [0.0, None]:
            torch.manual_seed(3)
            stage, batch = adapted("blip2-opt")
            options = settings(tmp_path / name, steps=3, max_minutes=minutes, average=0.9)
            outcome = train(stage, rows_of(batch), stack, options, resume=True)
        ends.append((outcome.model / "adapter_model.safetensors").read_bytes())
    assert ends[0] == ends[1]
    assert not (outcome.model / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda path: preset(video_llava(), "qformer"), "adapters may go to language, not 'qformer'"),
        (lambda path: add_lora(adapted("blip2-opt")[0].model), "carries adapters already"),
        (lambda path: merge_adapter(blip2()), "carries no adapter"),
        (lambda path: load_adapter(blip2(), path), "has no adapter_config.json"),
    ],
)
def test_what_cannot_be_is_said(build, message, tmp_path):
    with pytest.raises((ValueError, ModelNotFoundError), match=message):
        build(tmp_path)


def test_the_presets_of_published_sizes_reach_every_linear_layer_of_the_language_model():
    with torch.device("meta"):
        model = onlooker.VideoLlavaForConditionalGeneration(onlooker.VideoLlavaConfig())
        add_lora(model)
    layers = {name.rsplit(".lora_A", 1)[0] for name, _ in model.named_parameters() if ".lora_A." in name}
    assert len(layers) == 32 * 7 and all(name.startswith("model.language_model.layers.") for name in layers)
    assert (peft_of(model).peft_config["default"].r, peft_of(model).peft_config["default"].lora_alpha) == (128, 256)


@pytest.mark.filterwarnings("ignore")  # bitsandbytes warns of many things
def test_quantised_models_learn_through_adapters(tmp_path):
    model = blip2("opt", width=64)  # the CPU kernels of bitsandbytes want widths of 64
    wake_queries(model)
    model.save_pretrained(tmp_path)
    quantization = onlooker.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")

    def quantised():
        return type(model).from_pretrained(tmp_path, quantization_config=quantization, torch_dtype=torch.float32)

    with pytest.raises(ValueError, match="is quantised and cannot learn"):
        Blip2Generative(quantised())
    stage = Blip2Generative(add_lora(quantised(), rank=4))
    batch = language_batch(stage.model)
    first, last = fit(stage, batch, steps=8)
    assert last < first
    assert all("lora_" in name for name in stage.learns)
    stage.save(tmp_path / "adapter")
    again = load_adapter(quantised(), tmp_path / "adapter")
    ours, trained = again.eval()(**batch, use_cache=False).loss, stage.eval()(**batch)["loss"]
    assert_close(ours, trained, tolerance=1e-2)  # its kernels for inference round in another place
