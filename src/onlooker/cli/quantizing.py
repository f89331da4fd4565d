"""`onlooker quantize`: a checkpoint with weights of 8 or 4 bits, in a smaller folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onlooker.cli.options import AsJson, Debug, Quiet, Revision
from onlooker.cli.show import gigabytes, line, note, progress, record


def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder or hub name.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new folder.")],
    int8: Annotated[bool, typer.Option("--int8", help="The language model in 8 bits.")] = False,
    int4: Annotated[bool, typer.Option("--int4", help="The language model in 4 bits.")] = False,
    vision: Annotated[bool, typer.Option("--vision", help="The vision transformer in 8 bits, too.")] = False,
    qformer: Annotated[bool, typer.Option("--qformer", help="The Q-Former in 8 bits, too.")] = False,
    shard: Annotated[str, typer.Option("--shard", metavar="SIZE", help="Bytes of a weight file at most.")] = "5GB",
    revision: Revision = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that is not empty; its weight files go.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a folder with fewer bits, which every command loads like the original: smaller, and faster on a CPU.

    Heads, embeddings and what is not named keep their precision. Every tensor is read back and compared before the
    folder gets its name.
    """
    if int8 and int4:
        raise typer.BadParameter("--int8 and --int4 exclude each other.")
    parts = {
        "language": "int8" if int8 else "int4" if int4 else None,
        "vision": "int8" if vision else None,
        "qformer": "int8" if qformer else None,
    }
    if not any(parts.values()):
        raise typer.BadParameter("Say what to quantise: --int8 or --int4, or --vision or --qformer alone.")
    from onlooker.convert.quantizing import quantize as run

    hub: dict[str, Any] = {} if revision is None else {"revision": revision}
    with progress("quantising", shown=not quiet, as_bytes=True) as move:
        made = run(
            model,
            out,
            parts,
            max_shard_size=shard,
            force=force,
            progress=lambda stage, done, total: move(done, total),
            **hub,
        )
    note(
        f"{made.linears} linears: {gigabytes(made.bytes_before)} became {gigabytes(made.bytes)}; "
        f"{made.tensors} tensors, read back and equal",
        quiet,
    )
    if as_json:
        record(
            {
                "folder": str(made.folder),
                "linears": made.linears,
                "bytes": made.bytes,
                "bytes_before": made.bytes_before,
            }
        )
    else:
        line(str(made.folder))
