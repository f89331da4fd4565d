"""The runs, in the order in which they build on each other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import onlooker
from onlooker.models.video_llava.model import CLIPVisionModel
from onlooker.train.assemble import take_part
from onlooker.train.data import Collator
from onlooker.train.pairs import PairCollator
from onlooker.train.pretraining import Blip2Pretraining
from onlooker.train.stages import Blip2Generative, InstructionTuning, VideoLlavaProjector, VideoLlavaTuning
from recipes import conversations, language, queries, tiny, towers, watching
from recipes.make import Run

_BUT_VISION = (r"(?!vision_model)",)  # the language model is as small as the Q-Former, and learns with it
_DECODER = (r"model\.language_model\.", r"lm_head\.")
_COMPARING = ("does", "exists", "relation", "color")  # what a decoder is slow to do with patches that say all
_LOOKING = ("order", "when", "count", "shape")  # what it is slow to do with those that it has to look at
_REQUEST = "A short {} description."
_ABLATION = {"steps": 700, "batch_size": 16, "learning_rate": 2e-3, "min_learning_rate": 1e-5, "warmup": 50}


def _tower(build: Path) -> Any:
    model = onlooker.Blip2VisionModel(onlooker.Blip2VisionConfig(**tiny.eva()))
    return towers.DenseLabels(model, whiten=True), towers.Frames(1_000_000), towers.collate


def _clip(build: Path) -> Any:
    model = CLIPVisionModel(onlooker.CLIPVisionConfig(**tiny.clip()))
    towers.to_clip(onlooker.Blip2VisionModel.from_pretrained(build / "tower/model"), model)
    return towers.DenseLabels(model), towers.Frames(1_000_000, first=1_000_000), towers.collate


def _llama(build: Path) -> Any:
    model = onlooker.LlamaForCausalLM(onlooker.LlamaConfig(**tiny.llama()))
    language.prepare_lookups(model)
    rows = conversations.Unseen("train", 1_000_000, still_share=0.2, first=2_000_000)
    return language.Listening(model), rows, language.Hearing(tiny.tokenizer("llama", build / "llama"))


def _llama_more(build: Path) -> Any:
    """More of what comes slowly: comparing. The words stay, so that what patches are to say is known before."""
    model = onlooker.LlamaForCausalLM.from_pretrained(build / "llama/model")
    rows = conversations.Unseen("train", 1_000_000, still_share=0.2, first=4_000_000, often=_COMPARING)
    hearing = language.Hearing(tiny.tokenizer("llama", build / "llama-more"))
    return language.Listening(model, (r"model\.layers\.", r"model\.norm\.", r"lm_head\.")), rows, hearing


def _t5(build: Path) -> Any:
    model = onlooker.T5ForConditionalGeneration(onlooker.T5Config(**tiny.t5()))
    retelling = language.Retelling(tiny.tokenizer("t5", build / "t5"))
    return language.Text(model), language.Stories(100_000), retelling


def _watching(build: Path) -> Any:
    model = onlooker.VideoLlavaForConditionalGeneration(tiny.video_llava())
    for part in ("model.image_tower", "model.video_tower"):
        take_part(model, part, build / "clip/model")
    watching.begin(model)
    watching.put_on_top(model, onlooker.LlamaForCausalLM.from_pretrained(build / "llama/model"))
    collate = watching.Collate(tiny.tokenizer("llama", build / "watching"))
    return watching.Watching(model), watching.Watched(500_000), collate


def _video_llava_projector(build: Path) -> Any:
    model = onlooker.VideoLlavaForConditionalGeneration.from_pretrained(build / "watching/model")
    watching.put_on_top(model, onlooker.LlamaForCausalLM.from_pretrained(build / "llama-more/model"))
    rows = conversations.Descriptions("train", 100_000, still_share=0.25, first=1_000_000)
    return VideoLlavaProjector(model), rows, _markers(build / "video-llava-projector")


def _video_llava(build: Path) -> Any:
    model = onlooker.VideoLlavaForConditionalGeneration.from_pretrained(build / "video-llava-projector/model")
    rows = conversations.Conversations("train", 500_000, still_share=0.25)
    # The projector stays: what InstructBLIP's queries are to say is then known before this run has ended.
    return VideoLlavaTuning(model, _DECODER), rows, _markers(build / "video-llava")


def _blip2_stage1(build: Path) -> Any:
    model = onlooker.Blip2ForImageTextRetrieval(tiny.blip2(None))
    take_part(model, "vision_model", build / "tower/model")
    processor = tiny.blip2_processor("matching", build / "blip2-stage1")
    rows = conversations.Glimpses(1_000_000, free=True)
    stage = Blip2Pretraining(model, start_token_id=tiny.SPECIAL.index("[DEC]"))
    return stage, rows, conversations.each(PairCollator(processor))


def _blip2(build: Path, qformer: str | None = "blip2-stage1", trains: tuple[str, ...] | None = _BUT_VISION) -> Any:
    model = onlooker.Blip2ForConditionalGeneration(tiny.blip2(tiny.t5()))
    take_part(model, "vision_model", build / "tower/model")
    take_part(model, "language_model", build / "t5/model")
    for part in ("qformer", "query_tokens") if qformer else ():
        take_part(model, part, build / f"{qformer}/model")
    processor = tiny.blip2_processor("t5", build / "blip2")
    rows = conversations.Glimpses(1_000_000, first=1_000_000, turns=3)
    collate = Collator(processor, encoder_decoder=True, share_media=True)
    # T5 learns too: one query speaks of a color and a shape at once, and from text it knows a word for each.
    return Blip2Generative(model, trains), rows, conversations.each(collate)


def _queries(build: Path) -> Any:
    """One query for each patch and one for the class token learns to say what Video-LLaVA's projector says of it."""
    model = onlooker.InstructBlipVideoForConditionalGeneration(tiny.instructblip())
    take_part(model, "vision_model", build / "tower/model")
    take_part(model, "qformer", build / "blip2-stage1/model")
    teacher = onlooker.VideoLlavaForConditionalGeneration.from_pretrained(build / "video-llava-projector/model")
    return queries.Imitation(model, teacher), queries.Frames(1_000_000, first=2_000_000), queries.collate


