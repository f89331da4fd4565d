"""The few exceptions of the package, as one tree; wrong arguments raise plain ValueError or TypeError."""

from __future__ import annotations


class OnlookerError(Exception):
    """Root of everything this package raises on its own account."""


class MediaError(OnlookerError, ValueError):
    """A picture or a video that cannot be read, or that is over a limit."""


class CheckpointError(OnlookerError, ValueError):
    """A checkpoint that does not fit the class it is loaded into, or that is damaged."""


class ModelNotFoundError(OnlookerError, OSError):
    """Neither a local folder nor a checkpoint on this machine goes by the name given."""


class MissingExtraError(OnlookerError, ImportError):
    """An optional package is needed; the message says what to type."""

    def __init__(self, package: str, extra: str, reason: str = "") -> None:
        why = f" {reason}" if reason else ""
        super().__init__(f"{package} is not installed.{why} Type: pip install 'onlooker[{extra}]'")
        self.package = package
        self.extra = extra
