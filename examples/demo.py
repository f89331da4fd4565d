"""`make demo`: a photo on its way into BLIP-2, offline; real shapes, and no answer, because nothing here is trained."""

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
from onlooker.pipeline import PromptWriter
from onlooker.pipeline.prompts import QUESTION as QUESTION_PROMPT
from onlooker.pipeline.prompts import fill

PHOTO = "examples/coffee.png"
QUESTION = "What is in the cup?"


def demo() -> int:
    """Show the prompt of a photo and a question, and the shapes that it goes through."""
    ask = ["ask", PHOTO, QUESTION, "--model"]
    with tempfile.TemporaryDirectory() as folder:
        model = write_checkpoint(Path(folder) / "random-blip2")
        print(f"$ onlooker {shlex.join([*ask, 'random-blip2', '--show-prompt'])}")
        code = main([*ask, str(model), "--show-prompt"])
        prompt = PromptWriter.from_pretrained(model).show(onlooker.load_image(PHOTO), fill(QUESTION_PROMPT, QUESTION))
    print("The same photo in BLIP-2 at its published size, without weights (a pass of shapes alone):")
    for name, shape, meaning in published_shapes(prompt.num_tokens):
        print(f"  {name:16}{str(shape):20}{meaning}")
    print()
    print("No answer is shown: there is no trained checkpoint here, and random weights have none to give. With one,")
    print(f"  onlooker {shlex.join([*ask, 'Salesforce/blip2-opt-2.7b'])}")
    print("prints it. `onlooker fetch Salesforce/blip2-opt-2.7b` brings the files once; then nothing needs a network.")
    return code


def published_shapes(num_tokens: int) -> Iterator[tuple[str, list[int], str]]:
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
        input_ids = torch.empty(1, num_tokens, dtype=torch.long)
        output = model(pixel_values, input_ids)
        visual = model.get_image_features(pixel_values)
    billions = sum(parameter.numel() for parameter in model.parameters()) / 1e9
    patches, queries = output.vision_outputs.last_hidden_state, output.qformer_outputs.last_hidden_state
    yield "pixel_values", list(pixel_values.shape), "the photo, resized and normalised"
    yield "patch features", list(patches.shape), "vision tower: 16 x 16 patches and a class token"
    yield "query features", list(queries.shape), "Q-Former: 32 queries have looked at them"
    yield "visual tokens", list(visual.shape), "projected to the width of the language model"
    yield "logits", list(output.logits.shape), f"scores of each next token; {billions:.2f} billion parameters"


if __name__ == "__main__":
    sys.exit(demo())
