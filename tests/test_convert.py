"""`onlooker.convert`: checkpoints of other layouts and times become folders that answer as they did."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import onlooker
from examples.random_checkpoint import write_checkpoint
from onlooker.cli import main
from onlooker.convert import convert
from onlooker.errors import CheckpointError
from onlooker.weights.reading import find_weights
from tests import standins
from tests.text import trained
from tests.tiny import pixels

KINDS = {
    "blip2_opt": "Blip2ForConditionalGeneration",
    "blip2_t5": "Blip2ForConditionalGeneration",
    "blip2_vicuna_instruct": "InstructBlipForConditionalGeneration",
    "blip2_t5_instruct": "InstructBlipForConditionalGeneration",
    "blip2_qformer": "Blip2ForImageTextRetrieval",
}


@torch.no_grad()
def answer(model: Any, kind: str, rows: int) -> torch.Tensor:
    """Scores over the first `rows` tokens, with placeholders as the model's own config has them."""
    words = torch.tensor([[5, 9, 30, 7], [8, 6, 40, 2]])
    options: dict[str, Any]
    pictures = pixels(2, height=16, width=16)
    if kind == "blip2_qformer":
        options = {"attention_mask": torch.ones_like(words), "use_image_text_matching_head": True}
        return model(pixel_values=pictures, input_ids=words, **options).logits_per_image
    options = {"pixel_values": pictures}
    if "instruct" in kind:
        options["qformer_input_ids"] = words
    if model.config.text_config.model_type == "t5":
        options["decoder_input_ids"] = torch.tensor([[0, 5, 6], [0, 7, 8]])
    token = model.config.image_token_index
    model.config.image_token_index = token if token is not None else rows - 1
    places = torch.full((2, 3), model.config.image_token_index)
    logits = model(input_ids=torch.cat([places, words], 1), **options).logits[..., :rows]
    model.config.image_token_index = token
    return logits


def rows_of(kind: str) -> int:
    text = {"opt": "opt", "t5": "t5", "cuna": "llama"}
    return next((standins.LANGUAGE[value]["vocab_size"] for key, value in text.items() if key in kind), 0)


@pytest.mark.parametrize("tower", ["inside", "beside"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_lavis_file_answers_as_the_model_it_was_made_of(kind: str, tower: str, tmp_path: Path) -> None:
    theirs = standins.reference_of(kind)
    if tower == "beside":
        theirs.vision_model.encoder.half().float()  # the second file holds half the digits
        theirs.vision_model.embeddings.half().float()
    files = standins.write_lavis(tmp_path, theirs, kind, tower=tower, bare=tower == "beside")
    made = convert(files.pop("source"), tmp_path / "new", **files)
    assert made.model_class == KINDS[kind]
    assert {tensor.dtype for tensor in find_weights(tmp_path / "new").values()} == {torch.float32}
    wanted = answer(theirs, kind, rows_of(kind))
    for library in (onlooker, transformers):
        model = getattr(library, KINDS[kind]).from_pretrained(tmp_path / "new").eval()
        torch.testing.assert_close(answer(model, kind, rows_of(kind)), wanted, atol=1e-4, rtol=1e-4)
    leftover = {"temp", "Qformer.cls.predictions.bias", "Qformer.bert.embeddings.position_ids"}
    assert leftover <= set(made.dropped)
    for extra in ("visual_encoder.head.weight", "visual_encoder.blocks.39.attn.q_bias"):
        assert (extra in made.dropped) == (tower == "beside")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "blip2_qformer"])
