"""The examples of the documents that define the API, run as printed.

The page with them lies beside the checkout where it is at hand; elsewhere the same calls stand in
tests/models/ and tests/pipeline/. Only the replacements that the page allows are made.
"""

import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

import onlooker
from examples.random_checkpoint import write_checkpoint

PAGE = Path(__file__).parents[2] / "shared" / "EXAMPLES.md"
PHOTO = Path(__file__).parent / "data" / "media" / "progressive_cat.jpg"
CLIP = Path(__file__).parent / "data" / "media" / "videos" / "flower_hevc.mp4"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the documents' examples are not beside this checkout")


def blocks(title: str) -> list[str]:
    """The Python blocks of a section, without prompts and indentation of the printed page."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    section = next(text for text in sections if text.startswith(title))
    return [_code(block) for block in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)]


def _code(block: str) -> str:
    if ">>>" not in block:
        return block
    # Printed answers have no prompt in front; they hold for the published weights only.
    lines = [line for line in block.splitlines() if line.startswith((">>>", "..."))]
    return "\n".join(line[3:].removeprefix(" ") if line.startswith(">>>") else line[3:] for line in lines)


def replaced(code: str, folder: Path) -> str:
    code = code.replace("from transformers import", "from onlooker import")
    for name in ("Salesforce/blip2-opt-2.7b", "LanguageBind/Video-LLaVA-7B-hf"):
        code = code.replace(f'"{name}"', repr(str(folder)))
    code = re.sub(r"hf_hub_download\(.*?\)", repr(str(CLIP)), code)
    code = code.replace("videos=clip", "videos=video").replace("max_length=50", "max_new_tokens=50")
    code = code.replace("requests.get(url, stream=True).raw", repr(str(PHOTO))).replace("import requests\n", "")
    if DEVICE == "cpu":
        code = (
            code.replace('{"": 0}', '{"": "cpu"}')
            .replace('device="cuda"', 'device="cpu"')
            .replace(".to(0)", '.to("cpu")')
        )
    return code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def video_llava(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("video-llava"), "video-llava")


def run(title: str, folder: Path, seen: set[str]) -> dict:
    """Run a section's blocks one after another in one namespace, as a reader would; what they define comes back."""
    names: dict = {}
    for code in blocks(title):
        code = replaced(code, folder)
        # The editions repeat blocks in another layout.
        if re.sub(r"\s", "", code) in seen:
            continue
        seen.add(re.sub(r"\s", "", code))
        if "flash_attention_2" in code and DEVICE == "cpu":
            with pytest.raises(ImportError, match="flash_attention_2 needs the package flash-attn"):
                exec(compile(code, title, "exec"), names)
            continue
        # Models of published sizes: built for their shapes alone, a billion values in float32 fill a laptop.
        with torch.device("meta") if "(configuration)" in code else nullcontext():
            exec(compile(code, title, "exec"), names)
    return names


@pytest.mark.filterwarnings("ignore:.*bfloat16.*:UserWarning")
def test_every_blip2_example_runs_as_printed(folder):
    seen: set[str] = set()
    names = run("BLIP-2\n", folder, seen)
    assert isinstance(names["model"], onlooker.Blip2QFormerModel)
    assert isinstance(names["config"], onlooker.Blip2Config)
    names = run("BLIP-2 (Japanese", folder, seen)
    assert len(seen) == 11
    assert names["text_features"].logits.shape[0] == 1
    assert names["image_outputs"].pooler_output is not None
    assert names["qformer_outputs"].last_hidden_state.shape[1] == 32
    assert isinstance(names["generated_text"], str)


def test_every_instructblipvideo_example_runs_as_printed(folder):
    names = run("InstructBlipVideo\n", folder, set())
    assert isinstance(names["model"], onlooker.InstructBlipVideoQFormerModel)
    assert isinstance(names["config"], onlooker.InstructBlipVideoConfig)


@pytest.mark.filterwarnings("ignore:a prompt has several pictures:UserWarning")
@pytest.mark.parametrize("title", ["Video-LLaVA\n", "Video-LLaVA (Arabic edition)\n"])
def test_every_video_llava_example_runs_as_printed(title, video_llava):
    names = run(title, video_llava, set())
    assert names["video"].shape == (8, 270, 480, 3)
    assert names["inputs"]["pixel_values_videos"].shape == (1, 8, 3, 224, 224)
    assert names["generate_ids"].shape[1] > names["inputs"]["input_ids"].shape[1]
    # As printed, max_length is shorter than the prompt.
    model = onlooker.VideoLlavaForConditionalGeneration.from_pretrained(video_llava)
    with pytest.raises(ValueError, match="max_length"):
        model.generate(**names["inputs"], max_length=50)
