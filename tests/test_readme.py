"""The README does what it says: commands and Python run, shapes are those of the models, files exist."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import onlooker
from onlooker.cli import COMMANDS, main
from tests.pipeline.conftest import embedded, folders, no_hub

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

__all__ = ["embedded", "folders", "no_hub"]  # fixtures


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """The commands of the README that need nothing but a clone."""
    lines = [line for block in blocks("console") for line in block.splitlines() if line.startswith("$ onlooker ")]
    return [shlex.split(line)[2:] for line in lines if "examples/" in line]


@pytest.mark.usefixtures("embedded", "no_hub")
@pytest.mark.parametrize("words", commands(), ids=shlex.join)
def test_the_first_commands_run_offline_from_a_clone(words, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("ONLOOKER_MODEL", raising=False)
    assert main([*words, "--device", "cpu"]) == 0
    assert capsys.readouterr().out


@pytest.mark.usefixtures("embedded", "no_hub")
def test_the_python_of_the_readme_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("\n") >= 6


@pytest.mark.parametrize("line", re.findall(r"^\| `onlooker ([^`]*)`", README, re.MULTILINE))
def test_the_commands_of_the_readme_are_understood(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "coffee.png", "photo.jpg")
    for name in ("clip.mp4", "long.mp4"):
        shutil.copy(ROOT / "examples" / "flower.mp4", name)
    words = shlex.split(line)
    assert words[0] in COMMANDS
    if words[0] not in ("fetch", "convert", "quantize", "world", "train", "bench"):
        # Understood: it gets as far as looking for the model.
        assert main([*words, "--model", "no/such/folder"]) == 1
        assert "no/such/folder" in capsys.readouterr().err


def test_the_shapes_of_the_flow_are_those_of_the_published_sizes():
    text = onlooker.OPTConfig(
        vocab_size=50304,
        hidden_size=2560,
        word_embed_proj_dim=2560,
        ffn_dim=10240,
        num_hidden_layers=32,
        num_attention_heads=32,
    )
    with torch.device("meta"), torch.no_grad():
        model = onlooker.Blip2ForConditionalGeneration(onlooker.Blip2Config(text_config=text, image_token_index=50265))
        pixel_values, ids = torch.empty(1, 3, 224, 224), torch.empty(1, 43, dtype=torch.long)
        output = model.eval()(pixel_values, ids)
        blip2 = [pixel_values, output.vision_outputs.last_hidden_state, model.get_image_features(pixel_values)]
        _say(*blip2, model.get_input_embeddings()(ids), output.logits)
        config = onlooker.VideoLlavaConfig(text_config={"model_type": "llama", "vocab_size": 32064})
        model = onlooker.VideoLlavaForConditionalGeneration(config).eval()
        pixel_values, ids = torch.empty(1, 8, 3, 224, 224), torch.empty(1, 2082, dtype=torch.long)
        frames, _ = model.get_video_features(pixel_values)  # [8, 257, 4096]
        logits = model(ids, pixel_values_videos=pixel_values).logits
        patches = frames.new_empty(len(frames), frames.shape[1], config.vision_config.hidden_size)
        _say(pixel_values, patches, frames.flatten(0, 1)[None], model.get_input_embeddings()(ids), logits)


def _say(*tensors: torch.Tensor) -> None:
    """The shapes stand in one line of the README, in this order."""
    shapes = [re.escape(str(list(tensor.shape))) for tensor in tensors]
    assert re.search(" +".join(shapes), README), shapes


def test_the_files_that_the_readme_names_are_there():
    for name in re.findall(r"`((?:docs|examples)/[^`]*)`|\((examples/[^)]*)\)", README):
        assert (ROOT / (name[0] or name[1])).is_file(), name
