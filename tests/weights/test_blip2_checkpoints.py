"""BLIP-2 checkpoints travel between this package and transformers, whole and in parts."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import onlooker
from onlooker.errors import CheckpointError
from onlooker.weights.policy import describe_dtypes
from tests.tiny import blip2_config, pixels, prompt, randomize


def theirs_of(name: str, seed: int, **options: Any) -> Any:
    values = blip2_config(seed, **options)
    values["qformer_config"]["position_embedding_type"] = "absolute"
    if "Retrieval" in name or "Projection" in name:
        values["qformer_config"]["use_qformer_text_input"] = True
    model = getattr(transformers, name)(transformers.Blip2Config(**values)).eval()
    randomize(model, seed)
    model.tie_weights()
    return model


@pytest.fixture(scope="module", params=["opt", "t5"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    theirs_of("Blip2ForConditionalGeneration", 11, text=request.param).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def retrieval_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("retrieval")
    theirs_of("Blip2ForImageTextRetrieval", 12).save_pretrained(path)
    return path


@torch.no_grad()
def answer(model: Any) -> torch.Tensor:
    """The main output, whatever the class: logits, scores, embeddings or features."""
    name = type(model).__name__
    if name.endswith(("VisionModel", "VisionModelWithProjection")):
        return model(pixels(2))[0]
    ids = prompt(model.config, 2, 5)
    if name == "Blip2TextModelWithProjection":
        return model(ids[:, -5:])[0]
    if "Retrieval" in name:
        return model(pixels(2), ids, use_image_text_matching_head=True).logits_per_image
    more = {}
    if model.config.text_config.model_type == "t5":
        more = {"decoder_input_ids": torch.tensor([[0, 5, 6], [0, 7, 8]])}
    return model(pixel_values=pixels(2), input_ids=ids, **more).logits


GENERATING = ["Blip2ForConditionalGeneration", "Blip2Model"]
RETRIEVING = ["Blip2ForImageTextRetrieval", "Blip2TextModelWithProjection", "Blip2VisionModelWithProjection"]


@pytest.mark.parametrize("text", ["opt", "t5"])
@pytest.mark.parametrize("name", [*GENERATING, *RETRIEVING])
def test_what_either_side_saves_the_other_loads(tmp_path: Path, name: str, text: str) -> None:
    theirs = theirs_of(name, 5, text=text)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = getattr(onlooker, name).from_pretrained(tmp_path / "theirs", strict=True)
    torch.testing.assert_close(answer(ours), answer(theirs), atol=1e-4, rtol=1e-4)
    ours.save_pretrained(tmp_path / "ours")
    again, info = getattr(transformers, name).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert torch.equal(answer(again.eval()), answer(theirs))
    written, wanted = (set(load_file(tmp_path / who / "model.safetensors")) for who in ("ours", "theirs"))
    assert written == wanted


@pytest.mark.parametrize("name", ["Blip2VisionModel", "Blip2QFormerModel"])
def test_parts_load_from_a_composite_folder_and_travel_alone(folder: Path, tmp_path: Path, name: str) -> None:
    whole = onlooker.Blip2ForConditionalGeneration.from_pretrained(folder)
    part = getattr(onlooker, name).from_pretrained(folder, strict=True)
    wanted = getattr(whole, part.base_model_prefix).state_dict()
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in part.state_dict().items())
    part.save_pretrained(tmp_path)
    again = getattr(transformers, name).from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in part.state_dict().items())


def test_language_models_load_from_a_composite_folder(folder: Path) -> None:
    text = json.loads((folder / "config.json").read_text())["text_config"]["model_type"]
    right, wrong = onlooker.OPTForCausalLM, onlooker.T5ForConditionalGeneration
    if text == "t5":
        right, wrong = wrong, right
    whole = onlooker.Blip2ForConditionalGeneration.from_pretrained(folder)
    part = right.from_pretrained(folder, strict=True)
    assert torch.equal(part.get_input_embeddings().weight, whole.get_input_embeddings().weight)
    assert part.tied_weights().keys() == whole.language_model.tied_weights().keys()
    with pytest.raises(CheckpointError, match=f"model_type '{text}'"):
        wrong.from_pretrained(folder)


def test_a_checkpoint_without_a_part_names_the_kind_that_has_it(folder: Path, retrieval_folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"itm_head: found in retrieval checkpoints, such as Salesforce"):
        onlooker.Blip2ForImageTextRetrieval.from_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"language_model: found in checkpoints that generate text"):
        onlooker.Blip2ForConditionalGeneration.from_pretrained(retrieval_folder)


def test_float16_keeps_the_qformer_and_bfloat16_casts_everything(folder: Path) -> None:
    cls = onlooker.Blip2ForConditionalGeneration
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        half, theirs = cls.from_pretrained(folder, dtype="fp16"), _theirs(folder, torch.float16)
    for name, parameter in half.named_parameters():
        wanted = theirs[name].dtype if not name.endswith(".wo.weight") else torch.float32
        assert parameter.dtype == wanted, name
    assert {parameter.dtype for parameter in cls.from_pretrained(folder, dtype="bf16").parameters()} == {torch.bfloat16}


def _theirs(folder: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return dict(transformers.Blip2ForConditionalGeneration.from_pretrained(folder, dtype=dtype).named_parameters())


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "reference", "default", {"": "fp32", "vision_model": "bf16"}])
def test_every_policy_gives_nearly_the_float32_answer(folder: Path, dtype) -> None:
    cls = onlooker.Blip2ForConditionalGeneration
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = cls.from_pretrained(folder, dtype=dtype)
    wanted, given = answer(cls.from_pretrained(folder)), answer(model).float()
    assert torch.cosine_similarity(wanted.flatten(), given.flatten(), dim=0) > 0.99


def test_the_reference_policy_gives_each_part_the_dtype_it_was_trained_in(folder: Path) -> None:
    model = onlooker.Blip2ForConditionalGeneration.from_pretrained(folder, dtype="reference")
    text = model.config.text_config.model_type
    assert describe_dtypes(model) == (
        "query_tokens float32, vision_model float16, qformer float32, language_projection float32, "
        f"language_model {'bfloat16' if text == 't5' else 'float16'}"
    )


def test_t5_in_float16_warns_once_and_names_bfloat16(folder: Path) -> None:
    is_t5 = json.loads((folder / "config.json").read_text())["text_config"]["model_type"] == "t5"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        onlooker.Blip2ForConditionalGeneration.from_pretrained(folder, torch_dtype=torch.float16)
        onlooker.Blip2ForConditionalGeneration.from_pretrained(folder, torch_dtype=torch.bfloat16)
    assert [("bfloat16" in str(warning.message)) for warning in caught] == [True] * is_t5


def test_generation_settings_are_saved_for_others_and_start_from_the_text_configuration(
    folder: Path, tmp_path: Path
) -> None:
    model = onlooker.Blip2ForConditionalGeneration.from_pretrained(folder)
    eos = model.config.text_config.eos_token_id
    assert model.generation_config.eos_token_id == eos
    model.generation_config.max_new_tokens = 7
    model.generation_config.eos_token_id = 5
    model.save_pretrained(tmp_path)
    assert transformers.GenerationConfig.from_pretrained(tmp_path).max_new_tokens == 7
    again = onlooker.Blip2ForConditionalGeneration.from_pretrained(tmp_path)
    assert again.generation_config.max_new_tokens is None
    assert again.generation_config.eos_token_id == eos


def test_t5_files_that_say_tied_but_hold_two_matrices_keep_both(tmp_path: Path) -> None:
    values = blip2_config(11, "t5")
    values["qformer_config"]["position_embedding_type"] = "absolute"
    values["text_config"]["tie_word_embeddings"] = False
    theirs = transformers.Blip2ForConditionalGeneration(transformers.Blip2Config(**values)).eval()
    randomize(theirs, 11)
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["tie_word_embeddings"] = True
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours = onlooker.Blip2ForConditionalGeneration.from_pretrained(tmp_path)
    torch.testing.assert_close(answer(ours), answer(theirs), atol=1e-4, rtol=1e-4)


def test_loading_does_not_wait_for_the_import_of_a_compiler(retrieval_folder: Path) -> None:
    load = f"import sys, onlooker; onlooker.Blip2ForImageTextRetrieval.from_pretrained({str(retrieval_folder)!r}); "
    command = [sys.executable, "-c", load + "print('sympy' in sys.modules)"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "False"


def test_old_files_with_all_tied_copies_load_without_a_word(folder: Path, tmp_path: Path) -> None:
    model = onlooker.Blip2ForConditionalGeneration.from_pretrained(folder)
    model.config.save_pretrained(tmp_path)
    torch.save({name: tensor.clone() for name, tensor in model.state_dict().items()}, tmp_path / "pytorch_model.bin")
    again = onlooker.Blip2ForConditionalGeneration.from_pretrained(tmp_path, strict=True)
    assert torch.equal(answer(again), answer(model))


@pytest.mark.parametrize("size", [36, 50])
def test_a_resized_vocabulary_keeps_ties_and_old_rows(folder: Path, tmp_path: Path, size: int) -> None:
    model = onlooker.Blip2ForConditionalGeneration.from_pretrained(folder)
    before = model.get_input_embeddings().weight.clone()
    embedding = model.resize_token_embeddings(size)
    rows = min(size, len(before))
    assert torch.equal(embedding.weight[:rows], before[:rows])
    if size > len(before):
        torch.testing.assert_close(embedding.weight[-1], before.mean(0))
    head = model.get_output_embeddings()
    assert head.weight.shape[0] == head.out_features == model.config.text_config.vocab_size == size
    tied = "language_model.lm_head.weight" in model.tied_weights()
    assert (head.weight is embedding.weight) == tied
    model.save_pretrained(tmp_path)
    again = transformers.Blip2ForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(again.get_input_embeddings().weight, embedding.weight)
    assert model.resize_token_embeddings(pad_to_multiple_of=64).num_embeddings == 64
    assert model.resize_token_embeddings() is embedding


def test_attention_back_ends_are_set_on_every_layer(folder: Path) -> None:
    cls = onlooker.Blip2ForConditionalGeneration
    eager = cls.from_pretrained(folder, attn_implementation="eager")
    found = {m.attn_implementation for m in eager.modules() if hasattr(m, "attn_implementation")}
    assert found == {"eager"}
    torch.testing.assert_close(answer(eager), answer(cls.from_pretrained(folder)), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="attn_implementation is 'quick'"):
        cls.from_pretrained(folder, attn_implementation="quick")
    if not torch.cuda.is_available():
        with pytest.raises(ImportError, match="flash_attention_2 needs .*sdpa"):
            cls.from_pretrained(folder, attn_implementation="flash_attention_2")


@pytest.mark.parametrize("place", ["vision_model", "language_model", "qformer"])
def test_a_part_left_on_disk_gives_the_same_answer(folder: Path, tmp_path: Path, place: str) -> None:
    cls = onlooker.Blip2ForConditionalGeneration
    parts = ["query_tokens", "vision_model", "qformer", "language_projection", "language_model"]
    model = cls.from_pretrained(folder, device_map={part: "disk" if part == place else "cpu" for part in parts})
    torch.testing.assert_close(answer(model), answer(cls.from_pretrained(folder)))
    model.save_pretrained(tmp_path)
    assert torch.equal(answer(cls.from_pretrained(tmp_path)), answer(cls.from_pretrained(folder)))


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("disk", ["lm_head", "model"])
def test_tied_matrices_may_lie_on_disk_and_in_memory(folder: Path, tmp_path: Path, disk: str, safe: bool) -> None:
    model = onlooker.AutoModel.from_pretrained(folder)
    cls = type(model.language_model)
    model.language_model.save_pretrained(tmp_path, safe_serialization=safe)
    parts = [name for name, _ in model.language_model.named_children()]
    if disk not in parts:
        pytest.skip("the other language model has this part")
    split = cls.from_pretrained(tmp_path, device_map={part: "disk" if part == disk else "cpu" for part in parts})
    ids = {"input_ids": torch.tensor([[4, 5, 6]])}
    if "shared" in parts:
        ids["decoder_input_ids"] = torch.tensor([[0, 7]])
    with torch.no_grad():
        torch.testing.assert_close(split(**ids).logits, cls.from_pretrained(tmp_path)(**ids).logits)


def test_a_module_with_two_names_is_not_split(tmp_path: Path) -> None:
    theirs_of("Blip2ForConditionalGeneration", 11, text="t5").save_pretrained(tmp_path)
    parts = {"shared": "cpu", "encoder": "disk", "decoder": "cpu", "lm_head": "cpu"}
    with pytest.raises(ValueError, match=r"leaves encoder\.embed_tokens on disk, .* are one module"):
        onlooker.T5ForConditionalGeneration.from_pretrained(tmp_path, device_map=parts)


def test_auto_placement_under_a_memory_limit_gives_the_same_answer(folder: Path) -> None:
    cls = onlooker.Blip2ForConditionalGeneration
    model = cls.from_pretrained(folder, device_map="auto", max_memory={"cpu": 60_000})
    assert "disk" in model.hf_device_map.values()
    torch.testing.assert_close(answer(model), answer(cls.from_pretrained(folder)))


def test_a_model_in_the_cache_loads_by_name_without_the_network(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was touched")

    commit = "a" * 40
    repo = tmp_path / "models--someone--blip2"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots").mkdir()
    (repo / "snapshots" / commit).symlink_to(folder, target_is_directory=True)
    monkeypatch.setattr("socket.socket.connect", refuse)
    model = onlooker.Blip2ForConditionalGeneration.from_pretrained(
        "someone/blip2", cache_dir=tmp_path, local_files_only=True
    )
    assert torch.equal(answer(model), answer(onlooker.Blip2ForConditionalGeneration.from_pretrained(folder)))


def test_gradient_checkpointing_reaches_every_stack_and_keeps_gradients(folder: Path) -> None:
    grads = []
    for enable in (False, True):
        model = onlooker.Blip2VisionModel.from_pretrained(folder)
        if enable:
            model.gradient_checkpointing_enable()
        model.train()
        model(pixels(1)).last_hidden_state.sum().backward()
        grads.append(model.embeddings.patch_embedding.weight.grad)
    torch.testing.assert_close(grads[0], grads[1])
    model.gradient_checkpointing_disable()
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def test_newer_config_spelling_of_the_dtype_is_read(folder: Path, tmp_path: Path) -> None:
    save_file(load_file(folder / "model.safetensors"), tmp_path / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config.pop("torch_dtype", None)
    (tmp_path / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    model = onlooker.Blip2ForConditionalGeneration.from_pretrained(tmp_path, dtype="auto")
    assert model.language_projection.weight.dtype == torch.bfloat16
