"""`onlooker convert`: a checkpoint of another layout, or of older times, as a complete current folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onlooker.cli.options import AsJson, Debug, Quiet, Revision
from onlooker.cli.show import gigabytes, line, note, progress, record

_LAVIS, _VIDEO_LLAVA = "LAVIS files", "The original Video-LLaVA"


def convert(
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="LAVIS .pth file, or folder or hub name: original Video-LLaVA, .bin, old."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new folder.")],
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="fp32, bf16 or fp16; as stored by default, fp32 for LAVIS.")
    ] = None,
    shard: Annotated[str, typer.Option("--shard", metavar="SIZE", help="Bytes of a weight file at most.")] = "5GB",
    vit: Annotated[
        Path | None,
        typer.Option(
            "--vit", metavar="FILE", rich_help_panel=_LAVIS, help="eva_vit_g.pth, where the tower is not inside."
        ),
    ] = None,
    language_model: Annotated[
        str | None,
        typer.Option(
            "--language-model",
            metavar="NAME_OR_DIR",
            rich_help_panel=_LAVIS,
            help="The OPT, Flan-T5 or Vicuna that it was trained with.",
        ),
    ] = None,
    qformer_tokenizer: Annotated[
        str | None,
        typer.Option(
            "--qformer-tokenizer",
            metavar="NAME_OR_DIR",
            rich_help_panel=_LAVIS,
            help="bert-base-uncased, for InstructBLIP and retrieval.",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=1, rich_help_panel=_LAVIS, help="Resize the position table to these pixels."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--form",
            metavar="paper|hf",
            rich_help_panel=_VIDEO_LLAVA,
            help="paper (default) keeps attention over time; hf is what the published -hf checkpoint is.",
        ),
    ] = None,
    image_tower: Annotated[
        str | None,
        typer.Option(
            "--image-tower",
            metavar="NAME_OR_DIR",
            rich_help_panel=_VIDEO_LLAVA,
            help="LanguageBind_Image, where the towers are not inside.",
        ),
    ] = None,
    video_tower: Annotated[
        str | None,
        typer.Option(
            "--video-tower",
            metavar="NAME_OR_DIR",
            rich_help_panel=_VIDEO_LLAVA,
            help="LanguageBind_Video_merge, likewise.",
        ),
    ] = None,
    revision: Revision = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that is not empty; its weight files go.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a complete current folder from LAVIS files, the original Video-LLaVA, .bin files and older folders.

    Placeholder tokens, their rows, ids and processor attributes are added where they are missing. Every tensor is read
    back and compared before the folder gets its name.
    """
    from onlooker.convert import convert as run

    hub: dict[str, Any] = {} if revision is None else {"revision": revision}
    stages: dict[str, Any] = {}
    with progress("converting", shown=not quiet, as_bytes=True) as move:

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                note(f"{stage} {gigabytes(total)}", quiet)
            stages[stage] = done
            move(done, total)

        made = run(
            source,
            out,
            dtype=dtype,
            max_shard_size=shard,
            vit=vit,
            language_model=language_model,
            qformer_tokenizer=qformer_tokenizer,
            image_size=image_size,
            form=form,
            image_tower=image_tower,
            video_tower=video_tower,
            force=force,
            progress=tell,
            **hub,
        )
    if made.dropped:
        note(f"{len(made.dropped)} tensors have no place in the model: {_few(made.dropped)}", quiet)
    note(f"{made.kind}: {made.tensors} tensors, {gigabytes(made.bytes)}, read back and equal", quiet)
    if as_json:
        record(
            {
                "folder": str(made.folder),
                "kind": made.kind,
                "class": made.model_class,
                "tensors": made.tensors,
                "bytes": made.bytes,
                "token_rows": made.token_rows,
                **made.placeholders,
                "dropped": made.dropped,
            }
        )
    else:
        line(str(made.folder))


def _few(names: list[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
