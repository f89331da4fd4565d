"""Turns the name of a model (a folder or a hub id) into files on this machine.

A folder always wins over a hub id of the same spelling.  For hub ids the cache is asked first: a file that is
there is used without asking the network whether a newer one exists, and the commit that the cache holds is the one
that further files are taken from, so that a folder is never mixed from two commits.  `onlooker fetch NAME` (here:
`plan_fetch` and `fetch`) moves the cache to the newest commit; after it nothing touches the network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onlooker.errors import ModelNotFoundError

HUB_OPTIONS = ("revision", "cache_dir", "local_files_only", "token", "force_download")

_REPO_ID = re.compile(r"[A-Za-z0-9_][\w.\-]*(/[A-Za-z0-9_][\w.\-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SAFETENSORS = re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")
_PICKLES = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin(\.index\.json)?")
# Everything else that a processor or a model reads is small text.  Only `qformer_tokenizer` is a folder of its own.
_SMALL_FILES = re.compile(r"(qformer_tokenizer/)?[^/]+\.(json|txt|model|jinja)|LICENSE[^/]*", re.IGNORECASE)


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
        name_or_path: a folder, or a hub id such as "Salesforce/blip2-opt-2.7b".
        filename: name inside the model, with forward slashes for sub-folders.
        revision: branch, tag or commit of a hub id; "main" when not given.
        force_download: ask the hub for the newest commit and download again.

    Returns:
        The path, or None when the model has no such file.

    Raises:
        ModelNotFoundError: there is no such folder, and no such model in the cache or on the hub.
    """
    folder = Path(name_or_path).expanduser()
    if folder.is_dir() and os.fspath(name_or_path):  # Path("") would be the working directory
        local = folder / filename
        return local if local.is_file() else None
    name = _repo_id(name_or_path)
    cache = _Cache(name, cache_dir, revision or "main")
    if not force_download:
        file = cache.find(filename)
        if file is not None or cache.knows_absence(filename):
            return file
    if local_files_only or _offline():
        if cache.has_snapshot():
            return None
        raise ModelNotFoundError(_not_found(name, cache, "the network was not asked (offline)"))
    return _download(cache, filename, token=token, force_download=force_download)


def _repo_id(name_or_path: str | os.PathLike[str]) -> str:
    name = os.fspath(name_or_path)
    if not isinstance(name_or_path, str) or not _REPO_ID.fullmatch(name):
        raise ModelNotFoundError(
            f"There is no folder {name!r}, and it is not a hub id of the form 'owner/name'. Check the path."
        )
    return name


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _not_found(name: str, cache: _Cache, why: str) -> str:
    return (
        f"Model {name!r} (revision {cache.revision!r}) was not found: no folder of that name, nothing in the cache "
        f"{cache.root}, and {why}. Give a folder, or run `onlooker fetch {name}` once while online."
    )


class _Cache:
    """One model at one revision in the hub's cache: `models--owner--name/{refs,snapshots,.no_exist}`."""

    def __init__(self, name: str, cache_dir: str | os.PathLike[str] | None, revision: str) -> None:
        from huggingface_hub import constants

        self.name = name
        self.revision = revision
        self.root = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
        self.folder = self.root / ("models--" + name.replace("/", "--"))

    @property
    def commit(self) -> str | None:
        """The commit that the revision stood for when it was last downloaded."""
        if _COMMIT.fullmatch(self.revision):
            return self.revision
        ref = self.folder / "refs" / self.revision
        return ref.read_text(encoding="utf-8").strip() if ref.is_file() else None

    @property
    def snapshot(self) -> Path | None:
        commit = self.commit
        return self.folder / "snapshots" / commit if commit else None

    def has_snapshot(self) -> bool:
        return self.snapshot is not None and self.snapshot.is_dir()

    def find(self, filename: str) -> Path | None:
        file = self.snapshot / filename if self.snapshot is not None else None
        return file if file is not None and file.is_file() else None

    def knows_absence(self, filename: str) -> bool:
        """Whether an earlier download showed that the model does not have this file."""
        commit = self.commit
        if commit is None:
            return False
        if (self.folder / ".no_exist" / commit / filename).is_file():
            return True
        listing = self._listing(commit)
        return listing.is_file() and filename not in json.loads(listing.read_text(encoding="utf-8"))

    def pin(self, commit: str, filenames: Iterable[str]) -> None:
        """Write down what the revision stands for and all file names the model has there."""
        listing = self._listing(commit)
        listing.parent.mkdir(parents=True, exist_ok=True)
        listing.write_text(json.dumps(sorted(filenames)), encoding="utf-8")
        if not _COMMIT.fullmatch(self.revision):
            ref = self.folder / "refs" / self.revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(commit, encoding="utf-8")

    def _listing(self, commit: str) -> Path:
        return self.folder / ".onlooker" / f"{commit}.json"