def test_a_converted_lavis_folder_is_complete(kind: str, tmp_path: Path) -> None:
    files = standins.write_lavis(tmp_path, standins.reference_of(kind), kind)
    made = convert(files.pop("source"), tmp_path / "new", **files, max_shard_size="20KB")
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    processor = onlooker.AutoProcessor.from_pretrained(tmp_path / "new")
    size = processor.image_processor.size
    assert (size["height"], size["width"]) == (16, 16)
    assert processor.num_query_tokens == config["num_query_tokens"] == 3
    placeholder = getattr(processor, "image_token_id", None) or processor.video_token_id
    assert config["image_token_index"] == placeholder == made.placeholders["image_token_index"]
    assert made.token_rows % 64 == 0 and made.token_rows > placeholder
    assert config["text_config"]["vocab_size"] == made.token_rows
    assert (tmp_path / "new" / "model.safetensors.index.json").exists()
    ids = processor.tokenizer
    if "opt" in kind:
        assert config["text_config"]["eos_token_id"] == ids("\n", add_special_tokens=False)["input_ids"][0]
    if "t5" in kind:
        assert config["text_config"]["dense_act_fn"] == "gelu"
    if "vicuna" in kind:
        assert (ids.bos_token, ids.eos_token, ids.unk_token, ids.pad_token) == ("</s>", "</s>", "</s>", "[PAD]")
        assert ids("a cat")["input_ids"][0] == ids.eos_token_id and ids.pad_token_id == 450 == placeholder - 1
        assert config["text_config"]["pad_token_id"] == 450
        generation = json.loads((tmp_path / "new" / "generation_config.json").read_text())
        assert generation["pad_token_id"] == 450
    if "instruct" in kind:
        assert processor.qformer_tokenizer.bos_token_id == standins.BERT_ROWS - 1
        assert ids.truncation_side == processor.qformer_tokenizer.truncation_side == "left"


def test_the_reference_reads_the_processor_of_a_converted_folder(tmp_path: Path) -> None:
    files = standins.write_lavis(tmp_path, standins.reference_of("blip2_opt"), "blip2_opt")
    convert(files.pop("source"), tmp_path / "new", **files)
    theirs = transformers.Blip2Processor.from_pretrained(tmp_path / "new")
    ours = onlooker.Blip2Processor.from_pretrained(tmp_path / "new")
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    given = [
        processor(images=picture, text="Question: how many cats? Answer:", return_tensors="pt")
        for processor in (ours, theirs)
    ]
    assert torch.equal(given[0]["input_ids"], given[1]["input_ids"])
    torch.testing.assert_close(given[0]["pixel_values"], given[1]["pixel_values"])


def test_position_tables_of_other_pictures_are_read_and_resized(tmp_path: Path) -> None:
    theirs = standins.reference_of("blip2_opt")
    files = standins.write_lavis(tmp_path, theirs, "blip2_opt")
    source = files.pop("source")
    convert(source, tmp_path / "larger", image_size=28, **files)
    model = onlooker.Blip2ForConditionalGeneration.from_pretrained(tmp_path / "larger")
    assert model.config.vision_config.image_size == 28
    picture = pixels(1, height=28, width=28)
    with torch.no_grad():
        wanted = theirs.vision_model(picture, interpolate_pos_encoding=True).last_hidden_state
        torch.testing.assert_close(model.vision_model(picture).last_hidden_state, wanted, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="image_size 30 is no multiple of the patches' 4 pixels"):
        convert(source, tmp_path / "odd", image_size=30, **files)
    assert not (tmp_path / "odd").exists()


def test_what_a_lavis_file_lacks_is_asked_for_by_option(tmp_path: Path) -> None:
    theirs = standins.reference_of("blip2_vicuna_instruct")
    files = standins.write_lavis(tmp_path, theirs, "blip2_vicuna_instruct", tower="beside")
    source = files.pop("source")
    for option in files:
        rest = {name: value for name, value in files.items() if name != option}
        with pytest.raises(CheckpointError, match=f"--{option.replace('_', '-')} "):
            convert(source, tmp_path / "new", **rest)
    other = standins.write_language(tmp_path / "other", standins.reference_of("blip2_opt").language_model, "opt")
    with pytest.raises(CheckpointError, match="is a opt model; this file was trained with llama"):
        convert(source, tmp_path / "new", **files | {"language_model": other})
    wide = transformers.LlamaForCausalLM(transformers.LlamaConfig(**standins.LANGUAGE["llama"] | {"hidden_size": 32}))
    wide.save_pretrained(tmp_path / "wide")
    trained.llama(tmp_path / "wide")
    with pytest.raises(CheckpointError, match="width 16; the one given is 32 wide"):
        convert(source, tmp_path / "new", **files | {"language_model": tmp_path / "wide"})
    with pytest.raises(CheckpointError, match="a table of 210 words; the tokenizer given has 451"):
        convert(source, tmp_path / "new", **files | {"qformer_tokenizer": files["language_model"]})
    torch.save({"model": {"a.b": torch.ones(2)}}, tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match="is no LAVIS file of BLIP-2"):
        convert(tmp_path / "foreign.pth", tmp_path / "new")
    with pytest.raises(ValueError, match="a LAVIS file takes no form: leave it out"):
        convert(source, tmp_path / "new", form="hf")


