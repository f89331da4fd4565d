"""`onlooker train`: the stages of the three families on data in the formats of the field."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlooker.cli.options import AsJson, Debug, Quiet
from onlooker.cli.reporting import warnings_as_notes
from onlooker.cli.show import line, note, progress, record

if TYPE_CHECKING:
    from onlooker.train.data.record import Records
    from onlooker.train.recipes import Recipe
    from onlooker.train.settings import Settings

_WHAT, _HOW, _ADAPTERS = "What is trained", "How", "Adapters"
_STAGES = "blip2-stage1, blip2-stage2, instructblip, video-llava-stage1, video-llava-stage2"


def train(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help=_STAGES + ".")],
    model: Annotated[str, typer.Option("--model", "-m", help="Folder or hub name, with its processor.")],
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            help=".json (LLaVA, COCO, VQAv2), .jsonl, .tar or a folder; repeatable: large sets are drawn by the root "
            "of their size.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of checkpoints and log; the model goes to its `model/`.")
    ],
    media: Annotated[Path | None, typer.Option("--media", help="Folder that the data's file names start from.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the output.")] = False,
    show_batch: Annotated[
        bool, typer.Option("--show-batch", help="Print the first batch, what is learnt in colour, and stop.")
    ] = False,
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            metavar="PART=CHECKPOINT",
            rich_help_panel=_WHAT,
            help="Take a part from elsewhere: qformer=stage1/model, language_model=facebook/opt-2.7b; repeatable.",
        ),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", rich_help_panel=_WHAT, help="Fresh weights of the model's shape.")
    ] = False,
    trains: Annotated[
        list[str] | None,
        typer.Option(
            "--trains",
            metavar="REGEX",
            rich_help_panel=_WHAT,
            help="Parameters that learn, by name, in place of the stage's own; repeatable.",
        ),
    ] = None,
    prefix_lm: Annotated[
        bool, typer.Option("--prefix-lm", rich_help_panel=_WHAT, help="T5: cut captions at random, learn the rest.")
    ] = False,
    lora: Annotated[
        str | None, typer.Option("--lora", metavar="WHERE", rich_help_panel=_ADAPTERS, help="language, qformer or all.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option("--rank", min=1, rich_help_panel=_ADAPTERS, help="Of the adapters.")
    ] = None,
    in_4bit: Annotated[
        bool, typer.Option("--4bit", rich_help_panel=_ADAPTERS, help="QLoRA: the frozen model in 4 bits.")
    ] = False,
    merge: Annotated[
        bool, typer.Option("--merge", rich_help_panel=_ADAPTERS, help="Also write the model with the adapters merged.")
    ] = False,
    steps: Annotated[int, typer.Option("--steps", min=1, rich_help_panel=_HOW, help="Updates in all.")] = 1000,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, rich_help_panel=_HOW, help="Rows of one process at once.")
    ] = 8,
    accumulate: Annotated[
        int, typer.Option("--accumulate", min=1, rich_help_panel=_HOW, help="Batches that make one update.")
    ] = 1,
    rate: Annotated[float, typer.Option("--lr", rich_help_panel=_HOW, help="Learning rate at its peak.")] = 1e-4,
    least_rate: Annotated[float, typer.Option("--min-lr", rich_help_panel=_HOW, help="And at the end.")] = 0.0,
    warmup: Annotated[int, typer.Option("--warmup", min=0, rich_help_panel=_HOW, help="Updates up to the peak.")] = 0,
    weight_decay: Annotated[float, typer.Option("--weight-decay", rich_help_panel=_HOW, help="Of matrices.")] = 0.05,
    precision: Annotated[
        str | None, typer.Option("--precision", rich_help_panel=_HOW, help="no, bf16 or fp16; as `accelerate config`.")
    ] = None,
    average: Annotated[
        float | None, typer.Option("--ema", rich_help_panel=_HOW, help="Decay of a moving average, such as 0.999.")
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", rich_help_panel=_HOW, help="Less memory, more time.")
    ] = False,
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=1, rich_help_panel=_HOW, help="Tokens of a row.")
    ] = None,
    num_frames: Annotated[
        int | None, typer.Option("--num-frames", min=1, rich_help_panel=_HOW, help="Of each clip.")
    ] = None,
    save_every: Annotated[
        int, typer.Option("--save-every", min=1, rich_help_panel=_HOW, help="Updates between checkpoints.")
    ] = 500,
    log_every: Annotated[
        int, typer.Option("--log-every", min=1, rich_help_panel=_HOW, help="Updates between lines of the log.")
    ] = 10,
    minutes: Annotated[
        float | None, typer.Option("--max-minutes", rich_help_panel=_HOW, help="Then stop, to be resumed.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, rich_help_panel=_HOW, help="Processes that read ahead.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", rich_help_panel=_HOW)] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train one stage. On several GPUs: `accelerate launch -m onlooker train ...`."""
    parts = dict(_pair(each) for each in part or [])
    if merge and lora is None:
        raise typer.BadParameter("--merge belongs to --lora: there are no adapters to merge.")
    with warnings_as_notes(quiet):
        from onlooker.train.data.reading import read_records
        from onlooker.train.recipes import make_recipe, read_collator, stage_class
        from onlooker.train.settings import Settings

        stage_class(stage)
        settings = Settings(
            output=output,
            steps=steps,
            batch_size=batch_size,
            accumulate=accumulate,
            learning_rate=rate,
            min_learning_rate=least_rate,
            warmup=warmup,
            weight_decay=weight_decay,
            mixed_precision=precision,
            average=average,
            gradient_checkpointing=checkpointing,
            save_every=save_every,
            log_every=log_every,
            max_minutes=minutes,
            workers=workers,
            seed=seed,
        )
        import torch

        torch.manual_seed(seed)  # fresh parts are the same for every run of this seed
        records = [read_records(path, media=media) for path in data]
        note(f"{stage} from {model} on {sum(map(len, records))} rows", quiet)
        if show_batch:
            processor, config, collate = read_collator(stage, model, max_length=max_length, num_frames=num_frames)
            _show(processor.tokenizer, config, collate, _loaded(records, collate), settings)
            return
        recipe = make_recipe(
            stage,
            model,
            from_scratch=from_scratch,
            parts=parts,
            trains=trains,
            lora=lora,
            rank=rank,
            load_in_4bit=in_4bit,
            max_length=max_length,
            num_frames=num_frames,
            **({"prefix_lm": True} if prefix_lm else {}),
        )
        rows = _loaded(records, recipe.collate)
        _run(recipe, rows, settings, resume=resume, merge=merge, as_json=as_json, quiet=quiet)


