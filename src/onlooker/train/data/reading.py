"""`read_records`: finds out which format a file or folder is in, and reads it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from onlooker.train.data.archives import read_folder, read_tar
from onlooker.train.data.formats import load_json, read_coco, read_jsonl, read_llava, read_vqa
from onlooker.train.data.record import Records

_READERS: dict[str, Callable[[Path, Records, Path], None]] = {
    "llava": read_llava,
    "coco": read_coco,
    "vqa": read_vqa,
    "jsonl": read_jsonl,
    "webdataset": read_tar,
    "folder": read_folder,
}
FORMATS = tuple(_READERS)


def read_records(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    media: str | os.PathLike[str] | None = None,
    annotations: str | os.PathLike[str] | None = None,
    on_bad: Callable[[Records], None] | None = None,
) -> Records:
    """Read a data set.  Rows that cannot be used are skipped, and reported once the rest has been read.

    Args:
        path: a .json, .jsonl or .tar file, or a folder of media with .txt sidecars, or of tars.
        format: one of FORMATS; found out when not given.
        media: folder that names of media start from; the file's own when not given.
        annotations: VQAv2's second file, where its name does not follow from the first one's.
        on_bad: called with the records when rows were skipped; without it one warning says which and why.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: an unknown format, or a file of which nothing can be read.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    name = format or find_format(path)
    if name not in _READERS:
        raise ValueError(f"format {name!r} is unknown; there are {', '.join(FORMATS)}")
    reader = _READERS[name]
    if annotations is not None:
        if name != "vqa":
            raise ValueError(f"annotations= belongs to the format vqa, and {path.name} is {name}")
        reader = partial(read_vqa, annotations=Path(annotations))
    records = Records(path.name)
    root = Path(media) if media is not None else path if path.is_dir() else path.parent
    files = sorted(path.glob("*.tar")) if name == "webdataset" and path.is_dir() else [path]
    for file in files:
        reader(file, records, root)
    if records.bad:
        if on_bad is None:
            warnings.warn(records.report(), stacklevel=2)
        else:
            on_bad(records)
    return records


def find_format(path: Path) -> str:
    """The format of a file or folder, by its name and, for .json, by what it holds.

    Raises:
        ValueError: it is none that is known.
    """
    if path.is_dir():
        return "webdataset" if any(path.glob("*.tar")) else "folder"
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    if suffix == ".tar":
        return "webdataset"
    if suffix == ".json":
        document = load_json(path)
        if isinstance(document, list):
            return "llava"
        if isinstance(document, Mapping) and "questions" in document:
            return "vqa"
        if isinstance(document, Mapping) and "annotations" in document and "images" in document:
            return "coco"
        raise ValueError(
            f"{path} is neither a list of conversations, COCO captions (images, annotations) nor VQAv2 questions"
        )
    raise ValueError(f"{path}: wanted .json, .jsonl, .tar or a folder; or name the format: {', '.join(FORMATS)}")