class Trap:
    def __reduce__(self) -> Any:
        return (print, ("code ran",))


def test_a_pickle_with_code_in_it_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": {"query_tokens": torch.ones(1)}, "config": Trap()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="could run code"):
        convert(tmp_path / "evil.pth", tmp_path / "new")
    assert capsys.readouterr().out == ""


# -- the original Video-LLaVA ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    model = standins.paper_model()
    return model, standins.write_original(tmp_path_factory.mktemp("original"), model)


SIZES = {
    name: standins.paper_model().config.vision_config.to_dict()[name]
    for name in (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "patch_size",
        "image_size",
    )
}


def clip_and_prompt(frames: int = 8) -> dict[str, torch.Tensor]:
    clip = torch.randn(1, frames, 3, 14, 14, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[1, 7, *[451] * (5 * frames), 30, 31]])
    return {"input_ids": ids, "pixel_values_videos": clip}


@torch.no_grad()
def says(model: Any, **inputs: torch.Tensor) -> torch.Tensor:
    """Scores over the original vocabulary; the model that a stand-in is made of has no rows for placeholders."""
    if model.get_input_embeddings().num_embeddings == 450:
        model = standins.paper_model(
            frames=model.config.video_time_frames, hidden_act=model.config.vision_config.hidden_act
        )
        model.resize_token_embeddings(452)
    return model(**inputs).logits[..., :450]


def test_the_original_layout_loads_as_it_is(original: tuple[Any, Path]) -> None:
    model, folder = original
    loaded = onlooker.VideoLlavaForConditionalGeneration.from_pretrained(folder, strict=True, vision_config=SIZES)
    assert loaded.config.video_time_frames == 8 and loaded.config.vision_config.hidden_act == "gelu"
    assert loaded.config.text_config.vocab_size == 512  # rows for the placeholders
    torch.testing.assert_close(says(loaded, **clip_and_prompt()), says(model, **clip_and_prompt()))
    auto = onlooker.AutoModelForImageTextToText.from_pretrained(folder, vision_config=SIZES)
    assert type(auto) is onlooker.VideoLlavaForConditionalGeneration
    with pytest.raises(ValueError, match="exactly 8. Give num_frames=8"):
        says(loaded, **clip_and_prompt(4))


def test_the_original_loads_without_a_head_and_not_from_disk(original: tuple[Any, Path]) -> None:
    model, folder = original
    bare = onlooker.VideoLlavaModel.from_pretrained(folder, strict=True, vision_config=SIZES)
    assert bare.get_input_embeddings().num_embeddings == 512
    clip = clip_and_prompt()["pixel_values_videos"]
    torch.testing.assert_close(bare.get_video_features(clip)[0], model.get_video_features(clip)[0])
    with pytest.raises(ValueError, match="lacks the rows of the placeholders and was left on disk"):
        onlooker.VideoLlavaForConditionalGeneration.from_pretrained(
            folder, vision_config=SIZES, device_map={"model": "cpu", "lm_head": "disk"}
        )


def test_without_time_the_original_says_what_it_leaves_out(original: tuple[Any, Path]) -> None:
    with pytest.warns(UserWarning, match=r"holds 33 tensors that .* does not use: .*temporal_"):
        onlooker.VideoLlavaForConditionalGeneration.from_pretrained(
            original[1], vision_config=SIZES, video_time_frames=None
        )


def test_the_processor_of_the_original_is_the_papers(original: tuple[Any, Path]) -> None:
    processor = onlooker.AutoProcessor.from_pretrained(original[1])
    assert processor.video_processor.preprocessing == processor.image_processor.preprocessing == "paper"
    assert (processor.image_token_id, processor.video_token_id, processor.tokenizer.pad_token_id) == (450, 451, 452)
    assert processor.tokenizer.padding_side == "left"


