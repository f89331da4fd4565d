"""Finds one file of a model: in a folder, in the cache of the hub, or by downloading it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from onlooker.checkpoints import embedded_folder
from onlooker.errors import ModelNotFoundError
from onlooker.hub.cache import Cache, not_found, repo_id
from onlooker.hub.remote import Unreachable, ask, broke_off, broken

HUB_OPTIONS = ("revision", "cache_dir", "local_files_only", "token", "force_download")


def split_hub_options(kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part keyword arguments into those for `find_file` and the others, in that order."""
    hub = {name: value for name, value in kwargs.items() if name in HUB_OPTIONS}
    return hub, {name: value for name, value in kwargs.items() if name not in HUB_OPTIONS}


def find_file(
    name_or_path: str | os.PathLike[str],
    filename: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    force_download: bool = False,
) -> Path | None:
    """Give the local path of one file of a model, downloading it when the model is a hub id and it is not cached.

    Args:
        name_or_path: a folder, the name of a checkpoint that comes with the package ("onlooker/blip2-tiny"), or a hub
            id such as "Salesforce/blip2-opt-2.7b".
        filename: name inside the model, with forward slashes for sub-folders.
        revision: branch, tag or commit of a hub id; "main" when not given.
        force_download: ask the hub for the newest commit and download again.

    Returns:
        The path, or None when the model has no such file.

    Raises:
        ModelNotFoundError: there is no such folder, and no such model in the cache or on the hub.
    """
    folder = local_folder(name_or_path)
    if folder is not None:
        local = folder / filename
        return local if local.is_file() else None
    name = repo_id(name_or_path)
    cache = Cache(name, cache_dir, revision or "main")
    if not force_download:
        file = cache.find(filename)
        if file is not None or cache.knows_absence(filename):
            return file
    if local_files_only or _offline():
        if cache.has_snapshot():
            return None
        raise ModelNotFoundError(not_found(name, cache, "the network was not asked (offline)"))
    return _download(cache, filename, token=token, force_download=force_download)


def local_folder(name_or_path: str | os.PathLike[str]) -> Path | None:
    """The folder that a name stands for; None where only a cache or the hub can say.

    Raises:
        ModelNotFoundError: a name of the package's own that it does not have.
    """
    folder = Path(name_or_path).expanduser()
    if folder.is_dir() and os.fspath(name_or_path):  # Path("") would be the working directory
        return folder
    return embedded_folder(name_or_path)


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _download(cache: Cache, filename: str, *, token: str | bool | None, force_download: bool) -> Path | None:
    """Download one file of the commit that the cache holds, or of the newest when it holds none.

    The hub is first asked what the model consists of: that answer is kept, so that files which it does not have are
    never asked for again, and without a network it fails at once (downloads are tried for half a minute).
    """
    from huggingface_hub import hf_hub_download

    known = Cache(cache.name, cache.root, cache.revision if force_download else (cache.commit or cache.revision))
    try:
        commit, sizes = ask(known, token)
    except Unreachable as error:
        if cache.has_snapshot():
            return None
        raise ModelNotFoundError(not_found(cache.name, cache, f"the hub could not be reached ({error})")) from error
    except ModelNotFoundError:
        if cache.has_snapshot() and not force_download:  # taken down, or a token is missing now: what is here still is
            return None
        raise
    cache.pin(commit, sizes)
    if filename not in sizes:
        return None
    options: dict[str, Any] = {"revision": commit, "cache_dir": cache.root, "token": token}
    try:
        return Path(hf_hub_download(cache.name, filename, force_download=force_download, **options))
    except broken() as error:
        raise ModelNotFoundError(broke_off(filename, cache.name, error)) from error