def _pair(text: str) -> tuple[str, str]:
    name, sign, source = text.partition("=")
    if not (name and sign and source):
        raise typer.BadParameter(f"--part {text!r}: wanted PART=CHECKPOINT, such as qformer=stage1/model.")
    return name, source


def _loaded(records: list[Records], collate: Any) -> Any:
    """The rows of all data sets with their media; several sets are drawn in balance."""
    from onlooker.train.data.loading import LoadedRecords
    from onlooker.train.data.mixture import Mixture

    sets = [LoadedRecords(each, getattr(collate, "num_frames", 8)) for each in records]
    return sets[0] if len(sets) == 1 else Mixture(sets)


def _show(tokenizer: Any, config: Any, collate: Any, rows: Any, settings: Settings) -> None:
    from rich.console import Console

    from onlooker.train.batches import Batches
    from onlooker.train.data.show import show_batch

    batch = next(Batches(rows, collate, batch_size=settings.batch_size, seed=settings.seed).start())
    names = ("image_token_index", "video_token_index")
    ids = [getattr(config, name) for name in names if getattr(config, name, None) is not None]
    console = Console()
    if "labels" in batch:
        console.print(show_batch(batch, tokenizer, visual_ids=ids, rows=settings.batch_size))
    else:  # the first stage learns every word of a caption
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"]):
            console.print(tokenizer.decode(ids[mask.bool()].tolist()), style="green", markup=False)


def _run(
    recipe: Recipe, rows: Any, settings: Settings, *, resume: bool, merge: bool, as_json: bool, quiet: bool
) -> None:
    from onlooker.pretrained.adapter import merge_adapter
    from onlooker.train.loop import train as run

    def on_step(step: int, terms: dict[str, float]) -> None:
        move(step, settings.steps)
        if step % settings.log_every == 0 or step == settings.steps:
            note(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in terms.items()), quiet)

    with progress("training", shown=not quiet) as move:
        done = run(recipe.stage, rows, recipe.collate, settings, resume=resume, on_step=on_step)
    written = done.model
    if written is not None:
        recipe.processor.save_pretrained(written)
        if merge:
            written = settings.output / "merged"
            merge_adapter(recipe.stage.model).save_pretrained(written)
            recipe.processor.save_pretrained(written)
    if as_json:
        folder = None if written is None else str(written)
        record({"step": done.step, "finished": done.is_finished, "model": folder, **done.terms})
    elif written is not None:
        line(str(written))
    else:
        note(f"stopped at step {done.step} of {settings.steps}: go on with --resume", quiet)
