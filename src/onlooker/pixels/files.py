"""Reads the options of an image processor from a checkpoint folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onlooker.errors import CheckpointError, ModelNotFoundError

PREPROCESSOR_FILE = "preprocessor_config.json"
VIDEO_PREPROCESSOR_FILE = "video_preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"


def read_options(
    name_or_path: str | os.PathLike[str],
    *,
    files: Sequence[str] = (PREPROCESSOR_FILE, VIDEO_PREPROCESSOR_FILE),
    sections: Sequence[str] = ("image_processor", "video_processor"),
    **hub_options: Any,
) -> dict[str, Any]:
    """Find and read the options of an image processor.

    Args:
        name_or_path: folder, hub name, or the JSON file itself.
        files: file names of their own, in the order in which they are looked for; after them processor_config.json.
        sections: keys under which a file may hold them among others; without any of these, the file is the options,
            except that processor_config.json is then about something else.

    Raises:
        ModelNotFoundError: no such model, or it has no such file.
        CheckpointError: the file is not a JSON object.
    """
    if Path(name_or_path).is_file():
        return _section(_read_json(Path(name_or_path)), sections, whole=True) or {}
    from onlooker.hub import find_file

    for filename in (*files, PROCESSOR_FILE):
        path = find_file(name_or_path, filename, **hub_options)
        if path is not None:
            options = _section(_read_json(path), sections, whole=filename != PROCESSOR_FILE)
            if options is not None:
                return options
    raise ModelNotFoundError(
        f"{name_or_path} has no options of an image processor: none of {', '.join(files)}, and no section "
        f"{' or '.join(sections)} in {PROCESSOR_FILE}"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(options, dict):
        raise CheckpointError(f"{path} holds {type(options).__name__}, not a JSON object")
    return options


def _section(options: dict[str, Any], sections: Sequence[str], *, whole: bool) -> dict[str, Any] | None:
    for section in sections:
        if isinstance(options.get(section), dict):
            return options[section]
    return options if whole else None