def _instructblip_talk(build: Path) -> Any:
    """Dialogues: a quarter of the price of as many single questions, but too many for the Q-Former to read."""
    model = onlooker.InstructBlipVideoForConditionalGeneration.from_pretrained(build / "queries/model")
    take_part(model, "language_model", build / "video-llava-projector/model")
    rows = conversations.Conversations("train", 500_000, still_share=1 / 6, first=600_000, request=_REQUEST)
    collate = _prefixes(build / "instructblip-talk", packed=True)
    return InstructionTuning(model, _BUT_VISION), rows, conversations.general(collate)


def _instructblip(build: Path) -> Any:
    model = onlooker.InstructBlipVideoForConditionalGeneration.from_pretrained(build / "instructblip-talk/model")
    rows = conversations.Asked("train", 500_000, still_share=1 / 6, first=800_000, request=_REQUEST, often=_LOOKING)
    collate = conversations.each(_prefixes(build / "instructblipvideo"))
    return InstructionTuning(model, _BUT_VISION), rows, collate  # the decoder has to learn another form of prompt


def _instructblip_more(build: Path) -> Any:
    model = onlooker.InstructBlipVideoForConditionalGeneration.from_pretrained(build / "instructblipvideo/model")
    rows = conversations.Asked("train", 500_000, still_share=1 / 6, first=850_000, request=_REQUEST, often=_LOOKING)
    return InstructionTuning(model, _BUT_VISION), rows, conversations.each(_prefixes(build / "instructblip-more"))


def _one_query(build: Path, *, aware: bool) -> Any:
    """Stills through a single query: too narrow for all that a question may be about."""
    model = onlooker.InstructBlipVideoForConditionalGeneration(
        tiny.instructblip(num_query_tokens=1, layers=tiny.TALKING)
    )
    take_part(model, "vision_model", build / "tower/model")
    take_part(model, "language_model", build / "llama-more/model")
    take_part(model, "qformer", build / "blip2-stage1/model")
    rows = conversations.Asked("train", 500_000, still_share=1.0, turns=5, first=900_000, request=_REQUEST)
    name = "aware" if aware else "unaware"
    collate = conversations.each(_prefixes(build / f"instructblip-{name}", num_query_tokens=1))
    return InstructionTuning(model, _BUT_VISION), rows, collate if aware else conversations.general(collate)