def _download(cache: _Cache, filename: str, *, token: str | bool | None, force_download: bool) -> Path | None:
    """Download one file of the commit that the cache holds, or of the newest when it holds none.

    The hub is first asked what the model consists of: that answer is kept, so that files which it does not have are
    never asked for again, and without a network it fails at once (downloads are tried for half a minute).
    """
    from huggingface_hub import hf_hub_download

    known = _Cache(cache.name, cache.root, cache.revision if force_download else (cache.commit or cache.revision))
    try:
        commit, sizes = _ask(known, token)
    except _Unreachable as error:
        if cache.has_snapshot():
            return None
        raise ModelNotFoundError(_not_found(cache.name, cache, f"the hub could not be reached ({error})")) from error
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
    except _broken() as error:
        raise ModelNotFoundError(_broke_off(filename, cache.name, error)) from error


def _reason(error: BaseException) -> str:
    """The innermost cause of a failed connection, on one short line: the chain around it repeats it several times."""
    while True:
        inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
        if not isinstance(inner, BaseException):
            break
        error = inner
    words = " ".join(str(error).split()).rpartition(": ")[2]
    return words if len(words) <= 100 else type(error).__name__


class _Unreachable(Exception):
    """The hub did not answer."""


def _ask(cache: _Cache, token: str | bool | None) -> tuple[str, dict[str, int]]:
    """The commit that a revision stands for now, and the size of each of its files."""
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub_errors

    unreachable: tuple[type[Exception], ...] = (hub_errors.OfflineModeIsEnabled, *_broken())
    try:
        info = HfApi(token=token).model_info(cache.name, revision=cache.revision, files_metadata=True, timeout=10)
    except (hub_errors.RepositoryNotFoundError, hub_errors.RevisionNotFoundError) as error:
        raise ModelNotFoundError(_refused(cache, error)) from error
    except unreachable as error:
        raise _Unreachable(_reason(error)) from error
    return str(info.sha), {item.rfilename: item.size or 0 for item in info.siblings or ()}


def _broken() -> tuple[type[Exception], ...]:
    """What a connection that fails raises: OSErrors, and those of the hub's HTTP library, which differs by version.

    The hub's own error is one of them, so its bases say which (requests before 1.0, httpx, and httpx2 by now).
    """
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


def _broke_off(filename: str, name: str, error: Exception) -> str:
    return f"Downloading {filename} of {name} broke off: {error}. Run it again: it goes on from there."


def _refused(cache: _Cache, error: Exception) -> str:
    from huggingface_hub import errors as hub_errors

    if isinstance(error, hub_errors.GatedRepoError):
        return (
            f"Model {cache.name!r} is gated: accept its terms on the hub, then pass token=... or run "
            "`huggingface-cli login`."
        )
    if isinstance(error, hub_errors.RevisionNotFoundError):
        return f"Model {cache.name!r} has no revision {cache.revision!r}. Leave revision out to get 'main'."
    return _not_found(cache.name, cache, "the hub has none either, or it needs a token (token=...)")


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
    """
    cache = _Cache(_repo_id(name), cache_dir, revision or "main")
    try:
        commit, sizes = _ask(cache, token)
    except _Unreachable as error:
        why = str(error).rstrip(". ")
        raise ModelNotFoundError(f"The hub could not be asked for {name!r}: {why}. Check the connection.") from error
    files = tuple((filename, sizes[filename]) for filename in needed_files(sizes))
    at_commit = _Cache(name, cache_dir, commit)
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
        The folder of the snapshot.  Loading the model by name from now on uses it and no network.

    Raises:
        ModelNotFoundError: the hub has no such model, or cannot be reached.
        OSError: not enough free disk space.
    """
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
        except _broken() as error:
            raise ModelNotFoundError(_broke_off(filename, plan.name, error)) from error
        done += size
        if progress is not None:
            progress(done, plan.total_bytes)
    cache = _Cache(plan.name, plan.cache_dir, plan.revision)
    cache.pin(plan.commit, plan.listing)
    return plan.cache_dir / cache.folder.name / "snapshots" / plan.commit
