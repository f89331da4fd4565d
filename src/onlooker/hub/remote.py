"""Asks the hub what a model consists of, and says in a line why it did not answer."""

from __future__ import annotations

from onlooker.errors import ModelNotFoundError
from onlooker.hub.cache import Cache, not_found


def _reason(error: BaseException) -> str:
    """The innermost cause of a failed connection, on one short line: the chain around it repeats it several times."""
    while True:
        inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
        if not isinstance(inner, BaseException):
            break
        error = inner
    words = " ".join(str(error).split()).rpartition(": ")[2]
    return words if len(words) <= 100 else type(error).__name__


class Unreachable(Exception):
    """The hub did not answer."""


def ask(cache: Cache, token: str | bool | None) -> tuple[str, dict[str, int]]:
    """The commit that a revision stands for now, and the size of each of its files."""
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub_errors

    unreachable: tuple[type[Exception], ...] = (hub_errors.OfflineModeIsEnabled, *broken())
    try:
        info = HfApi(token=token).model_info(cache.name, revision=cache.revision, files_metadata=True, timeout=10)
    except (hub_errors.RepositoryNotFoundError, hub_errors.RevisionNotFoundError) as error:
        raise ModelNotFoundError(_refused(cache, error)) from error
    except unreachable as error:
        raise Unreachable(_reason(error)) from error
    return str(info.sha), {item.rfilename: item.size or 0 for item in info.siblings or ()}


def broken() -> tuple[type[Exception], ...]:
    """What a connection that fails raises: OSErrors, and those of the hub's HTTP library, which differs by version.

    The hub's own error is one of them, so its bases say which (requests before 1.0, httpx, and httpx2 by now).
    """
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


def broke_off(filename: str, name: str, error: Exception) -> str:
    return f"Downloading {filename} of {name} broke off: {error}. Run it again: it goes on from there."


def _refused(cache: Cache, error: Exception) -> str:
    from huggingface_hub import errors as hub_errors

    if isinstance(error, hub_errors.GatedRepoError):
        return (
            f"Model {cache.name!r} is gated: accept its terms on the hub, then pass token=... or run "
            "`huggingface-cli login`."
        )
    if isinstance(error, hub_errors.RevisionNotFoundError):
        return f"Model {cache.name!r} has no revision {cache.revision!r}. Leave revision out to get 'main'."
    return not_found(cache.name, cache, "the hub has none either, or it needs a token (token=...)")