def _prefixes(folder: Path, num_query_tokens: int = tiny.VIDEO_QUERIES, **options: Any) -> Collator:
    processor = tiny.instructblip_processor(folder, num_query_tokens)
    return Collator(processor, encoder_decoder=False, share_media=True, num_frames=tiny.FRAMES, **options)


def _markers(folder: Path) -> Collator:
    return Collator(tiny.video_llava_processor(folder), encoder_decoder=False, num_frames=tiny.FRAMES)


RUNS = (
    Run(
        "tower",
        (),
        _tower,
        {"steps": 5000, "batch_size": 32, "learning_rate": 3e-3, "min_learning_rate": 1e-5, "warmup": 100},
    ),
    Run("clip", ("tower",), _clip, {"steps": 800, "batch_size": 32, "learning_rate": 1e-3, "warmup": 50}),
    Run(
        "llama",
        (),
        _llama,
        {"steps": 2000, "batch_size": 12, "learning_rate": 3e-3, "min_learning_rate": 1e-5, "warmup": 50},
    ),
    Run(
        "llama-more",
        ("llama",),
        _llama_more,
        {"steps": 2000, "batch_size": 12, "learning_rate": 2e-3, "min_learning_rate": 1e-5, "warmup": 50},
    ),
    Run(
        "t5",
        (),
        _t5,
        {"steps": 600, "batch_size": 16, "learning_rate": 3e-3, "min_learning_rate": 1e-4, "warmup": 50},
    ),
    Run(
        "watching",
        ("clip", "llama"),
        _watching,
        {"steps": 2000, "batch_size": 16, "learning_rate": 3e-3, "min_learning_rate": 1e-5, "warmup": 50},
    ),
    Run(
        "video-llava-projector",
        ("watching", "llama-more"),
        _video_llava_projector,
        {"steps": 300, "batch_size": 16, "learning_rate": 3e-4, "min_learning_rate": 1e-5, "warmup": 20},
    ),
    Run(
        "video-llava",
        ("video-llava-projector",),
        _video_llava,
        {"steps": 3000, "batch_size": 8, "learning_rate": 1e-3, "min_learning_rate": 1e-5, "warmup": 50},
    ),
    Run(
        "blip2-stage1",
        ("tower",),
        _blip2_stage1,
        {"steps": 2000, "batch_size": 64, "learning_rate": 2e-3, "min_learning_rate": 1e-5, "warmup": 100},
    ),
    Run(
        "blip2",
        ("blip2-stage1", "t5"),
        _blip2,
        {"steps": 2500, "batch_size": 32, "learning_rate": 2e-3, "min_learning_rate": 1e-5, "warmup": 50},
    ),
    Run(
        "queries",
        ("blip2-stage1", "video-llava-projector"),
        _queries,
        {"steps": 1500, "batch_size": 64, "learning_rate": 2e-3, "min_learning_rate": 1e-5, "warmup": 50},
    ),
    Run(
        "instructblip-talk",
        ("queries", "video-llava-projector"),
        _instructblip_talk,
        {"steps": 2000, "batch_size": 8, "learning_rate": 1e-3, "min_learning_rate": 1e-5, "warmup": 50},
    ),
    Run(
        "instructblipvideo",
        ("instructblip-talk",),
        _instructblip,
        {"steps": 300, "batch_size": 6, "learning_rate": 7e-4, "min_learning_rate": 1e-5, "warmup": 25},
    ),
    Run(
        "instructblip-more",
        ("instructblipvideo",),
        _instructblip_more,
        {"steps": 250, "batch_size": 6, "learning_rate": 5e-4, "min_learning_rate": 1e-5, "warmup": 10},
    ),
    # What the stages are worth: the same again without one thing. They do not go into the package.
    Run("blip2-frozen", ("blip2-stage1", "t5"), partial(_blip2, trains=None), _ABLATION),
    Run("blip2-frozen-without-stage1", ("tower", "t5"), partial(_blip2, qformer=None, trains=None), _ABLATION),
    Run("instructblip-aware", ("blip2-stage1", "llama-more"), partial(_one_query, aware=True), _ABLATION),
    Run("instructblip-unaware", ("blip2-stage1", "llama-more"), partial(_one_query, aware=False), _ABLATION),
)