def time_by_hand(tensors: dict[str, np.ndarray], clip: np.ndarray) -> np.ndarray:
    """The video tower up to the input of its last layer, from the equations: [F, 3, h, w] -> [F, 1 + P, D]."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(var + 1e-5) * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def attention(x: np.ndarray, name: str) -> np.ndarray:  # [..., S, D]; one head, as wide as the tower
        q, k, v = (linear(x, f"{name}.{each}_proj") for each in "qkv")
        scores = (q / np.sqrt(q.shape[-1])) @ k.swapaxes(-1, -2)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return linear(weights / weights.sum(-1, keepdims=True) @ v, f"{name}.out_proj")

    def gelu(x: np.ndarray) -> np.ndarray:
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    frames, _, height, _ = clip.shape
    grid = height // 7
    patches = clip.reshape(frames, 3, grid, 7, grid, 7).transpose(0, 2, 4, 1, 3, 5).reshape(frames, grid * grid, -1)
    x = patches @ tensors["embeddings.patch_embedding.weight"].reshape(64, -1).T
    first = np.broadcast_to(tensors["embeddings.class_embedding"], (frames, 1, 64))
    x = np.concatenate([first, x], 1) + tensors["embeddings.position_embedding.weight"]
    x = norm(x, "pre_layrnorm")
    for number in range(2):
        layer = f"encoder.layers.{number}"
        z = x.swapaxes(0, 1) + tensors[f"{layer}.temporal_embedding"]  # [1 + P, F, D]
        z = z + attention(norm(z, f"{layer}.temporal_layer_norm1"), f"{layer}.temporal_attn")
        x = z.swapaxes(0, 1)
        x = x + attention(norm(x, f"{layer}.layer_norm1"), f"{layer}.self_attn")
        x = x + linear(gelu(linear(norm(x, f"{layer}.layer_norm2"), f"{layer}.mlp.fc1")), f"{layer}.mlp.fc2")
    return x


def test_attention_over_time_follows_the_equations(original: tuple[Any, Path]) -> None:
    folder = original[1]
    stem, tensors = "model.video_tower.video_tower.", {}
    for file in folder.glob("*.bin"):
        loaded = torch.load(file, weights_only=True)
        tensors |= {n.removeprefix(stem): t.double().numpy() for n, t in loaded.items() if n.startswith(stem)}
    model = onlooker.VideoLlavaForConditionalGeneration.from_pretrained(folder, vision_config=SIZES)
    clips = torch.randn(2, 8, 3, 14, 14, generator=torch.Generator().manual_seed(2))
    (states,) = model.video_tower.states(clips.flatten(0, 1), [-2])
    wanted = np.concatenate([time_by_hand(tensors, clip.double().numpy()) for clip in clips])
    torch.testing.assert_close(states.detach().double(), torch.from_numpy(wanted), atol=1e-4, rtol=1e-4)


def test_the_paper_form_keeps_its_answers_and_the_paper_s_preprocessing(
    original: tuple[Any, Path], tmp_path: Path
) -> None:
    model, folder = original
    made = convert(folder, tmp_path / "new")
    loaded = onlooker.VideoLlavaForConditionalGeneration.from_pretrained(tmp_path / "new", strict=True)
    assert torch.equal(says(loaded, **clip_and_prompt()), says(model, **clip_and_prompt()))
    assert (made.placeholders, made.token_rows) == ({"image_token_index": 450, "video_token_index": 451}, 512)
    assert loaded.config.pad_token_id == 452 and loaded.config.video_time_frames == 8
    assert made.dropped == ["model.layers.0.self_attn.rotary_emb.inv_freq"]
    processor = onlooker.AutoProcessor.from_pretrained(tmp_path / "new")
    assert type(processor) is onlooker.VideoLlavaProcessor
    assert processor.video_processor.preprocessing == processor.image_processor.preprocessing == "paper"
    assert "A chat between a curious human" in (tmp_path / "new" / "chat_template.jinja").read_text()
    clip = np.random.default_rng(0).integers(0, 256, (8, 20, 30, 3), dtype=np.uint8)
    batch = processor(text="USER: <video>\nwhat? ASSISTANT:", videos=clip)
    assert (batch["input_ids"] == 451).sum() == 8 * 5
    assert says(loaded, **batch).shape[-1] == 450
    # Pictures see no time: there the reference gives the same numbers.
    theirs = transformers.VideoLlavaForConditionalGeneration.from_pretrained(tmp_path / "new").eval()
    picture = {"input_ids": torch.tensor([[1, *[450] * 4, 30]]), "pixel_values_images": pixels(1, 3, 14, 14)}
    torch.testing.assert_close(says(theirs, **picture), says(loaded, **picture), atol=1e-4, rtol=1e-4)


def test_the_hf_form_is_what_the_reference_makes_of_it(original: tuple[Any, Path], tmp_path: Path) -> None:
    model, folder = original
    made = convert(folder, tmp_path / "new", form="hf")
    assert len([name for name in made.dropped if ".temporal_" in name]) == 33
    theirs, info = transformers.VideoLlavaForConditionalGeneration.from_pretrained(
        tmp_path / "new", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert theirs.config.vision_config.hidden_act == "quick_gelu"
    ours = onlooker.VideoLlavaForConditionalGeneration.from_pretrained(tmp_path / "new", strict=True)
    assert ours.config.video_time_frames is None
    scores = says(ours, **clip_and_prompt())
    torch.testing.assert_close(says(theirs.eval(), **clip_and_prompt()), scores, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(scores, says(model, **clip_and_prompt()), atol=1e-2)
    assert onlooker.AutoProcessor.from_pretrained(tmp_path / "new").video_processor.preprocessing == "hf"


def test_towers_may_come_from_their_own_repositories(original: tuple[Any, Path], tmp_path: Path) -> None:
    model, folder = original
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    towers: dict[str, dict[str, torch.Tensor]] = {"image": {}, "video": {}}
    for file in bare.glob("*.bin"):
        tensors = torch.load(file, weights_only=True)
        for which, tower in towers.items():
            stem = f"model.{which}_tower.{which}_tower."
            tower |= {name.replace(stem, "vision_model."): t for name, t in tensors.items() if name.startswith(stem)}
        torch.save({name: t for name, t in tensors.items() if "_tower." not in name}, file)
    with pytest.raises(CheckpointError, match="has no image tower.*LanguageBind_Image.*--image-tower DIR"):
        convert(bare, tmp_path / "new")
    options = {}
    for which, tower in towers.items():
        options[f"{which}_tower"] = tmp_path / which
        options[f"{which}_tower"].mkdir()
        torch.save({**tower, "logit_scale": torch.tensor(1.0)}, tmp_path / which / "pytorch_model.bin")
    convert(bare, tmp_path / "new", **options)
    loaded = onlooker.VideoLlavaForConditionalGeneration.from_pretrained(tmp_path / "new")
    assert torch.equal(says(loaded, **clip_and_prompt()), says(model, **clip_and_prompt()))


def test_llava_is_not_taken_for_video_llava(original: tuple[Any, Path], tmp_path: Path) -> None:
    config = json.loads((original[1] / "config.json").read_text())
    del config["mm_video_tower"]
    trained.write(tmp_path / "config.json", config)
    with pytest.raises(CheckpointError, match="it is LLaVA, which sees pictures only"):
        onlooker.AutoConfig.from_pretrained(tmp_path)


# -- published folders of earlier times --------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """BLIP-2 before the placeholder: .bin shards, no num_query_tokens, no image_token_index, no <image>."""
    folder = write_checkpoint(tmp_path / "old", "opt", has_image_token=False, image_size=28, num_query_tokens=4)
    model = onlooker.Blip2ForConditionalGeneration.from_pretrained(folder)
    model.resize_token_embeddings(len(model.get_input_embeddings().weight) - 1)
    model.save_pretrained(folder, safe_serialization=False, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    _without_placeholder(folder)
    (folder / "LICENSE.txt").write_text("as it was")
    return folder


def _without_placeholder(folder: Path) -> None:
    file = folder / "tokenizer.json"
    values = json.loads(file.read_text())
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] != "<image>"]
    file.write_text(json.dumps(values))
    file = folder / "tokenizer_config.json"
    values = json.loads(file.read_text())
    decoder = values.get("added_tokens_decoder", {})
    values["added_tokens_decoder"] = {n: token for n, token in decoder.items() if token["content"] != "<image>"}
    file.write_text(json.dumps(values))


def test_an_old_bin_folder_becomes_a_current_one_with_the_same_answers(old: Path, tmp_path: Path) -> None:
    seen: set[str] = set()
    made = convert(old, tmp_path / "new", max_shard_size="20KB", progress=lambda stage, done, total: seen.add(stage))
    assert seen == {"reading", "writing", "checking"}
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    texts = []
    for folder in (old, tmp_path / "new"):
        model = onlooker.Blip2ForConditionalGeneration.from_pretrained(folder)
        processor = onlooker.Blip2Processor.from_pretrained(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if folder == old else "error")  # an old folder speaks of its age
            inputs = processor(images=picture, text="Question: What is in the picture? Answer:", return_tensors="pt")
            ids = model.generate(**inputs, max_new_tokens=6, do_sample=False)
        texts.append(processor.batch_decode(ids, skip_special_tokens=True)[0].split("Answer:")[-1])
    assert texts[0] == texts[1]
    config = onlooker.Blip2Config.from_pretrained(tmp_path / "new")
    assert processor.num_query_tokens == config.num_query_tokens == 4
    assert config.image_token_index == processor.image_token_id < made.token_rows == config.text_config.vocab_size
    assert not list((tmp_path / "new").glob("*.bin*")) and len(list((tmp_path / "new").glob("*.safetensors"))) > 1
    assert (tmp_path / "new" / "LICENSE.txt").read_text() == "as it was"
    theirs = transformers.Blip2ForConditionalGeneration.from_pretrained(tmp_path / "new").eval()
    with torch.no_grad():
        given, wanted = model(**inputs).logits, theirs(**inputs).logits
    torch.testing.assert_close(given, wanted, atol=1e-4, rtol=1e-4)


def test_a_current_folder_keeps_its_rows_and_can_change_its_dtype(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "current", "opt", image_size=28, num_query_tokens=4)
    rows = onlooker.Blip2Config.from_pretrained(folder).text_config.vocab_size
    made = convert(folder, tmp_path / "half", dtype="bf16")
    assert made.token_rows == rows
    model = onlooker.Blip2ForConditionalGeneration.from_pretrained(tmp_path / "half", dtype="auto")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    wanted = onlooker.Blip2ForConditionalGeneration.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, wanted[name].bfloat16()) for name, tensor in model.state_dict().items())


def test_a_retrieval_folder_gets_no_placeholder(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "matching", "matching", image_size=28, num_query_tokens=4)
    made = convert(folder, tmp_path / "new")
    assert made.model_class == "Blip2ForImageTextRetrieval"
    assert made.placeholders == {"image_token_index": None}
    onlooker.AutoProcessor.from_pretrained(tmp_path / "new")


@pytest.mark.parametrize("video", [False, True])
def test_an_instructblip_folder_without_ids_gets_them(video: bool, tmp_path: Path) -> None:
    theirs = standins.reference_of("blip2_vicuna_instruct")
    files = standins.write_lavis(tmp_path, theirs, "blip2_vicuna_instruct")
    folder = tmp_path / "folder"
    convert(files.pop("source"), folder, **files)
    values = json.loads((folder / "config.json").read_text())
    token = values.pop("image_token_index")
    if video:
        values["model_type"] = "instructblipvideo"
    trained.write(folder / "config.json", values)
    (folder / "processor_config.json").unlink()
    made = convert(folder, tmp_path / "again")
    assert made.placeholders == {"video_token_index" if video else "image_token_index": token}
    assert onlooker.AutoProcessor.from_pretrained(tmp_path / "again").num_query_tokens == 3


def test_a_video_llava_folder_gets_its_processor_attributes(original: tuple[Any, Path], tmp_path: Path) -> None:
    convert(original[1], tmp_path / "hf", form="hf")
    (tmp_path / "hf" / "processor_config.json").unlink()
    convert(tmp_path / "hf", tmp_path / "new")
    processor = onlooker.AutoProcessor.from_pretrained(tmp_path / "new")
    assert (processor.patch_size, processor.vision_feature_select_strategy) == (7, "default")
    values = json.loads((tmp_path / "new" / "processor_config.json").read_text())
    assert values["num_additional_image_tokens"] == 1


def test_files_of_two_checkpoints_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mixed", "opt", image_size=28, num_query_tokens=4)
    values = json.loads((folder / "config.json").read_text())
    trained.write(folder / "config.json", values | {"image_token_index": 3})
    with pytest.raises(CheckpointError, match="says image_token_index 3, but the tokenizer has <image> at"):
        convert(folder, tmp_path / "new")


# -- the target --------------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_unless_that_was_said(old: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    out.mkdir()
    (out / "model-00001-of-00009.safetensors").write_text("of another time")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty.*--force"):
        convert(old, out)
    with pytest.raises(ValueError, match="is the source, or holds it"):
        convert(old, old, force=True)
    with pytest.raises(ValueError, match="is the source, or holds it"):
        convert(old, tmp_path, force=True)
    with pytest.raises(NotADirectoryError, match="is a file"):
        convert(old, out / "notes.txt")
    convert(old, out, force=True)
    assert (out / "notes.txt").read_text() == "mine" and not (out / "model-00001-of-00009.safetensors").exists()
    onlooker.Blip2ForConditionalGeneration.from_pretrained(out, strict=True)


def test_a_failure_leaves_no_folder_behind(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onlooker.convert import writing

    before = sorted(tmp_path.iterdir())
    (shard, *_) = sorted(old.glob("*.bin"))
    kept = shard.read_bytes()
    shard.write_bytes(kept[:-40])
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        convert(old, tmp_path / "new")
    shard.write_bytes(kept)

    def spoil(model: Any, draft: Any, folder: Path, *rest: Any) -> int:
        size = written(model, draft, folder, *rest)
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        save_file({name: tensor + 1 for name, tensor in tensors.items()}, folder / "model.safetensors")
        return size

    written = writing.write
    monkeypatch.setattr("onlooker.convert.write", spoil)
    with pytest.raises(CheckpointError, match="tensors came back from .* other than they were written"):
        convert(old, tmp_path / "new")
    assert sorted(tmp_path.iterdir()) == before


def test_wrong_arguments_are_told_before_anything_is_read(old: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_shard_size 'much' is no size"):
        convert(old, tmp_path / "new", max_shard_size="much")
    with pytest.raises(ValueError, match="dtype 'int9' is not known"):
        convert(old, tmp_path / "new", dtype="int9")
    with pytest.raises(TypeError, match="no option 'shards'"):
        convert(old, tmp_path / "new", shards=2)
    with pytest.raises(ValueError, match="in the published layout takes no vit, form: leave them out"):
        convert(old, tmp_path / "new", vit="x", form="hf")
    with pytest.raises(onlooker.errors.ModelNotFoundError):
        convert(tmp_path / "nowhere" / "at" / "all", tmp_path / "new")


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_folder_and_keeps_notes_on_stderr(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(old), str(tmp_path / "new"), "--shard", "20KB", "--dtype", "fp32"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'new'}\n"
    assert "reading" in err and "checking" in err and "read back and equal" in err
    assert main(["convert", str(old), str(tmp_path / "new")]) == 1
    assert "--force" in capsys.readouterr().err
    assert main(["convert", str(old), str(tmp_path / "new"), "--force", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and json.loads(out)["class"] == "Blip2ForConditionalGeneration"


def test_the_command_takes_the_parts_of_a_lavis_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = standins.reference_of("blip2_vicuna_instruct")
    files = standins.write_lavis(tmp_path, theirs, "blip2_vicuna_instruct", tower="beside")
    options = [f"--{name.replace('_', '-')}={path}" for name, path in files.items() if name != "source"]
    assert main(["convert", str(files["source"]), str(tmp_path / "new"), *options]) == 0
    assert "tensors have no place in the model" in capsys.readouterr().err
    assert main(["convert", str(files["source"]), str(tmp_path / "other"), *options[:1]]) == 1
    assert "error: " in capsys.readouterr().err
