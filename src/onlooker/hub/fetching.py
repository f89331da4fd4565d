"""Downloads all that loading a model needs; afterwards its name needs no network."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from onlooker.errors import ModelNotFoundError
from onlooker.hub.cache import Cache, repo_id
from onlooker.hub.finding import local_folder
from onlooker.hub.remote import Unreachable, ask, broke_off, broken

_SAFETENSORS = re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")
_PICKLES = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin(\.index\.json)?")
# Everything else that a processor or a model reads is small text.  Only `qformer_tokenizer` is a folder of its own.
_SMALL_FILES = re.compile(r"(qformer_tokenizer/)?[^/]+\.(json|txt|model|jinja)|LICENSE[^/]*", re.IGNORECASE)


@dataclass(frozen=True)
class FetchPlan:
    """What `fetch` would download: shown to the user before it starts."""

    name: str
    revision: str  # as asked for
    commit: str  # what it stands for now
    cache_dir: Path
    files: tuple[tuple[str, int], ...]  # (name, bytes) of every file needed, cached ones included
    missing: tuple[str, ...]  # the names that are not in the cache yet
    listing: tuple[str, ...]  # all files of the model at this commit

    @property
    def total_bytes(self) -> int:
        return sum(size for _, size in self.files)

    @property
    def download_bytes(self) -> int:
        return sum(size for filename, size in self.files if filename in self.missing)

    @property
    def free_bytes(self) -> int:
        """Free space on the disk of the cache."""
        folder = self.cache_dir
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free


def needed_files(filenames: Iterable[str]) -> list[str]:
    """Choose what loading needs: small text files and one set of weights, safetensors before .bin."""
    names = sorted(filenames)
    weights = [name for name in names if _SAFETENSORS.fullmatch(name)]
    weights = weights or [name for name in names if _PICKLES.fullmatch(name)]
    small = [name for name in names if _SMALL_FILES.fullmatch(name) and not name.endswith(".index.json")]
    return small + weights


def plan_fetch(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
) -> FetchPlan:
    """Ask the hub what a model consists of, without downloading it.

    Raises:
        ModelNotFoundError: the hub has no such model or revision, or cannot be reached.
        ValueError: a folder, or a checkpoint that comes with the package.
    """
    here = local_folder(name)
    if here is not None:
        raise ValueError(f"{name} is here already, in {here}: there is nothing to download")
    cache = Cache(repo_id(name), cache_dir, revision or "main")
    try:
        commit, sizes = ask(cache, token)
    except Unreachable as error:
        why = str(error).rstrip(". ")
        raise ModelNotFoundError(f"The hub could not be asked for {name!r}: {why}. Check the connection.") from error
    files = tuple((filename, sizes[filename]) for filename in needed_files(sizes))
    at_commit = Cache(name, cache_dir, commit)
    missing = tuple(filename for filename, _ in files if at_commit.find(filename) is None)
    return FetchPlan(name, cache.revision, commit, cache.root, files, missing, tuple(sizes))


def fetch(
    name: str | FetchPlan,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Download what a model needs into the hub's cache; go on where an earlier attempt stopped.

    Args:
        name: a hub id, or the plan that `plan_fetch` gave for it.
        progress: called with (bytes done, bytes in total) after each file.

    Returns:
        The folder of the snapshot.  Loading the model by name from now on uses it and no network.  A folder, or a
        checkpoint that comes with the package, is here already and is left where it is.

    Raises:
        ModelNotFoundError: the hub has no such model, or cannot be reached.
        OSError: not enough free disk space.
    """
    here = None if isinstance(name, FetchPlan) else local_folder(name)
    if here is not None:
        return here
    from huggingface_hub import hf_hub_download

    plan = (
        name if isinstance(name, FetchPlan) else plan_fetch(name, revision=revision, cache_dir=cache_dir, token=token)
    )
    if plan.download_bytes > plan.free_bytes:
        raise OSError(
            f"{plan.name} needs {plan.download_bytes / 1e9:.1f} GB, but {plan.cache_dir} has "
            f"{plan.free_bytes / 1e9:.1f} GB free. Make room, or pass another cache_dir."
        )
    done = plan.total_bytes - plan.download_bytes
    for filename, size in plan.files:
        if filename not in plan.missing:
            continue
        try:
            hf_hub_download(plan.name, filename, revision=plan.commit, cache_dir=plan.cache_dir, token=token)
        except broken() as error:
            raise ModelNotFoundError(broke_off(filename, plan.name, error)) from error
        done += size
        if progress is not None:
            progress(done, plan.total_bytes)
    cache = Cache(plan.name, plan.cache_dir, plan.revision)
    cache.pin(plan.commit, plan.listing)
    return plan.cache_dir / cache.folder.name / "snapshots" / plan.commit
