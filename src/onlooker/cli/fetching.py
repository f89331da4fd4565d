"""`onlooker fetch`: the files of a model on this machine, so that everything else runs without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onlooker.cli.options import AsJson, Debug, Quiet
from onlooker.cli.show import gigabytes, line, note, progress, record


def fetch(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hub name, such as Salesforce/blip2-opt-2.7b.")],
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit; main by default.")] = None,
    cache_dir: Annotated[Path | None, typer.Option("--cache-dir", help="Where to keep it; the hub's cache.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show size and free disk, and download nothing.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Download a model once; size and free disk are shown first, and a broken download goes on where it stopped."""
    if Path(model).is_dir():
        raise typer.BadParameter(f"{model!r} is a folder on this machine already: use it as it is.")
    from onlooker.hub import fetch as download
    from onlooker.hub import local_folder, plan_fetch

    here = local_folder(model)
    if here is not None:
        note(f"{model} comes with onlooker: there is nothing to download", quiet)
        _tell(model, here, as_json, download_bytes=0)
        return

    plan = plan_fetch(model, revision=revision, cache_dir=cache_dir)
    note(
        f"{plan.name} at {plan.commit[:12]}: {len(plan.files)} files, {gigabytes(plan.total_bytes)}; "
        f"{gigabytes(plan.download_bytes)} to download, {gigabytes(plan.free_bytes)} free in {plan.cache_dir}",
        quiet,
    )
    folder = None
    if not dry_run:
        with progress(f"fetching {model}", shown=not quiet, as_bytes=True) as move:
            folder = download(plan, progress=move)
    sizes = {
        "commit": plan.commit,
        "total_bytes": plan.total_bytes,
        "download_bytes": plan.download_bytes,
        "free_bytes": plan.free_bytes,
    }
    _tell(plan.name, folder, as_json, **sizes)


def _tell(name: str, folder: Path | None, as_json: bool, **facts: Any) -> None:
    if as_json:
        record({"model": name, **facts, "folder": None if folder is None else str(folder)})
    elif folder is not None:
        line(str(folder))
