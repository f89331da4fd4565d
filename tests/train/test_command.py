"""`onlooker train`, from files to a model that answers."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import onlooker
from examples.random_checkpoint import write_checkpoint
from onlooker.cli import main
from onlooker.train.recipes import STAGES, make_recipe
from tests.pipeline.conftest import SHORT_CLIP

KINDS = {
    "blip2-stage1": "matching",
    "blip2-stage2": "t5",
    "instructblip": "instructblip-opt",
    "video-llava-stage1": "video-llava",
    "video-llava-stage2": "video-llava",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        kind: write_checkpoint(root / kind, kind, image_size=28, num_query_tokens=4) for kind in set(KINDS.values())
    }


@pytest.fixture
def data(tmp_path):
    """Captions, questions, and conversations about a picture and a clip."""
    rng = np.random.default_rng(0)
    captions, questions, talks = [], [], []
    for number, color in enumerate(("red", "green", "blue", "grey")):
        name = f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(tmp_path / name)
        captions.append({"image": name, "caption": f"a {color} cat on a chair"})
        questions.append({"image": name, "question": "Which color?", "answer": color})
        medium = {"image": name} if number else {"video": SHORT_CLIP}
        turns = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": f"a {color} cat"}]
        talks.append({"id": str(number), **medium, "conversations": turns})
    captions.append({"image": "gone.png", "caption": "no such file"})
    for name, rows in {"captions": captions, "questions": questions}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "talks.json").write_text(json.dumps(talks))
    return {
        "blip2-stage1": "captions.jsonl",
        "blip2-stage2": "captions.jsonl",
        "instructblip": "questions.jsonl",
        "video-llava-stage1": "talks.json",
        "video-llava-stage2": "talks.json",
    } | {"root": tmp_path}


@pytest.fixture
def run(capsys, data, folders):
    def give(stage, *options, kind=None):
        file, folder = data["root"] / data[stage], folders[kind or KINDS[stage]]
        arguments = ["train", stage, "--model", folder, "--data", file, "--output", data["root"] / "out"]
        code = main([*map(str, [*arguments, "--steps", 2, "--batch-size", 2, "--num-frames", 2, *options])])
        out, err = capsys.readouterr()
        return code, out, err

    return give


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_trains_from_files_and_its_model_loads(run, data, stage):
    code, out, err = run(stage, "--json")
    assert code == 0, err
    done = json.loads(out)
    assert done["finished"] and done["step"] == 2 and np.isfinite(done["loss"])
    assert "step 2: loss" in err
    if stage.startswith("blip2"):
        assert "1 of 5 rows skipped" in err and "no such file: gone.png" in err
    eyes = onlooker.Onlooker.from_pretrained(done["model"], dtype="fp32", device="cpu")
    picture = str(data["root"] / "1.png")
    if stage == "blip2-stage1":
        assert eyes.match(picture, "a cat") is not None
    else:
        assert isinstance(eyes.ask(picture, "What is it?", max_new_tokens=2).text, str)


def test_a_stopped_run_goes_on_with_resume_and_not_without(run, data):
    code, out, err = run("blip2-stage2", "--max-minutes", "0")
    assert (code, out) == (0, "") and "stopped at step 1 of 2: go on with --resume" in err
    code, _, err = run("blip2-stage2")
    assert code == 1 and "resume it (resume=True, --resume)" in err
    code, out, _ = run("blip2-stage2", "--resume")
    assert code == 0 and out.strip() == str(data["root"] / "out" / "model")


def test_the_stages_follow_one_another(run, data):
    assert run("blip2-stage1")[0] == 0
    first = data["root"] / "out" / "model"
    code, _, err = run("blip2-stage1", "--output", data["root"] / "more", "--model", first)
    assert code == 0, err
    code, _, err = run("blip2-stage2", "--output", data["root"] / "two", "--part", f"query_tokens={first}")
    assert code == 0, err
    made = make_recipe("blip2-stage1", first)
    again = make_recipe("blip2-stage1", first)
    assert torch.equal(made.stage.text_head.dense.weight, again.stage.text_head.dense.weight)


def test_adapters_are_written_merged_and_taken_by_the_pipeline(run, data, folders):
    code, _, err = run("video-llava-stage2", "--lora", "language", "--rank", "2", "--merge", "--lr", "1e-2")
    assert code == 0, err
    out = data["root"] / "out"
    assert (out / "model" / "adapter_config.json").exists() and not (out / "model" / "model.safetensors").exists()
    options = {"dtype": "fp32", "device": "cpu"}
    adapted = onlooker.Onlooker.from_pretrained(folders["video-llava"], adapter=out / "model", **options)
    merged = onlooker.Onlooker.from_pretrained(out / "merged", **options)
    for key, tensor in adapted.model.state_dict().items():
        assert torch.allclose(tensor, merged.model.state_dict()[key], atol=1e-6), key
    plain = onlooker.Onlooker.from_pretrained(folders["video-llava"], **options)
    layer = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(plain.model.state_dict()[layer], adapted.model.state_dict()[layer])
    assert isinstance(adapted.ask(str(data["root"] / "1.png"), "What?", max_new_tokens=2).text, str)


@pytest.mark.parametrize(("stage", "words"), [("blip2-stage1", "cat on a chair"), ("video-llava-stage2", "cat")])
def test_show_batch_prints_what_is_learnt_without_weights_and_trains_nothing(run, data, folders, stage, words):
    bare = data["root"] / "bare"
    shutil.copytree(folders[KINDS[stage]], bare, ignore=shutil.ignore_patterns("*.safetensors"))
    code, out, err = run(stage, "--show-batch", "--model", bare)
    assert code == 0, err
    assert words in " ".join(out.split())
    assert not (data["root"] / "out").exists()


@pytest.mark.parametrize(
    ("stage", "options", "kind", "message"),
    [
        ("blip2-stage2", [], "video-llava", "'blip2-stage2' trains blip-2; "),
        ("blip2-stage1", ["--lora", "language"], None, "adapters belong to the stages after it"),
        ("blip2-stage2", ["--4bit"], None, "give lora= (--lora)"),
        ("blip2-stage2", ["--part", "qformer"], None, "wanted PART=CHECKPOINT"),
        ("blip2-stage2", ["--merge"], None, "--merge belongs to --lora"),
        ("blip2-stage2", ["--trains", "nose"], None, "no parameter's name begins with 'nose'"),
        ("video-llava-stage1", ["--warmup", "9"], None, "warmup is 9"),
    ],
)
def test_what_cannot_be_is_one_line(run, stage, options, kind, message):
    code, out, err = run(stage, *options, kind=kind)
    assert code in (1, 2) and out == ""
    assert message in err.splitlines()[-1] and err.splitlines()[-1].startswith("error: ")


def test_an_unknown_stage_is_named_with_those_that_are(capsys, data):
    assert main(["train", "stage3", "--model", "x", "--data", "x", "--output", "x"]) == 1
    assert "there are blip2-stage1, blip2-stage2, instructblip" in capsys.readouterr().err
