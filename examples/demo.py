"""`make demo`: a photo and a clip on their way into the models, offline; no answers, because nothing is trained."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

import onlooker
from examples.random_checkpoint import write_checkpoint
from onlooker.cli import main

PHOTO, QUESTION = "examples/coffee.png", "What is in the cup?"
CLIP, WHY = "examples/flower.mp4", "What is the flower doing?"

Shapes = Iterator[tuple[str, list[int], str]]


def demo() -> int:
    """Show the prompts of a photo and of a clip with a question, and the shapes that they go through."""
    with tempfile.TemporaryDirectory() as folder:
        blip2 = write_checkpoint(Path(folder) / "random-blip2")
        video_llava = write_checkpoint(Path(folder) / "random-video-llava", "video-llava")
        code = _show(["ask", PHOTO, QUESTION], blip2)
        _table("The same photo in BLIP-2", published_blip2())
        code |= _show(["ask", CLIP, WHY], video_llava)
        _table("The same clip in Video-LLaVA", published_video_llava())
    print("No answers are shown: there is no trained checkpoint here, and random weights have none to give. With one,")
    for words, model in (
        (["ask", PHOTO, QUESTION], "Salesforce/blip2-opt-2.7b"),
        (["ask", CLIP, WHY], "LanguageBind/Video-LLaVA-7B-hf"),
    ):
        print(f"  onlooker {shlex.join([*words, '--model', model])}")
    print("print them. `onlooker fetch NAME` brings the files of a checkpoint once; then nothing needs a network.")
    return code


def _show(words: list[str], model: Path) -> int:
    print(f"$ onlooker {shlex.join([*words, '--model', model.name, '--show-prompt'])}", flush=True)
    return main([*words, "--model", str(model), "--show-prompt"])


def _table(title: str, shapes: Shapes) -> None:
    print(f"{title} at its published size, without weights (a pass of shapes alone):")
    for name, shape, meaning in shapes:
        print(f"  {name:21}{str(shape):22}{meaning}")
    print()


def published_blip2(num_tokens: int = 43) -> Shapes:
    """The tensors between a photo and the next word, in the order of the flow."""
    text = onlooker.OPTConfig(
        vocab_size=50304,
        hidden_size=2560,
        word_embed_proj_dim=2560,
        ffn_dim=10240,
        num_hidden_layers=32,
        num_attention_heads=32,
    )
    config = onlooker.Blip2Config(text_config=text, image_token_index=50265)
    with torch.device("meta"), torch.no_grad():
        model = onlooker.Blip2ForConditionalGeneration(config).eval()
        pixel_values = torch.empty(1, 3, 224, 224)
        output = model(pixel_values, torch.empty(1, num_tokens, dtype=torch.long))
        visual = model.get_image_features(pixel_values)
    patches, queries = output.vision_outputs.last_hidden_state, output.qformer_outputs.last_hidden_state
    yield "pixel_values", list(pixel_values.shape), "the photo, resized and normalised"
    yield "patch features", list(patches.shape), "vision tower: 16 x 16 patches and a class token"
    yield "query features", list(queries.shape), "Q-Former: 32 queries have looked at them"
    yield "visual tokens", list(visual.shape), "projected to the width of the language model"
    yield "logits", list(output.logits.shape), f"scores of each next token; {_billions(model)} billion parameters"


def published_video_llava(num_tokens: int = 2082) -> Shapes:
    """The tensors between a clip and the next word."""
    config = onlooker.VideoLlavaConfig(text_config={"model_type": "llama", "vocab_size": 32064})
    with torch.device("meta"), torch.no_grad():
        model = onlooker.VideoLlavaForConditionalGeneration(config).eval()
        pixel_values = torch.empty(1, 8, 3, 224, 224)
        visual, _ = model.get_video_features(pixel_values)
        output = model(torch.empty(1, num_tokens, dtype=torch.long), pixel_values_videos=pixel_values)
    frames = [len(visual), visual.shape[1], config.vision_config.hidden_size]
    yield "pixel_values_videos", list(pixel_values.shape), "8 frames of the clip, resized, cropped and normalised"
    yield "patch features", frames, "video tower: of every frame 16 x 16 patches and a class token"
    yield "visual tokens", [1, len(visual) * visual.shape[1], visual.shape[2]], "projected, one frame after the other"
    yield "logits", list(output.logits.shape), f"scores of each next token; {_billions(model)} billion parameters"


def _billions(model: torch.nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in model.parameters()) / 1e9:.2f}"


if __name__ == "__main__":
    sys.exit(demo())
